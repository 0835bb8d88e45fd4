// manifest.json of an artifact (the schema is in bolt/ep/artifact.py).
#ifndef BOLT_EP_MANIFEST_H_
#define BOLT_EP_MANIFEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bolt {

class Device;

// The architecture that variants for GPUs have.
inline constexpr char kCudaArch[] = "cuda";

// The manifest schema this library reads.
inline constexpr int64_t kManifestSchema = 1;

struct ModuleFile {
  std::string path;
  std::string sha256;
};

struct WeightsSlice {
  std::string path;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::string sha256;
};

// One partition compiled for one target.
struct Variant {
  std::string target;
  std::string arch;
  // CPU features that must all be there; of a GPU the compute capabilities it runs on ("sm80"), one of them.
  std::vector<std::string> features;
  std::string machine;  // architecture of the CPU beside the GPU; empty for the CPU itself
  ModuleFile module;
  std::optional<WeightsSlice> weights;
};

struct Manifest {
  std::string path;
  std::map<std::string, std::vector<Variant>> partitions;
};

// Reads and checks the manifest at the absolute path `path`. Throws Error.
Manifest ReadManifest(const std::string& path);

// Where a session runs.
struct Place {
  const Device* gpu = nullptr;  // null: the CPU
  std::string no_gpu;           // then: why it is no GPU, and what to do
};

// Why a variant can't run there; empty when it can.
std::string Obstacle(const Variant& variant, const Place& place);

// The first variant of `partition` that can run there or, with `target`, that one. Throws Error.
const Variant& ChooseVariant(const Manifest& manifest, const std::string& partition,
                             const std::string& target, const Place& place);

}  // namespace bolt

#endif  // BOLT_EP_MANIFEST_H_
