#include "factory.h"

#include <algorithm>
#include <cstdlib>

#include "allocator.h"
#include "compatibility.h"
#include "status.h"
#include "stream.h"
#include "transfer.h"

#ifndef BOLT_VERSION
#error "compile with -DBOLT_VERSION=\"x.y.z\""
#endif

namespace bolt {
namespace {

constexpr char kVendor[] = "bolt";
// No PCI vendor stands behind the CPU provider; 0xFFFE is a number no vendor has.
constexpr uint32_t kVendorId = 0xFFFE;

// Since when a session may be given devices with different memory, and its provider says which one it is for.
constexpr uint32_t kDefaultMemoryMinor = 27;

}  // namespace

Factory::Factory(const ort::Api& api, Kinds kinds) : ort::OrtEpFactory{}, api_(api), kinds_(kinds) {
  ort_version_supported = api.struct_version;
  GetName = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(kEpName); };
  GetVendor = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(kVendor); };
  GetVendorId = [](const ort::OrtEpFactory*) noexcept { return kVendorId; };
  GetVersion = [](const ort::OrtEpFactory*) noexcept { return static_cast<const char*>(BOLT_VERSION); };
  GetSupportedDevices = [](ort::OrtEpFactory* self, const ort::OrtHardwareDevice* const* hardware,
                           size_t count, ort::OrtEpDevice** devices, size_t room, size_t* found) noexcept {
    auto& factory = *static_cast<Factory*>(self);
    return Guard(factory.api_, [&] { factory.AddDevices(hardware, count, devices, room, found); });
  };
  CreateEp = [](ort::OrtEpFactory* self, const ort::OrtHardwareDevice* const*,
                const ort::OrtKeyValuePairs* const* metadata, size_t count,
                const ort::OrtSessionOptions* session, const ort::OrtLogger* logger,
                ort::OrtEp** ep) noexcept {
    const auto& factory = *static_cast<Factory*>(self);
    return Guard(factory.api_, [&] {
      Options options = Options::Read(factory.api_, session);
      const Offer* const gpu = factory.Choose(metadata, count, options);
      *ep = std::make_unique<Ep>(factory.api_, logger, std::move(options), gpu, factory.no_gpu_).release();
    });
  };
  ReleaseEp = [](ort::OrtEpFactory*, ort::OrtEp* ep) noexcept { delete static_cast<Ep*>(ep); };
  ValidateCompiledModelCompatibilityInfo = [](ort::OrtEpFactory* self,
                                              const ort::OrtHardwareDevice* const* hardware, size_t count,
                                              const char* info, ort::Enum* answer) noexcept {
    const auto& factory = *static_cast<Factory*>(self);
    return Guard(factory.api_,
                 [&] { *answer = JudgeCompatibility(info, factory.PlacesOf(hardware, count)); });
  };
  // ONNX Runtime calls this one at registration without a null check (1.23.2 to 1.31.1).
  CreateDataTransfer = [](ort::OrtEpFactory* self, ort::OrtDataTransferImpl** transfer) noexcept {
    const auto& factory = *static_cast<Factory*>(self);
    *transfer = nullptr;
    return Guard(factory.api_, [&] {
      if (!factory.gpus_.empty()) *transfer = std::make_unique<DataTransfer>(factory.api_).release();
    });
  };
  if (kinds.gpu) FindGpus();
  if (!gpus_.empty()) OfferGpuCallbacks();
}

void Factory::FindGpus() {
  if (!HasGpuSupport(api_)) {
    no_gpu_ = "ONNX Runtime 1." + std::to_string(api_.minor) + "." + std::to_string(api_.patch) +
              " is too old for it; upgrade with: pip install -U 'onnxruntime>=1.24.4'";
    return;
  }
  // A program that takes all devices, as one may where there is only the CPU, would get no session.
  if (kinds_.cpu && api_.minor < kDefaultMemoryMinor) {
    no_gpu_ =
        "before ONNX Runtime 1.27 GPUs are offered by the library in the package only; register the "
        "libbolt_ep.so beside the model, or upgrade with: pip install -U 'onnxruntime>=1.27'";
    return;
  }
  const Devices& devices = AllDevices();
  for (const auto& device : devices.list) gpus_.push_back(std::make_unique<Offer>(api_, device.get()));
  no_gpu_ = gpus_.empty() ? devices.obstacle
                          : "the session was made for the CPU; give it the OrtEpDevice of a GPU instead";
}

