// One call of a module's `run`: the host behind its BoltContext.
#ifndef BOLT_EP_CALL_H_
#define BOLT_EP_CALL_H_

#include <utility>
#include <vector>

#include "device.h"
#include "kernel.h"
#include "ort_abi.h"
#include "workspace.h"

namespace bolt {

class Call {
 public:
  Call(const Kernel& kernel, ort::OrtKernelContext* context) noexcept
      : kernel_(kernel), api_(kernel.api()), context_(context) {}
  virtual ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // What the module is lent; valid while the call lives.
  virtual BoltContext Context() noexcept = 0;

  // The first failure of a callback, if any.
  ort::OrtStatus* TakeStatus() noexcept { return std::exchange(status_, nullptr); }

 protected:
  // Memory until the call is over; null when there is none.
  virtual void* Lend(size_t bytes) noexcept = 0;

  static void* Workspace(void* host, size_t bytes) noexcept;
  static void* Output(void* host, int32_t index, const int64_t* dims, int32_t rank) noexcept;

  // Whether the status is a success; keeps the first that is not.
  bool Keep(ort::OrtStatus* status) noexcept;

  const Kernel& kernel_;
  const ort::Api& api_;
  ort::OrtKernelContext* const context_;

 private:
  void* RealOutput(size_t index, const int64_t* dims, int32_t rank) noexcept;
  void* DroppedOutput(const BoltValueInfo& info, const int64_t* dims) noexcept;

  ort::OrtStatus* status_ = nullptr;
};

// On the CPU: ONNX Runtime's threads, and memory that stays warm in the session.
class CpuCall : public Call {
 public:
  using Call::Call;
  ~CpuCall() override;
  BoltContext Context() noexcept override;

 private:
  void* Lend(size_t bytes) noexcept override;
  static void ParallelFor(void* host, void (*fn)(void*, size_t), size_t count, void* arg) noexcept;

  int32_t threads_ = 1;
  Buffer workspace_;
  std::vector<Buffer> others_;
};

// On a GPU: a stream, and memory of its device.
class GpuCall : public Call {
 public:
  // Throws Error.
  GpuCall(const Kernel& kernel, ort::OrtKernelContext* context);
  ~GpuCall() override;
  BoltContext Context() noexcept override;

  // To be called when the module has put its work on the stream. Throws Error.
  void Finish() const;

 private:
  void* Lend(size_t bytes) noexcept override;
  void CheckCapture() const;
  Arena& memory() const noexcept { return kernel_.session().device->memory(); }

  const DeviceScope scope_;
  bool is_ours_ = false;
  cuda::Stream* stream_ = nullptr;
  std::vector<void*> lent_;
};

}  // namespace bolt

#endif  // BOLT_EP_CALL_H_
