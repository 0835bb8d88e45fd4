#include "package.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>

#include "file.h"
#include "manifest.h"
#include "status.h"

namespace bolt {
namespace {

// The path of this library; empty when the loader does not know it.
std::string OwnPath() {
  Dl_info info;
  const bool known = dladdr(reinterpret_cast<const void*>(&KindsOfPackage), &info) != 0;
  return known && info.dli_fname != nullptr ? info.dli_fname : "";
}

Kinds KindsOf(const Manifest& manifest) {
  Kinds kinds{false, false};
  for (const auto& [name, variants] : manifest.partitions) {
    for (const Variant& variant : variants) (variant.arch == kCudaArch ? kinds.gpu : kinds.cpu) = true;
  }
  return kinds.cpu || kinds.gpu ? kinds : Kinds{};
}

}  // namespace

Kinds KindsOfPackage() noexcept {
  try {
    const std::string path = OwnPath();
    if (path.empty()) return {};
    const std::string manifest = FolderOf(path) + "/manifest.json";
    return access(manifest.c_str(), R_OK) == 0 ? KindsOf(ReadManifest(manifest)) : Kinds{};
  } catch (const std::exception&) {
    return {};  // a session on the package will say what is wrong with it
  }
}

}  // namespace bolt
