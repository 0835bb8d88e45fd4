// Streams and notifications as ONNX Runtime wants them.
#ifndef BOLT_EP_STREAM_H_
#define BOLT_EP_STREAM_H_

#include <memory>

#include "device.h"
#include "ort_abi.h"

namespace bolt {

class Stream : public ort::OrtSyncStreamImpl {
 public:
  Stream(const ort::Api& api, std::shared_ptr<StreamHandle> handle);

 private:
  const ort::Api& api_;
  const std::shared_ptr<StreamHandle> handle_;
};

// A point in the work of a stream that others can wait for.
class Notification : public ort::OrtSyncNotificationImpl {
 public:
  Notification(const ort::Api& api, std::shared_ptr<StreamHandle> stream);
  ~Notification();
  Notification(const Notification&) = delete;
  Notification& operator=(const Notification&) = delete;

 private:
  const ort::Api& api_;
  const std::shared_ptr<StreamHandle> stream_;
  cuda::Event* event_ = nullptr;
};

}  // namespace bolt

#endif  // BOLT_EP_STREAM_H_
