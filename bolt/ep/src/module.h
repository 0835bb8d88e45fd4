// A compiled partition: its shared library, its weights and its instance.
#ifndef BOLT_EP_MODULE_H_
#define BOLT_EP_MODULE_H_

#include <memory>
#include <string>

#include "bolt/module_abi.h"
#include "device.h"
#include "file.h"
#include "manifest.h"

namespace bolt {

// Capacity of the sentence a module writes when it fails.
inline constexpr size_t kModuleErrorBytes = 512;

class Module {
 public:
  // Checks hashes, loads and creates `variant` of the artifact in `folder` (absolute and real), for `device`
  // or, without one, the CPU. Throws Error.
  Module(const std::string& folder, const Variant& variant, Device* device);
  ~Module();
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  const BoltModuleTable& table() const noexcept { return *table_; }
  const BoltModule* instance() const noexcept { return instance_; }

 private:
  void Load(const std::string& path, const ModuleFile& file);
  void CheckTable(const std::string& path, const Variant& variant) const;
  void Create(const std::string& path);

  struct Unload {
    void operator()(void* handle) const noexcept;
  };

  Device* const device_;
  // Declared in the order of life: the weights outlive the instance, the library outlives both.
  std::unique_ptr<void, Unload> library_;
  std::shared_ptr<const void> weights_;
  const BoltModuleTable* table_ = nullptr;
  BoltModule* instance_ = nullptr;
};

}  // namespace bolt

#endif  // BOLT_EP_MODULE_H_
