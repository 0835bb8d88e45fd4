#include "cpu.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace bolt {
namespace {

struct Feature {
  std::string_view name;
  bool (*present)();
};

#if defined(__x86_64__)
constexpr std::string_view kArchitecture = "x86_64";

// __builtin_cpu_supports also asks XGETBV whether the operating system saves the registers.
#define BOLT_FEATURE(name, builtin) {name, [] { return __builtin_cpu_supports(builtin) != 0; }}
constexpr Feature kFeatures[] = {
    BOLT_FEATURE("sse4_1", "sse4.1"),
    BOLT_FEATURE("sse4_2", "sse4.2"),
    BOLT_FEATURE("avx", "avx"),
    BOLT_FEATURE("avx2", "avx2"),
    BOLT_FEATURE("fma", "fma"),
    BOLT_FEATURE("bmi1", "bmi"),
    BOLT_FEATURE("bmi2", "bmi2"),
    BOLT_FEATURE("avx512f", "avx512f"),
    BOLT_FEATURE("avx512bw", "avx512bw"),
    BOLT_FEATURE("avx512cd", "avx512cd"),
    BOLT_FEATURE("avx512dq", "avx512dq"),
    BOLT_FEATURE("avx512vl", "avx512vl"),
    BOLT_FEATURE("avx512_vnni", "avx512vnni"),
    BOLT_FEATURE("avx512_bf16", "avx512bf16"),
};
#undef BOLT_FEATURE
#elif defined(__aarch64__)
constexpr std::string_view kArchitecture = "aarch64";

template <int kWord, unsigned long kBit>
bool HardwareCapability() {
  return (getauxval(kWord) & kBit) != 0;
}

constexpr Feature kFeatures[] = {
    {"asimd", HardwareCapability<AT_HWCAP, HWCAP_ASIMD>},
    {"asimddp", HardwareCapability<AT_HWCAP, HWCAP_ASIMDDP>},
    {"sve", HardwareCapability<AT_HWCAP, HWCAP_SVE>},
    {"sve2", HardwareCapability<AT_HWCAP2, HWCAP2_SVE2>},
    {"i8mm", HardwareCapability<AT_HWCAP2, HWCAP2_I8MM>},
    {"bf16", HardwareCapability<AT_HWCAP2, HWCAP2_BF16>},
};
#else
#error "bolt knows x86_64 and aarch64"
#endif

}  // namespace

std::string_view Architecture() noexcept { return kArchitecture; }

std::optional<bool> HasFeature(std::string_view feature) noexcept {
  for (const Feature& row : kFeatures) {
    if (row.name == feature) return row.present();
  }
  return std::nullopt;
}

}  // namespace bolt
