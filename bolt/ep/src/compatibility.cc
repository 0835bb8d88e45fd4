#include "compatibility.h"

#include <algorithm>
#include <string>

#include "bolt/module_abi.h"

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

// Whether "<target>:<arch>:<features>" runs in one of the places.
bool Runs(const std::string& text, const std::vector<Place>& places) {
  const std::vector<std::string> parts = Split(text, ':');
  if (parts.size() < 2) return false;
  Variant variant;
  variant.target = parts[0];
  variant.arch = parts[1];
  if (parts.size() > 2) variant.features = Split(parts[2], ',');
  return std::any_of(places.begin(), places.end(),
                     [&](const Place& place) { return Obstacle(variant, place).empty(); });
}

}  // namespace

ort::Compatibility JudgeCompatibility(std::string_view info, const std::vector<Place>& places) {
  const std::vector<std::string> parts = Split(info, ';');
  if (parts.empty() || parts[0] != "bolt") return ort::kCompatibilityNotApplicable;
  if (parts.size() < 4 || parts[1] != "schema=" + std::to_string(kManifestSchema) ||
      parts[2] != "module_abi=" + std::to_string(BOLT_MODULE_ABI_VERSION)) {
    return ort::kCompatibilityUnsupported;
  }
  for (size_t i = 3; i < parts.size(); ++i) {
    if (Runs(parts[i], places))
      return i == 3 ? ort::kCompatibilityOptimal : ort::kCompatibilityPreferRecompilation;
  }
  return ort::kCompatibilityUnsupported;
}

}  // namespace bolt
