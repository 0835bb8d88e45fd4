// How many threads ONNX Runtime's intra-op pool gives a session.
#ifndef BOLT_EP_THREADS_H_
#define BOLT_EP_THREADS_H_

#include <atomic>
#include <cstdint>

#include "ort_abi.h"

namespace bolt {

// The C API has no getter for the size of the pool, so without an option it is observed: a few of the first
// runs ask the pool for as many threads as there are CPUs and count who comes. A busy machine can only make
// that number too small, therefore the largest one seen counts.
class Threads {
 public:
  // `option` > 0 is the number of threads; 0 means: observe.
  explicit Threads(int32_t option) noexcept;

  // The number of threads, at least 1. To be called inside Compute only.
  int32_t Get(const ort::Api& api, const ort::OrtKernelContext* context) noexcept;

 private:
  std::atomic<int32_t> count_;
  std::atomic<int32_t> probes_left_;
};

}  // namespace bolt

#endif  // BOLT_EP_THREADS_H_
