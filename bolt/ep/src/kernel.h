// A claimed node: runs its module with ONNX Runtime's tensors, threads and outputs.
#ifndef BOLT_EP_KERNEL_H_
#define BOLT_EP_KERNEL_H_

#include <memory>
#include <string>

#include "module.h"
#include "ort_abi.h"
#include "threads.h"
#include "workspace.h"

namespace bolt {

// What the kernels of one session share.
struct SessionState {
  explicit SessionState(int32_t thread_option) noexcept : threads(thread_option) {}
  Threads threads;
  Workspaces workspaces;
};

class Kernel : public ort::OrtNodeComputeInfo {
 public:
  Kernel(const ort::Api& api, std::string name, std::unique_ptr<const Module> module,
         std::shared_ptr<SessionState> session);

  const ort::Api& api() const noexcept { return api_; }
  const std::string& name() const noexcept { return name_; }
  SessionState& session() const noexcept { return *session_; }
  const Module& module() const noexcept { return *module_; }

 private:
  ort::OrtStatus* Run(ort::OrtKernelContext* context) const noexcept;
  void RunOrThrow(ort::OrtKernelContext* context) const;

  const ort::Api& api_;
  const std::string name_;
  const std::unique_ptr<const Module> module_;
  const std::shared_ptr<SessionState> session_;
};

}  // namespace bolt

#endif  // BOLT_EP_KERNEL_H_
