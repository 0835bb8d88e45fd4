#include "cpu.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace bolt {
namespace {

#if defined(__x86_64__)
constexpr std::string_view kArchitecture = "x86_64";

enum Register { kEax, kEbx, kEcx, kEdx };

// Register files that the operating system must save (bits of XCR0, Intel SDM vol. 1 13.3).
constexpr uint64_t kNoState = 0;
constexpr uint64_t kYmm = 0x06;
constexpr uint64_t kZmm = 0xe6;

// A feature is one bit that CPUID tells (Intel SDM vol. 2, CPUID).
struct Feature {
  std::string_view name;
  uint32_t leaf, subleaf;
  Register reg;
  int bit;
  uint64_t state;
};

constexpr Feature kFeatures[] = {
    {"sse4_1", 1, 0, kEcx, 19, kNoState},  {"sse4_2", 1, 0, kEcx, 20, kNoState},
    {"fma", 1, 0, kEcx, 12, kYmm},         {"avx", 1, 0, kEcx, 28, kYmm},
    {"avx2", 7, 0, kEbx, 5, kYmm},         {"bmi1", 7, 0, kEbx, 3, kNoState},
    {"bmi2", 7, 0, kEbx, 8, kNoState},     {"avx512f", 7, 0, kEbx, 16, kZmm},
    {"avx512dq", 7, 0, kEbx, 17, kZmm},    {"avx512cd", 7, 0, kEbx, 28, kZmm},
    {"avx512bw", 7, 0, kEbx, 30, kZmm},    {"avx512vl", 7, 0, kEbx, 31, kZmm},
    {"avx512_vnni", 7, 0, kEcx, 11, kZmm}, {"avx512_bf16", 7, 1, kEax, 5, kZmm},
};

// The registers CPUID answers with, in the order of Register; zeros for a leaf the CPU does not have.
struct Answer {
  uint32_t reg[4] = {};

  Answer(uint32_t leaf, uint32_t subleaf) noexcept {
    __get_cpuid_count(leaf, subleaf, &reg[kEax], &reg[kEbx], &reg[kEcx], &reg[kEdx]);
  }
};

// XCR0: the register files the operating system saves; 0 where it saves none by XSAVE.
uint64_t SavedState() noexcept {
  constexpr uint32_t kOsxsave = 1u << 27;
  if ((Answer(1, 0).reg[kEcx] & kOsxsave) == 0) return 0;
  uint32_t low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// Not __builtin_cpu_supports: some compilers' run-time libraries do not offer it to shared libraries.
bool Present(const Feature& feature) noexcept {
  const uint32_t value = Answer(feature.leaf, feature.subleaf).reg[feature.reg];
  return (value >> feature.bit & 1) != 0 && (SavedState() & feature.state) == feature.state;
}
#elif defined(__aarch64__)
constexpr std::string_view kArchitecture = "aarch64";

// A feature is one bit of the auxiliary vector.
struct Feature {
  std::string_view name;
  unsigned long word, bit;
};

constexpr Feature kFeatures[] = {
    {"asimd", AT_HWCAP, HWCAP_ASIMD}, {"asimddp", AT_HWCAP, HWCAP_ASIMDDP}, {"sve", AT_HWCAP, HWCAP_SVE},
    {"sve2", AT_HWCAP2, HWCAP2_SVE2}, {"i8mm", AT_HWCAP2, HWCAP2_I8MM},     {"bf16", AT_HWCAP2, HWCAP2_BF16},
};

bool Present(const Feature& feature) noexcept { return (getauxval(feature.word) & feature.bit) != 0; }
#else
#error "bolt knows x86_64 and aarch64"
#endif

}  // namespace

std::string_view Architecture() noexcept { return kArchitecture; }

std::optional<bool> HasFeature(std::string_view feature) noexcept {
  for (const Feature& row : kFeatures) {
    if (row.name == feature) return Present(row);
  }
  return std::nullopt;
}

}  // namespace bolt
