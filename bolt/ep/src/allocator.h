// ONNX Runtime's allocators of a GPU's memory and of pinned memory, over the device's arenas.
#ifndef BOLT_EP_ALLOCATOR_H_
#define BOLT_EP_ALLOCATOR_H_

#include "device.h"
#include "ort_abi.h"

namespace bolt {

class Allocator : public ort::OrtAllocator {
 public:
  // `info` names the memory and outlives the allocator.
  Allocator(const ort::Api& api, Device* device, bool pinned, const ort::OrtMemoryInfo* info);

  // Hands what is free by now back to the driver: sessions end here.
  ~Allocator() { arena_.Trim(); }

 private:
  ort::OrtStatus* Statistics(ort::OrtKeyValuePairs** out) const noexcept;

  const ort::Api& api_;
  Arena& arena_;
  const ort::OrtMemoryInfo* const info_;
};

}  // namespace bolt

#endif  // BOLT_EP_ALLOCATOR_H_
