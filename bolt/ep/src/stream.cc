#include "stream.h"

#include <utility>

#include "status.h"

namespace bolt {

Stream::Stream(const ort::Api& api, std::shared_ptr<StreamHandle> handle)
    : ort::OrtSyncStreamImpl{}, api_(api), handle_(std::move(handle)) {
  ort_version_supported = api.struct_version;
  Release = [](ort::OrtSyncStreamImpl* self) noexcept { delete static_cast<Stream*>(self); };
  GetHandle = [](ort::OrtSyncStreamImpl* self) noexcept -> void* {
    return static_cast<Stream*>(self)->handle_->get();
  };
  CreateNotification = [](ort::OrtSyncStreamImpl* self, ort::OrtSyncNotificationImpl** out) noexcept {
    const auto& stream = *static_cast<Stream*>(self);
    return Guard(stream.api_,
                 [&] { *out = std::make_unique<Notification>(stream.api_, stream.handle_).release(); });
  };
  // ONNX Runtime flushes at the end of a run whose results the caller expects to be there.
  Flush = [](ort::OrtSyncStreamImpl* self) noexcept {
    const auto& stream = *static_cast<Stream*>(self);
    return Guard(stream.api_, [&] { stream.handle_->Wait(); });
  };
  OnSessionRunEnd = [](ort::OrtSyncStreamImpl*) noexcept { return static_cast<ort::OrtStatus*>(nullptr); };
}

Notification::Notification(const ort::Api& api, std::shared_ptr<StreamHandle> stream)
    : ort::OrtSyncNotificationImpl{}, api_(api), stream_(std::move(stream)) {
  ort_version_supported = api.struct_version;
  Release = [](ort::OrtSyncNotificationImpl* self) noexcept { delete static_cast<Notification*>(self); };
  Activate = [](ort::OrtSyncNotificationImpl* self) noexcept {
    const auto& it = *static_cast<Notification*>(self);
    return Guard(it.api_, [&] {
      const DeviceScope scope(it.stream_->device());
      cuda::Check(cuda::Get().EventRecord(it.event_, it.stream_->get()), "record an event");
    });
  };
  // The waiting stream may be another provider's: only its handle is ours to use.
  WaitOnDevice = [](ort::OrtSyncNotificationImpl* self, ort::OrtSyncStream* waiting) noexcept {
    const auto& it = *static_cast<Notification*>(self);
    return Guard(it.api_, [&] {
      const DeviceScope scope(it.stream_->device());
      auto* const handle = static_cast<cuda::Stream*>(it.api_.SyncStream_GetHandle(waiting));
      cuda::Check(cuda::Get().StreamWaitEvent(handle, it.event_, 0), "let a stream wait for an event");
    });
  };
  WaitOnHost = [](ort::OrtSyncNotificationImpl* self) noexcept {
    const auto& it = *static_cast<Notification*>(self);
    return Guard(it.api_, [&] {
      const DeviceScope scope(it.stream_->device());
      cuda::Check(cuda::Get().EventSynchronize(it.event_), "wait for a GPU");
    });
  };
  const DeviceScope scope(stream_->device());
  cuda::Check(cuda::Get().EventCreate(&event_, cuda::kNoTiming), "create an event");
}

Notification::~Notification() {
  if (event_ != nullptr) cuda::Get().EventDestroy(event_);
}

}  // namespace bolt
