#include "compatibility.h"

#include <string>
#include <vector>

#include "bolt/module_abi.h"
#include "manifest.h"

namespace bolt {
namespace {

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t start = 0; start < text.size();) {
    const size_t end = std::min(text.find(separator, start), text.size());
    parts.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

// Whether "<target>:<arch>:<features>" runs here.
bool Runs(const std::string& text) {
  const std::vector<std::string> parts = Split(text, ':');
  if (parts.size() < 2) return false;
  Variant variant;
  variant.target = parts[0];
  variant.arch = parts[1];
  if (parts.size() > 2) variant.features = Split(parts[2], ',');
  return Obstacle(variant).empty();
}

}  // namespace

ort::Compatibility JudgeCompatibility(std::string_view info) {
  const std::vector<std::string> parts = Split(info, ';');
  if (parts.empty() || parts[0] != "bolt") return ort::kCompatibilityNotApplicable;
  if (parts.size() < 4 || parts[1] != "schema=" + std::to_string(kManifestSchema) ||
      parts[2] != "module_abi=" + std::to_string(BOLT_MODULE_ABI_VERSION)) {
    return ort::kCompatibilityUnsupported;
  }
  for (size_t i = 3; i < parts.size(); ++i) {
    if (Runs(parts[i])) return i == 3 ? ort::kCompatibilityOptimal : ort::kCompatibilityPreferRecompilation;
  }
  return ort::kCompatibilityUnsupported;
}

}  // namespace bolt
