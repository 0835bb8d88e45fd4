// A GPU as it is offered to ONNX Runtime: its hardware device, and the names of its memories.
#ifndef BOLT_EP_OFFER_H_
#define BOLT_EP_OFFER_H_

#include <cstddef>

#include "device.h"
#include "ort_abi.h"

namespace bolt {

// Metadata of an OrtEpDevice: the CUDA ordinal.
inline constexpr char kDeviceIdKey[] = "cuda_device_id";

class Offer {
 public:
  // Throws Error.
  Offer(const ort::Api& api, Device* device);
  ~Offer();
  Offer(const Offer&) = delete;
  Offer& operator=(const Offer&) = delete;

  Device& device() const noexcept { return *device_; }
  const ort::OrtMemoryInfo* memory() const noexcept { return memory_; }
  const ort::OrtMemoryInfo* pinned() const noexcept { return pinned_; }
  const ort::OrtHardwareDevice* hardware() const noexcept { return hardware_; }

  // The OrtEpDevice, on ONNX Runtime's description of the GPU if it found it, else on one of ours. Throws
  // Error.
  ort::OrtEpDevice* Make(ort::OrtEpFactory* factory, const ort::OrtHardwareDevice* const* found,
                         size_t count);

 private:
  const ort::OrtHardwareDevice* Find(const ort::OrtHardwareDevice* const* found, size_t count) const;
  const ort::OrtHardwareDevice* Describe();

  const ort::Api& api_;
  Device* const device_;
  ort::OrtMemoryInfo* memory_ = nullptr;
  ort::OrtMemoryInfo* pinned_ = nullptr;
  ort::OrtHardwareDevice* described_ = nullptr;
  const ort::OrtHardwareDevice* hardware_ = nullptr;
};

}  // namespace bolt

#endif  // BOLT_EP_OFFER_H_
