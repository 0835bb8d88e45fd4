// The two symbols that ONNX Runtime looks for.
#include <memory>

#include "factory.h"
#include "status.h"

#define BOLT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using bolt::Factory;
namespace ort = bolt::ort;

// A runtime older than the one our table is written for still has CreateStatus in slot 0 of its version 1
// table.
ort::OrtStatus* RefuseOldRuntime(const ort::OrtApiBase* base) {
  const void* table = base->GetApi(1);
  if (table == nullptr) return nullptr;
  const auto create = reinterpret_cast<ort::CreateStatusFn>(*static_cast<void* const*>(table));
  return create(ort::kNotImplemented,
                "bolt needs ONNX Runtime 1.23 or newer; upgrade with: pip install -U 'onnxruntime>=1.23'");
}

}  // namespace

BOLT_EXPORT ort::OrtStatus* CreateEpFactories(const char*, const ort::OrtApiBase* base, const ort::OrtLogger*,
                                              ort::OrtEpFactory** factories, size_t room,
                                              size_t* count) noexcept {
  ort::Api api;
  *count = 0;
  if (!ort::Resolve(base, &api)) return RefuseOldRuntime(base);
  if (room < 1) return api.CreateStatus(ort::kInvalidArgument, "bolt: no room for its factory");
  return bolt::Guard(api, [&] {
    factories[0] = std::make_unique<Factory>(api, bolt::KindsOfPackage()).release();
    *count = 1;
  });
}

BOLT_EXPORT ort::OrtStatus* ReleaseEpFactory(ort::OrtEpFactory* factory) noexcept {
  delete static_cast<Factory*>(factory);
  return nullptr;
}
