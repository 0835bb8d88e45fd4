#include "manifest.h"

#include <algorithm>

#include "cpu.h"
#include "device.h"
#include "file.h"
#include "json.h"
#include "status.h"

namespace bolt {
namespace {

// A manifest with a thousand partitions is under a megabyte; more than this is not a manifest.
constexpr uint64_t kManifestLimitBytes = 64 << 20;

std::string ReadSha256(const json::Value& value, const std::string& where) {
  const std::string& text = value.String(where);
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdef") != std::string::npos) {
    throw Error(where + " is not a sha256 (64 lower-case hex digits)");
  }
  return text;
}

WeightsSlice ReadWeights(const json::Value& value, const std::string& where) {
  WeightsSlice weights;
  weights.path = value.At("path", where).String(where + ".path");
  weights.offset = value.At("offset", where).Size(where + ".offset");
  weights.bytes = value.At("bytes", where).Size(where + ".bytes");
  weights.sha256 = ReadSha256(value.At("sha256", where), where + ".sha256");
  return weights;
}

Variant ReadVariant(const json::Value& value, const std::string& where) {
  Variant variant;
  variant.target = value.At("target", where).String(where + ".target");
  variant.arch = value.At("arch", where).String(where + ".arch");
  for (const json::Value& feature : value.At("features", where).Items(where + ".features")) {
    variant.features.push_back(feature.String(where + ".features[]"));
  }
  if (variant.arch == kCudaArch) variant.machine = value.At("machine", where).String(where + ".machine");
  const json::Value& module = value.At("module", where);
  variant.module.path = module.At("path", where + ".module").String(where + ".module.path");
  variant.module.sha256 = ReadSha256(module.At("sha256", where + ".module"), where + ".module.sha256");
  const json::Value& weights = value.At("weights", where);
  if (!weights.is_null()) variant.weights = ReadWeights(weights, where + ".weights");
  return variant;
}

std::vector<Variant> ReadPartition(const json::Value& value, const std::string& where) {
  std::vector<Variant> variants;
  for (const json::Value& item : value.At("variants", where).Items(where + ".variants")) {
    variants.push_back(ReadVariant(item, where + ".variants[" + std::to_string(variants.size()) + "]"));
  }
  return variants;
}

Manifest Read(const std::string& path) {
  const json::Value root = json::Parse(ReadFile(path, kManifestLimitBytes));
  const int64_t schema = root.At("schema", "the manifest").Int("schema");
  if (schema != kManifestSchema) {
    throw Error("its schema is version " + std::to_string(schema) + ", this libbolt_ep.so reads version " +
                std::to_string(kManifestSchema) + "; use the libbolt_ep.so of the artifact");
  }
  Manifest manifest{path, {}};
  for (const auto& [name, value] : root.At("partitions", "the manifest").Members("partitions")) {
    manifest.partitions.emplace(name, ReadPartition(value, "partitions." + name));
  }
  return manifest;
}

// "8.0 and 8.6" of {"sm80", "sm86"}.
std::string CapabilitiesText(const std::vector<std::string>& features) {
  std::string text;
  for (size_t i = 0; i < features.size(); ++i) {
    std::string number = features[i].substr(std::min<size_t>(2, features[i].size()));
    if (!number.empty()) number.insert(number.size() - 1, ".");
    text += (i == 0 ? "" : i + 1 == features.size() ? " and " : ", ") + number;
  }
  return text;
}

std::string GpuText(const Device& gpu) {
  return "GPU " + std::to_string(gpu.ordinal()) + " (" + gpu.name() + ", compute capability " +
         std::to_string(gpu.capability() / 10) + "." + std::to_string(gpu.capability() % 10) + ")";
}

std::string GpuObstacle(const Variant& variant, const Place& place) {
  if (!variant.machine.empty() && variant.machine != Architecture()) {
    return "is for a GPU beside " + variant.machine + ", this machine is " + std::string(Architecture());
  }
  if (place.gpu == nullptr) return "needs an NVIDIA GPU: " + place.no_gpu;
  const std::string here = "sm" + std::to_string(place.gpu->capability());
  if (std::count(variant.features.begin(), variant.features.end(), here) > 0) return "";
  return "is for compute capability " + CapabilitiesText(variant.features) + ", the session is for " +
         GpuText(*place.gpu);
}

std::string CpuObstacle(const Variant& variant, const Place& place) {
  if (variant.arch != Architecture()) {
    return "is for " + variant.arch + ", this machine is " + std::string(Architecture());
  }
  for (const std::string& feature : variant.features) {
    const std::optional<bool> present = HasFeature(feature);
    if (!present) return "needs the CPU feature " + feature + ", which this libbolt_ep.so does not know";
    if (!*present) return "needs the CPU feature " + feature + ", which this machine has not";
  }
  if (place.gpu != nullptr) {
    return "is for the CPU, the session is for " + GpuText(*place.gpu) +
           "; give the session the OrtEpDevice of the CPU instead";
  }
  return "";
}

std::string Obstacles(const std::vector<Variant>& variants, const Place& place) {
  std::string text;
  for (const Variant& variant : variants) text += "; " + variant.target + " " + Obstacle(variant, place);
  return text;
}

}  // namespace

Manifest ReadManifest(const std::string& path) {
  try {
    return Read(path);
  } catch (const Error& e) {
    throw Error("manifest " + path + " can't be used: " + e.what());
  }
}

std::string Obstacle(const Variant& variant, const Place& place) {
  return variant.arch == kCudaArch ? GpuObstacle(variant, place) : CpuObstacle(variant, place);
}

const Variant& ChooseVariant(const Manifest& manifest, const std::string& partition,
                             const std::string& target, const Place& place) {
  const auto it = manifest.partitions.find(partition);
  if (it == manifest.partitions.end()) {
    throw Error("partition \"" + partition + "\" is not in " + manifest.path +
                "; model and manifest do not belong together");
  }
  for (const Variant& variant : it->second) {
    if ((target.empty() || variant.target == target) && Obstacle(variant, place).empty()) return variant;
  }
  throw Error("no variant of partition \"" + partition + "\" in " + manifest.path + " runs here" +
              (target.empty() ? "" : " for the asked target " + target) + Obstacles(it->second, place) +
              "; run `bolt optimize --target` for this machine");
}

}  // namespace bolt
