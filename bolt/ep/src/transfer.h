// Copies between host and GPUs, for ONNX Runtime: between runs (data transfer) and inside a graph (the nodes
// MemcpyFromHost and MemcpyToHost that it puts where a value changes sides).
#ifndef BOLT_EP_TRANSFER_H_
#define BOLT_EP_TRANSFER_H_

#include "device.h"
#include "ort_abi.h"

namespace bolt {

// NVIDIA, as the PCI vendor number that the CUDA provider of ONNX Runtime gives its memory too: values are
// shared with it.
inline constexpr uint32_t kNvidia = 0x10DE;

class DataTransfer : public ort::OrtDataTransferImpl {
 public:
  explicit DataTransfer(const ort::Api& api);

 private:
  bool IsOurs(const ort::OrtMemoryDevice* memory) const noexcept;
  bool IsOnDevice(const ort::OrtMemoryDevice* memory) const noexcept;  // ours, and no host memory
  bool IsOursOrHost(const ort::OrtMemoryDevice* memory) const noexcept;
  void Copy(const ort::OrtValue* from, ort::OrtValue* to, ort::OrtSyncStream* stream) const;

  const ort::Api& api_;
};

// The registry of the two Memcpy kernels for a provider on `device`. ONNX Runtime's fallback kernels would
// leave the output of MemcpyFromHost in host memory.
class MemcpyKernels {
 public:
  // Throws Error.
  MemcpyKernels(const ort::Api& api, Device* device, const char* provider);
  ~MemcpyKernels() { api_.ReleaseKernelRegistry(registry_); }
  MemcpyKernels(const MemcpyKernels&) = delete;
  MemcpyKernels& operator=(const MemcpyKernels&) = delete;

  const ort::OrtKernelRegistry* registry() const noexcept { return registry_; }

 private:
  static ort::OrtStatus* Make(void* kernels, const ort::OrtKernelInfo*, ort::OrtKernelImpl** kernel) noexcept;

  const ort::Api& api_;
  Device* const device_;
  ort::OrtKernelRegistry* registry_ = nullptr;
};

}  // namespace bolt

#endif  // BOLT_EP_TRANSFER_H_
