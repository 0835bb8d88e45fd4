// The execution provider of one session.
#ifndef BOLT_EP_EP_H_
#define BOLT_EP_EP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "kernel.h"
#include "manifest.h"
#include "offer.h"
#include "ort_abi.h"
#include "transfer.h"

namespace bolt {

inline constexpr char kEpName[] = "BoltExecutionProvider";

// The options of a session: `ep.boltexecutionprovider.<name>` and what ONNX Runtime defines.
struct Options {
  int32_t threads = 0;       // intra_op_num_threads; 0: ask ONNX Runtime's pool
  std::string target;        // target: run only variants of this target
  std::string context_path;  // ep.context_file_path: where a model that was loaded from memory lies

  std::optional<int32_t> device_id;  // device_id: the GPU, as CUDA numbers it
  bool cuda_graph = false;           // cuda_graph: capture runs and replay them

  bool generate = false;  // ep.context_enable: asked to write an EPContext model

  // Throws Error for an option that does not exist or has no meaning.
  static Options Read(const ort::Api& api, const ort::OrtSessionOptions* session);
};

class Ep : public ort::OrtEp {
 public:
  // `gpu` is what the session runs on, null for the CPU; `no_gpu` says why it is the CPU. Throws Error.
  Ep(const ort::Api& api, const ort::OrtLogger* logger, Options options, const Offer* gpu,
     std::string no_gpu);

 private:
  void OfferGpuCallbacks();
  void OfferCapture();
  int GraphId(const ort::OrtRunOptions* run) const noexcept;
  void Claim(const ort::OrtGraph* graph, ort::OrtEpGraphSupportInfo* support) const;
  std::unique_ptr<Kernel> Load(const ort::OrtGraph* graph, const ort::OrtNode* fused) const;
  std::string ArtifactFolder(const ort::OrtGraph* graph) const;
  void Log(const std::string& message) const noexcept;

  const ort::Api& api_;
  const ort::OrtLogger* const logger_;
  const Options options_;
  const Offer* const gpu_;
  const Place place_;
  const std::shared_ptr<SessionState> state_;
  std::unique_ptr<MemcpyKernels> memcpy_;
};

}  // namespace bolt

#endif  // BOLT_EP_EP_H_
