// manifest.json of an artifact (the schema is in bolt/ep/artifact.py).
#ifndef BOLT_EP_MANIFEST_H_
#define BOLT_EP_MANIFEST_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bolt {

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
  std::vector<std::string> features;  // that the CPU must have
  ModuleFile module;
  std::optional<WeightsSlice> weights;
};

struct Manifest {
  std::string path;
  std::map<std::string, std::vector<Variant>> partitions;
};

// Reads and checks the manifest at the absolute path `path`. Throws Error.
Manifest ReadManifest(const std::string& path);

// Why this machine can't run a variant; empty when it can.
std::string Obstacle(const Variant& variant);

// The first variant of `partition` that this machine can run or, with `target`, that one. Throws Error.
const Variant& ChooseVariant(const Manifest& manifest, const std::string& partition,
                             const std::string& target);

}  // namespace bolt

#endif  // BOLT_EP_MANIFEST_H_
