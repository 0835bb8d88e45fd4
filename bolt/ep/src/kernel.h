// A claimed node: runs its module with ONNX Runtime's tensors, threads or stream, and outputs.
#ifndef BOLT_EP_KERNEL_H_
#define BOLT_EP_KERNEL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "capture.h"
#include "device.h"
#include "module.h"
#include "ort_abi.h"
#include "threads.h"
#include "workspace.h"

namespace bolt {

// What the kernels of one session share.
struct SessionState {
  SessionState(int32_t thread_option, Device* session_device) noexcept
      : threads(thread_option), device(session_device) {}

  // The stream for runs that ONNX Runtime gives none. Throws Error.
  StreamHandle& OwnStream();

  Threads threads;
  Workspaces workspaces;
  Device* const device;              // null: the CPU
  std::unique_ptr<Capture> capture;  // null: runs are not captured

 private:
  std::once_flag made_;
  std::unique_ptr<StreamHandle> stream_;
};

// Where a module's values are at the node that ONNX Runtime made of the EPContext node: it merges inputs that
// are the same value and drops outputs that nobody reads.
struct Wiring {
  static constexpr size_t kDropped = SIZE_MAX;
  std::vector<size_t> inputs;   // index of the node's input for each of the module's
  std::vector<size_t> outputs;  // index of the node's output for each of the module's, or kDropped
};

class Call;

class Kernel : public ort::OrtNodeComputeInfo {
 public:
  Kernel(const ort::Api& api, std::string name, std::unique_ptr<const Module> module, Wiring wiring,
         std::shared_ptr<SessionState> session);

  const ort::Api& api() const noexcept { return api_; }
  const std::string& name() const noexcept { return name_; }
  SessionState& session() const noexcept { return *session_; }
  const Module& module() const noexcept { return *module_; }
  const Wiring& wiring() const noexcept { return wiring_; }

 private:
  ort::OrtStatus* Run(ort::OrtKernelContext* context) const noexcept;
  void RunOrThrow(ort::OrtKernelContext* context) const;
  void Invoke(const BoltTensor* inputs, Call* call) const;

  const ort::Api& api_;
  const std::string name_;
  const std::unique_ptr<const Module> module_;
  const Wiring wiring_;
  const std::shared_ptr<SessionState> session_;
};

}  // namespace bolt

#endif  // BOLT_EP_KERNEL_H_
