#include "kernel.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "call.h"
#include "shape.h"
#include "status.h"

namespace bolt {
namespace {

std::string DimsText(const int64_t* dims, size_t rank) {
  std::string text = "[";
  for (size_t i = 0; i < rank; ++i) {
    if (i > 0) text += ", ";
    text += dims[i] < 0 ? "?" : std::to_string(dims[i]);
  }
  return text + "]";
}

// N elements without an allocation, more with one.
template <class T, size_t N>
class SmallArray {
 public:
  explicit SmallArray(size_t size) {
    if (size > N) large_.resize(size);
    data_ = size > N ? large_.data() : small_;
  }
  T& operator[](size_t i) noexcept { return data_[i]; }
  T* data() noexcept { return data_; }

 private:
  T small_[N];
  std::vector<T> large_;
  T* data_;
};

// Element types of ONNX Runtime and of ONNX share their numbers for every type a module can have.
bool Fits(const BoltTensor& tensor, const BoltValueInfo& info) noexcept {
  if (tensor.rank != info.rank || tensor.dtype != info.dtype) return false;
  for (int32_t i = 0; i < info.rank; ++i) {
    if (info.dims[i] >= 0 && tensor.dims[i] != info.dims[i]) return false;
  }
  return true;
}

[[noreturn]] void ThrowMisfit(const std::string& node, const BoltTensor& tensor, const BoltValueInfo& info) {
  throw Error("bolt: input \"" + std::string(info.name) + "\" of partition \"" + node + "\" has type " +
              std::to_string(tensor.dtype) + " and dims " +
              DimsText(tensor.dims, static_cast<size_t>(tensor.rank)) + "; it was compiled for type " +
              std::to_string(info.dtype) + " and dims " +
              DimsText(info.dims, static_cast<size_t>(info.rank)) + " (ONNX type numbers, ? is any)");
}

}  // namespace

StreamHandle& SessionState::OwnStream() {
  std::call_once(made_, [&] { stream_ = std::make_unique<StreamHandle>(*device); });
  return *stream_;
}

Kernel::Kernel(const ort::Api& api, std::string name, std::unique_ptr<const Module> module, Wiring wiring,
               std::shared_ptr<SessionState> session)
    : ort::OrtNodeComputeInfo{},
      api_(api),
      name_(std::move(name)),
      module_(std::move(module)),
      wiring_(std::move(wiring)),
      session_(std::move(session)) {
  ort_version_supported = api.struct_version;
  CreateState = [](ort::OrtNodeComputeInfo* self, ort::OrtNodeComputeContext*, void** state) noexcept {
    *state = static_cast<Kernel*>(self);
    return static_cast<ort::OrtStatus*>(nullptr);
  };
  Compute = [](ort::OrtNodeComputeInfo*, void* state, ort::OrtKernelContext* context) noexcept {
    return static_cast<const Kernel*>(state)->Run(context);
  };
  ReleaseState = [](ort::OrtNodeComputeInfo*, void*) noexcept {};
}

ort::OrtStatus* Kernel::Run(ort::OrtKernelContext* context) const noexcept {
  ort::OrtStatus* const status = Guard(api_, [&] { RunOrThrow(context); });
  if (status != nullptr && session_->capture != nullptr) session_->capture->Spoil();
  return status;
}

void Kernel::RunOrThrow(ort::OrtKernelContext* context) const {
  const BoltModuleTable& table = module_->table();
  const auto count = static_cast<size_t>(table.input_count);
  SmallArray<BoltTensor, 16> inputs(count);
  std::vector<Shape> shapes(api_.GetTensorElementTypeAndShapeDataReference == nullptr ? count : 0);
  for (size_t i = 0; i < count; ++i) {
    const ort::OrtValue* value = nullptr;
    Check(api_, api_.KernelContext_GetInput(context, wiring_.inputs[i], &value));
    Shape reference;
    Shape& shape = shapes.empty() ? reference : shapes[i];
    shape.Read(api_, value);
    inputs[i] = {nullptr, shape.dims(), static_cast<int32_t>(shape.rank()), shape.dtype()};
    if (!Fits(inputs[i], table.inputs[i])) ThrowMisfit(name_, inputs[i], table.inputs[i]);
    Check(api_, api_.GetTensorData(value, &inputs[i].data));
  }
  if (session_->device == nullptr) {
    CpuCall call(*this, context);
    return Invoke(inputs.data(), &call);
  }
  GpuCall call(*this, context);
  Invoke(inputs.data(), &call);
  call.Finish();
}

void Kernel::Invoke(const BoltTensor* inputs, Call* call) const {
  const BoltContext lent = call->Context();
  char error[kModuleErrorBytes];
  error[0] = '\0';
  const int32_t failed = module_->table().run(module_->instance(), inputs, &lent, error, sizeof(error));
  Check(api_, call->TakeStatus());
  if (failed != 0) throw Error("bolt: partition \"" + name_ + "\" failed: " + error);
}

}  // namespace bolt
