// Element type and dims of a tensor.
#ifndef BOLT_EP_SHAPE_H_
#define BOLT_EP_SHAPE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ort_abi.h"
#include "status.h"

namespace bolt {

// Points into the tensor since ONNX Runtime 1.24, holds a copy before.
class Shape {
 public:
  Shape() = default;
  Shape(const ort::Api& api, const ort::OrtValue* value) { Read(api, value); }
  Shape(const Shape&) = delete;
  Shape& operator=(const Shape&) = delete;

  // Throws Error.
  void Read(const ort::Api& api, const ort::OrtValue* value) {
    if (api.GetTensorElementTypeAndShapeDataReference != nullptr) {
      return Check(api, api.GetTensorElementTypeAndShapeDataReference(value, &dtype_, &dims_, &rank_));
    }
    ort::OrtTensorTypeAndShapeInfo* info = nullptr;
    Check(api, api.GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<ort::OrtTensorTypeAndShapeInfo, ort::ReleaseTensorTypeAndShapeInfoFn> owner(
        info, api.ReleaseTensorTypeAndShapeInfo);
    Check(api, api.GetTensorElementType(info, &dtype_));
    Check(api, api.GetDimensionsCount(info, &rank_));
    copy_.resize(rank_);
    Check(api, api.GetDimensions(info, copy_.data(), rank_));
    dims_ = copy_.data();
  }

  ort::Enum dtype() const noexcept { return dtype_; }  // ONNX's number
  size_t rank() const noexcept { return rank_; }
  const int64_t* dims() const noexcept { return dims_; }

 private:
  ort::Enum dtype_ = 0;
  size_t rank_ = 0;
  const int64_t* dims_ = nullptr;
  std::vector<int64_t> copy_;
};

}  // namespace bolt

#endif  // BOLT_EP_SHAPE_H_
