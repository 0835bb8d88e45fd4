#include "kernel.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "status.h"

namespace bolt {
namespace {

// Chunks per thread: enough to even out unequal chunks, few enough that claiming them stays cheap.
constexpr size_t kBatchesPerThread = 16;

// Of int64, the largest type a module can hand out.
constexpr size_t kMaxElementBytes = 8;

alignas(64) char kNothing;

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

// One call of a module's `run`: the host behind its BoltContext.
class Call {
 public:
  Call(const Kernel& kernel, ort::OrtKernelContext* context) noexcept
      : kernel_(kernel), api_(kernel.api()), context_(context) {}

  ~Call() {
    if (workspace_.data() != nullptr) kernel_.session().workspaces.Give(std::move(workspace_));
    for (Buffer& buffer : dropped_) kernel_.session().workspaces.Give(std::move(buffer));
    if (status_ != nullptr) api_.ReleaseStatus(status_);
  }

  BoltContext Context() noexcept {
    threads_ = kernel_.session().threads.Get(api_, context_);
    return {.host = this,
            .threads = threads_,
            .reserved = 0,
            .parallel_for = ParallelFor,
            .workspace = Workspace,
            .output = Output,
            .stream = nullptr,
            .tick = nullptr};
  }

  // The first failure of a callback, if any.
  ort::OrtStatus* TakeStatus() noexcept { return std::exchange(status_, nullptr); }

 private:
  static void ParallelFor(void* host, void (*fn)(void*, size_t), size_t count, void* arg) noexcept {
    auto& call = *static_cast<Call*>(host);
    const size_t batches = std::min(count, kBatchesPerThread * static_cast<size_t>(call.threads_));
    call.Keep(call.api_.KernelContext_ParallelFor(call.context_, fn, count, batches, arg));
  }

  static void* Workspace(void* host, size_t bytes) noexcept {
    auto& call = *static_cast<Call*>(host);
    if (call.workspace_.data() == nullptr) call.workspace_ = call.kernel_.session().workspaces.Take(bytes);
    return call.workspace_.bytes() >= bytes ? call.workspace_.data() : nullptr;
  }

  static void* Output(void* host, int32_t index, const int64_t* dims, int32_t rank) noexcept {
    auto& call = *static_cast<Call*>(host);
    const BoltModuleTable& table = call.kernel_.module().table();
    // ONNX Runtime does not check the index itself.
    if (index < 0 || index >= table.output_count || rank != table.outputs[index].rank) {
      call.Keep(Fail(call.api_, "bolt: a module asked for an output that it does not have"));
      return nullptr;
    }
    const size_t i = call.kernel_.wiring().outputs[static_cast<size_t>(index)];
    return i == Wiring::kDropped ? call.DroppedOutput(table.outputs[index], dims)
                                 : call.RealOutput(i, dims, rank);
  }

  void* RealOutput(size_t index, const int64_t* dims, int32_t rank) noexcept {
    ort::OrtValue* value = nullptr;
    void* data = nullptr;
    const auto n = static_cast<size_t>(rank);
    if (!Keep(api_.KernelContext_GetOutput(context_, index, dims, n, &value))) return nullptr;
    if (!Keep(api_.GetTensorMutableData(value, &data))) return nullptr;
    // ONNX Runtime has no memory for a tensor without elements, but null would tell the module of a failure.
    return data != nullptr ? data : &kNothing;
  }

  // Memory for an output that nobody reads.
  void* DroppedOutput(const BoltValueInfo& info, const int64_t* dims) noexcept {
    size_t bytes = kMaxElementBytes;
    for (int32_t i = 0; i < info.rank; ++i) bytes *= static_cast<size_t>(dims[i]);
    try {
      return dropped_.emplace_back(kernel_.session().workspaces.Take(bytes)).data();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }

  // Whether the status is a success; keeps the first that is not.
  bool Keep(ort::OrtStatus* status) noexcept {
    if (status == nullptr) return true;
    if (status_ == nullptr) {
      status_ = status;
    } else {
      api_.ReleaseStatus(status);
    }
    return false;
  }

  const Kernel& kernel_;
  const ort::Api& api_;
  ort::OrtKernelContext* const context_;
  int32_t threads_ = 1;
  Buffer workspace_;
  std::vector<Buffer> dropped_;
  ort::OrtStatus* status_ = nullptr;
};

// A tensor's element type and dims. Before 1.24 the dims have to be copied, into `storage`.
void ReadShape(const ort::Api& api, const ort::OrtValue* value, std::vector<int64_t>* storage,
               BoltTensor* tensor) {
  ort::Enum dtype = 0;
  size_t rank = 0;
  if (api.GetTensorElementTypeAndShapeDataReference != nullptr) {
    Check(api, api.GetTensorElementTypeAndShapeDataReference(value, &dtype, &tensor->dims, &rank));
  } else {
    ort::OrtTensorTypeAndShapeInfo* info = nullptr;
    Check(api, api.GetTensorTypeAndShape(value, &info));
    const std::unique_ptr<ort::OrtTensorTypeAndShapeInfo, ort::ReleaseTensorTypeAndShapeInfoFn> owner(
        info, api.ReleaseTensorTypeAndShapeInfo);
    Check(api, api.GetTensorElementType(info, &dtype));
    Check(api, api.GetDimensionsCount(info, &rank));
    storage->resize(rank);
    Check(api, api.GetDimensions(info, storage->data(), rank));
    tensor->dims = storage->data();
  }
  tensor->rank = static_cast<int32_t>(rank);
  tensor->dtype = dtype;
}

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
  return Guard(api_, [&] { RunOrThrow(context); });
}

void Kernel::RunOrThrow(ort::OrtKernelContext* context) const {
  const BoltModuleTable& table = module_->table();
  const auto count = static_cast<size_t>(table.input_count);
  SmallArray<BoltTensor, 16> inputs(count);
  std::vector<std::vector<int64_t>> dims(api_.GetTensorElementTypeAndShapeDataReference == nullptr ? count
                                                                                                   : 0);
  for (size_t i = 0; i < count; ++i) {
    const ort::OrtValue* value = nullptr;
    Check(api_, api_.KernelContext_GetInput(context, wiring_.inputs[i], &value));
    ReadShape(api_, value, dims.empty() ? nullptr : &dims[i], &inputs[i]);
    if (!Fits(inputs[i], table.inputs[i])) ThrowMisfit(name_, inputs[i], table.inputs[i]);
    Check(api_, api_.GetTensorData(value, &inputs[i].data));
  }
  Call call(*this, context);
  const BoltContext lent = call.Context();
  char error[kModuleErrorBytes];
  error[0] = '\0';
  const int32_t failed = table.run(module_->instance(), inputs.data(), &lent, error, sizeof(error));
  Check(api_, call.TakeStatus());
  if (failed != 0) throw Error("bolt: partition \"" + name_ + "\" failed: " + error);
}

}  // namespace bolt
