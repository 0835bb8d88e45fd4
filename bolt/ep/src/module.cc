#include "module.h"

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <optional>

#include "sha256.h"
#include "status.h"

namespace bolt {
namespace {

void CheckSha256(const Mapping& file, const std::string& path, const std::string& expected) {
  const std::string actual = Sha256(file.data(), file.bytes());
  if (actual == expected) return;
  throw Error(path + " is damaged or was changed: its sha256 is " + actual + ", the manifest says " +
              expected + "; copy the artifact again or run `bolt optimize` again");
}

std::shared_ptr<const Mapping> VerifiedMapping(const std::string& path, const WeightsSlice& slice) {
  auto weights = std::make_shared<const Mapping>(path, slice.offset, slice.bytes);
  CheckSha256(*weights, path, slice.sha256);
  return weights;
}

// The weights where the module reads them: mapped for the CPU, copied to a GPU.
std::shared_ptr<const void> LoadWeights(const std::string& path, const WeightsSlice& slice, Device* device) {
  const std::shared_ptr<const Mapping> mapping = VerifiedMapping(path, slice);
  if (device == nullptr) return {mapping, mapping->data()};
  const auto buffer = std::make_shared<const DeviceBuffer>(*device, slice.bytes);
  Copy(*device, buffer->data(), mapping->data(), slice.bytes, nullptr);
  return {buffer, buffer->data()};
}

// Weights are loaded and verified once per process and device, and kept while any session uses them.
class WeightsCache {
 public:
  std::shared_ptr<const void> Get(const std::string& path, const WeightsSlice& slice, Device* device) {
    const std::string key = FileIdentity(path) + std::to_string(slice.offset) + ":" +
                            std::to_string(slice.bytes) + ":" + slice.sha256 + ":" +
                            (device == nullptr ? "cpu" : std::to_string(device->ordinal()));
    const std::lock_guard lock(mutex_);
    std::weak_ptr<const void>& entry = entries_[key];
    if (std::shared_ptr<const void> weights = entry.lock()) return weights;
    std::shared_ptr<const void> weights = LoadWeights(path, slice, device);
    entry = weights;
    return weights;
  }

  // Never destroyed: sessions may end after the static destructors ran.
  static WeightsCache& Instance() {
    static WeightsCache& cache = *new WeightsCache;
    return cache;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<const void>> entries_;
};

}  // namespace

void Module::Unload::operator()(void* handle) const noexcept { dlclose(handle); }

Module::Module(const std::string& folder, const Variant& variant, Device* device) : device_(device) {
  const std::string path = ResolveInside(folder, variant.module.path);
  Load(path, variant.module);
  CheckTable(path, variant);
  if (variant.weights) {
    const std::string file = ResolveInside(folder, variant.weights->path);
    weights_ = WeightsCache::Instance().Get(file, *variant.weights, device);
  }
  Create(path);
}

Module::~Module() {
  if (instance_ == nullptr) return;
  // Its kernels and weights may be at work still.
  if (device_ != nullptr) device_->WaitForEverything();
  table_->destroy(instance_);
}

void Module::Load(const std::string& path, const ModuleFile& file) {
  CheckSha256(Mapping(path), path, file.sha256);
  // The CUDA runtime inside a module has destructors of its own for every thread that used it, and nobody
  // knows when the last of them ends: such a module stays.
  const int stays = device_ == nullptr ? 0 : RTLD_NODELETE;
  library_.reset(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | stays));
  if (!library_) throw Error("can't load module " + path + ": " + dlerror());
  const auto entry = reinterpret_cast<BoltModuleEntry>(dlsym(library_.get(), "bolt_module"));
  if (entry == nullptr) throw Error(path + " is not a bolt module: it has no symbol bolt_module");
  table_ = entry();
  if (table_ == nullptr) throw Error(path + " is not a bolt module: bolt_module() returned nothing");
}

void Module::CheckTable(const std::string& path, const Variant& variant) const {
  if (table_->abi_version != BOLT_MODULE_ABI_VERSION) {
    throw Error("module " + path + " has ABI version " + std::to_string(table_->abi_version) +
                ", this libbolt_ep.so speaks version " + std::to_string(BOLT_MODULE_ABI_VERSION) +
                "; use the libbolt_ep.so of the artifact or run `bolt optimize` again");
  }
  if (table_->target != variant.target) {
    throw Error("module " + path + " was built for " + table_->target + ", the manifest says " +
                variant.target);
  }
  const uint64_t bytes = variant.weights ? variant.weights->bytes : 0;
  if (table_->weights_bytes != bytes) {
    throw Error("module " + path + " wants " + std::to_string(table_->weights_bytes) +
                " bytes of weights, the manifest has " + std::to_string(bytes));
  }
  const std::string stated = table_->weights_sha256 == nullptr ? "" : table_->weights_sha256;
  if (!stated.empty() && variant.weights && stated != variant.weights->sha256) {
    throw Error("module " + path + " wants weights with sha256 " + stated + ", the manifest has " +
                variant.weights->sha256);
  }
}

void Module::Create(const std::string& path) {
  char error[kModuleErrorBytes] = "";
  std::optional<DeviceScope> scope;
  if (device_ != nullptr) scope.emplace(*device_);
  if (table_->create(weights_.get(), &instance_, error, sizeof(error)) != 0) {
    throw Error("module " + path + " could not start: " + error);
  }
}

}  // namespace bolt