void Factory::OfferGpuCallbacks() {
  IsStreamAware = [](const ort::OrtEpFactory*) noexcept { return true; };
  CreateAllocator = [](ort::OrtEpFactory* self, const ort::OrtMemoryInfo* info, const ort::OrtKeyValuePairs*,
                       ort::OrtAllocator** allocator) noexcept {
    const auto& factory = *static_cast<Factory*>(self);
    const ort::Api& api = factory.api_;
    return Guard(api, [&] {
      const ort::OrtMemoryDevice* const memory = api.MemoryInfo_GetMemoryDevice(info);
      const Offer& gpu = factory.OwnerOf(memory);
      const bool pinned = api.MemoryDevice_GetMemoryType(memory) == ort::kMemoryHostAccessible;
      *allocator =
          std::make_unique<Allocator>(api, &gpu.device(), pinned, pinned ? gpu.pinned() : gpu.memory())
              .release();
    });
  };
  ReleaseAllocator = [](ort::OrtEpFactory*, ort::OrtAllocator* allocator) noexcept {
    delete static_cast<Allocator*>(allocator);
  };
  CreateSyncStreamForDevice = [](ort::OrtEpFactory* self, const ort::OrtMemoryDevice* memory,
                                 const ort::OrtKeyValuePairs*, ort::OrtSyncStreamImpl** stream) noexcept {
    const auto& factory = *static_cast<Factory*>(self);
    return Guard(factory.api_, [&] {
      auto handle = std::make_shared<StreamHandle>(factory.OwnerOf(memory).device());
      *stream = std::make_unique<Stream>(factory.api_, std::move(handle)).release();
    });
  };
}

// The CPU comes first: a program that takes all devices means what it meant before there were others.
void Factory::AddDevices(const ort::OrtHardwareDevice* const* hardware, size_t count,
                         ort::OrtEpDevice** devices, size_t room, size_t* found) {
  *found = 0;
  // Without a GPU, a session on the CPU is what can say so.
  const bool is_for_cpu = kinds_.cpu || gpus_.empty();
  for (size_t i = 0; i < count && *found < room && is_for_cpu; ++i) {
    if (api_.HardwareDevice_Type(hardware[i]) != ort::kHardwareCpu) continue;
    // No default options: overriding one makes ONNX Runtime log a warning.
    Check(api_, api_.CreateEpDevice(this, hardware[i], nullptr, nullptr, &devices[*found]));
    ++*found;
  }
  for (const auto& gpu : gpus_) {
    if (*found == room) return;
    devices[*found] = gpu->Make(this, hardware, count);
    ++*found;
  }
}

const Offer* Factory::Choose(const ort::OrtKeyValuePairs* const* metadata, size_t count,
                             const Options& options) const {
  std::vector<const Offer*> given;
  for (size_t i = 0; i < count; ++i) {
    const char* const id = metadata[i] == nullptr ? nullptr : api_.GetKeyValue(metadata[i], kDeviceIdKey);
    given.push_back(id == nullptr ? nullptr : gpus_.at(std::strtoul(id, nullptr, 10)).get());
  }
  if (!options.device_id) return given.empty() ? nullptr : given.front();
  const bool may_choose = api_.minor >= kDefaultMemoryMinor;
  for (const Offer* gpu : given) {
    const bool is_it = gpu != nullptr && gpu->device().ordinal() == *options.device_id;
    if (is_it && (may_choose || gpu == given.front())) return gpu;
  }
  throw Error("bolt: the option device_id is " + std::to_string(*options.device_id) +
              ", but the session was given other devices; give it the OrtEpDevice whose metadata has " +
              kDeviceIdKey + "=" + std::to_string(*options.device_id));
}

std::vector<Place> Factory::PlacesOf(const ort::OrtHardwareDevice* const* hardware, size_t count) const {
  std::vector<Place> places;
  for (size_t i = 0; i < count; ++i) {
    const auto it = std::find_if(gpus_.begin(), gpus_.end(),
                                 [&](const auto& gpu) { return gpu->hardware() == hardware[i]; });
    places.push_back({it == gpus_.end() ? nullptr : &(*it)->device(), no_gpu_});
  }
  return places;
}

const Offer& Factory::OwnerOf(const ort::OrtMemoryDevice* memory) const {
  const uint32_t id = api_.MemoryDevice_GetDeviceId(memory);
  if (id >= gpus_.size()) throw Error("bolt: there is no GPU " + std::to_string(id));
  return *gpus_[id];
}

}  // namespace bolt
