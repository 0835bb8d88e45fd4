#include "offer.h"

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>

#include "status.h"
#include "transfer.h"

namespace bolt {
namespace {

constexpr char kPciBusIdKey[] = "pci_bus_id";

using Pairs = std::unique_ptr<ort::OrtKeyValuePairs, ort::ReleaseKeyValuePairsFn>;

Pairs MakePairs(const ort::Api& api) {
  ort::OrtKeyValuePairs* pairs = nullptr;
  api.CreateKeyValuePairs(&pairs);
  return Pairs(pairs, api.ReleaseKeyValuePairs);
}

// The driver and the system spell PCI addresses with different numbers of digits.
using PciAddress = std::tuple<unsigned, unsigned, unsigned, unsigned>;
bool ReadPciAddress(const char* text, PciAddress* address) {
  auto& [domain, bus, slot, function] = *address;
  return std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) == 4;
}

bool IsAt(const char* text, const std::string& pci_bus_id) {
  PciAddress a, b;
  return ReadPciAddress(text, &a) && ReadPciAddress(pci_bus_id.c_str(), &b) && a == b;
}

ort::OrtMemoryInfo* MakeMemoryInfo(const ort::Api& api, const char* name, int ordinal, ort::Enum memory) {
  ort::OrtMemoryInfo* info = nullptr;
  // Type, vendor, ordinal and alignment 0 are what the CUDA provider of ONNX Runtime has: values of one are
  // good for the other without a copy.
  Check(api, api.CreateMemoryInfo_V2(name, ort::kMemoryGpu, kNvidia, ordinal, memory, 0,
                                     ort::kDeviceAllocator, &info));
  return info;
}

}  // namespace

Offer::Offer(const ort::Api& api, Device* device) : api_(api), device_(device) {
  memory_ = MakeMemoryInfo(api, "BoltCuda", device->ordinal(), ort::kMemoryDefault);
  pinned_ = MakeMemoryInfo(api, "BoltCudaPinned", device->ordinal(), ort::kMemoryHostAccessible);
}

Offer::~Offer() {
  api_.ReleaseMemoryInfo(memory_);
  api_.ReleaseMemoryInfo(pinned_);
  if (described_ != nullptr) api_.ReleaseHardwareDevice(described_);
}

ort::OrtEpDevice* Offer::Make(ort::OrtEpFactory* factory, const ort::OrtHardwareDevice* const* found,
                              size_t count) {
  hardware_ = Find(found, count);
  if (hardware_ == nullptr) hardware_ = Describe();
  const Pairs metadata = MakePairs(api_);
  const int capability = device_->capability();
  const std::string version = std::to_string(capability / 10) + "." + std::to_string(capability % 10);
  api_.AddKeyValuePair(metadata.get(), kDeviceIdKey, std::to_string(device_->ordinal()).c_str());
  api_.AddKeyValuePair(metadata.get(), "cuda_compute_capability", version.c_str());
  api_.AddKeyValuePair(metadata.get(), "cuda_device_name", device_->name().c_str());
  ort::OrtEpDevice* device = nullptr;
  Check(api_, api_.CreateEpDevice(factory, hardware_, metadata.get(), nullptr, &device));
  std::unique_ptr<ort::OrtEpDevice, ort::ReleaseEpDeviceFn> owner(device, api_.ReleaseEpDevice);
  Check(api_, api_.EpDevice_AddAllocatorInfo(device, memory_));
  Check(api_, api_.EpDevice_AddAllocatorInfo(device, pinned_));
  return owner.release();
}

const ort::OrtHardwareDevice* Offer::Find(const ort::OrtHardwareDevice* const* found, size_t count) const {
  for (size_t i = 0; i < count; ++i) {
    if (api_.HardwareDevice_Type(found[i]) != ort::kHardwareGpu) continue;
    if (api_.HardwareDevice_VendorId(found[i]) != kNvidia) continue;
    const char* const id = api_.GetKeyValue(api_.HardwareDevice_Metadata(found[i]), kPciBusIdKey);
    if (id != nullptr && IsAt(id, device_->pci_bus_id())) return found[i];
  }
  return nullptr;
}

// ONNX Runtime looks for GPUs where the system shows them, which containers, WSL and Jetsons do not always
// do.
const ort::OrtHardwareDevice* Offer::Describe() {
  const Pairs metadata = MakePairs(api_);
  api_.AddKeyValuePair(metadata.get(), kPciBusIdKey, device_->pci_bus_id().c_str());
  Check(api_,
        api_.CreateHardwareDevice(ort::kHardwareGpu, kNvidia, 0, "NVIDIA", metadata.get(), &described_));
  return described_;
}

}  // namespace bolt
