#include "factory.h"

#include <memory>

#include "compatibility.h"
#include "ep.h"
#include "status.h"

#ifndef BOLT_VERSION
#error "compile with -DBOLT_VERSION=\"x.y.z\""
#endif

namespace bolt {
namespace {

constexpr char kVendor[] = "bolt";
// No PCI vendor stands behind the CPU provider; 0xFFFE is a number no vendor has.
constexpr uint32_t kVendorId = 0xFFFE;

ort::OrtStatus* Ok() noexcept { return nullptr; }

}  // namespace

Factory::Factory(const ort::Api& api) : ort::OrtEpFactory{}, api_(api) {
  ort_version_supported = api.struct_version;
  GetName = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(kEpName); };
  GetVendor = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(kVendor); };
  GetVendorId = [](const ort::OrtEpFactory*) noexcept { return kVendorId; };
  GetVersion = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(BOLT_VERSION); };
  GetSupportedDevices = [](ort::OrtEpFactory* self, const ort::OrtHardwareDevice* const* hardware,
                           size_t count, ort::OrtEpDevice** devices, size_t room, size_t* found) noexcept {
    auto& factory = *static_cast<Factory*>(self);
    *found = 0;
    for (size_t i = 0; i < count && *found < room; ++i) {
      if (factory.api_.HardwareDevice_Type(hardware[i]) != ort::kHardwareCpu) continue;
      if (ort::OrtStatus* status = factory.AddDevice(hardware[i], &devices[*found])) return status;
      ++*found;
    }
    return Ok();
  };
  CreateEp = [](ort::OrtEpFactory* self, const ort::OrtHardwareDevice* const*,
                const ort::OrtKeyValuePairs* const*, size_t, const ort::OrtSessionOptions* session,
                const ort::OrtLogger* logger, ort::OrtEp** ep) noexcept {
    const ort::Api& api = static_cast<Factory*>(self)->api_;
    return Guard(api,
                 [&] { *ep = std::make_unique<Ep>(api, logger, Options::Read(api, session)).release(); });
  };
  ReleaseEp = [](ort::OrtEpFactory*, ort::OrtEp* ep) noexcept { delete static_cast<Ep*>(ep); };
  ValidateCompiledModelCompatibilityInfo = [](ort::OrtEpFactory* self, const ort::OrtHardwareDevice* const*,
                                              size_t, const char* info, ort::Enum* answer) noexcept {
    return Guard(static_cast<Factory*>(self)->api_, [&] { *answer = JudgeCompatibility(info); });
  };
  // ONNX Runtime calls this one at registration without a null check (1.23.2 to 1.31.1).
  CreateDataTransfer = [](ort::OrtEpFactory*, ort::OrtDataTransferImpl** transfer) noexcept {
    *transfer = nullptr;
    return Ok();
  };
}

ort::OrtStatus* Factory::AddDevice(const ort::OrtHardwareDevice* hardware,
                                   ort::OrtEpDevice** device) noexcept {
  // No default options: overriding one makes ONNX Runtime log a warning.
  return api_.CreateEpDevice(this, hardware, nullptr, nullptr, device);
}

}  // namespace bolt
