#include "call.h"

#include <algorithm>
#include <new>

#include "status.h"

namespace bolt {
namespace {

// Chunks per thread: enough to even out unequal chunks, few enough that claiming them stays cheap.
constexpr size_t kBatchesPerThread = 16;

// Of int64, the largest type a module can hand out.
constexpr size_t kMaxElementBytes = 8;

alignas(256) char kNothing;

}  // namespace

Call::~Call() {
  if (status_ != nullptr) api_.ReleaseStatus(status_);
}

void* Call::Workspace(void* host, size_t bytes) noexcept { return static_cast<Call*>(host)->Lend(bytes); }

void* Call::Output(void* host, int32_t index, const int64_t* dims, int32_t rank) noexcept {
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

void* Call::RealOutput(size_t index, const int64_t* dims, int32_t rank) noexcept {
  ort::OrtValue* value = nullptr;
  void* data = nullptr;
  const auto n = static_cast<size_t>(rank);
  if (!Keep(api_.KernelContext_GetOutput(context_, index, dims, n, &value))) return nullptr;
  if (!Keep(api_.GetTensorMutableData(value, &data))) return nullptr;
  // ONNX Runtime has no memory for a tensor without elements, but null would tell the module of a failure.
  return data != nullptr ? data : &kNothing;
}

// Memory for an output that nobody reads.
void* Call::DroppedOutput(const BoltValueInfo& info, const int64_t* dims) noexcept {
  size_t bytes = kMaxElementBytes;
  for (int32_t i = 0; i < info.rank; ++i) bytes *= static_cast<size_t>(dims[i]);
  return bytes > 0 ? Lend(bytes) : &kNothing;
}

bool Call::Keep(ort::OrtStatus* status) noexcept {
  if (status == nullptr) return true;
  if (status_ == nullptr) {
    status_ = status;
  } else {
    api_.ReleaseStatus(status);
  }
  return false;
}

CpuCall::~CpuCall() {
  if (workspace_.data() != nullptr) kernel_.session().workspaces.Give(std::move(workspace_));
  for (Buffer& buffer : others_) kernel_.session().workspaces.Give(std::move(buffer));
}

BoltContext CpuCall::Context() noexcept {
  threads_ = kernel_.session().threads.Get(api_, context_);
  return {.host = static_cast<Call*>(this),
          .threads = threads_,
          .reserved = 0,
          .parallel_for = ParallelFor,
          .workspace = Workspace,
          .output = Output,
          .stream = nullptr,
          .tick = nullptr};
}

void CpuCall::ParallelFor(void* host, void (*fn)(void*, size_t), size_t count, void* arg) noexcept {
  auto& call = *static_cast<CpuCall*>(static_cast<Call*>(host));
  const size_t batches = std::min(count, kBatchesPerThread * static_cast<size_t>(call.threads_));
  call.Keep(call.api_.KernelContext_ParallelFor(call.context_, fn, count, batches, arg));
}

void* CpuCall::Lend(size_t bytes) noexcept {
  Buffer buffer = kernel_.session().workspaces.Take(bytes);
  if (buffer.data() == nullptr || buffer.bytes() < bytes) return nullptr;
  if (workspace_.data() == nullptr) {
    workspace_ = std::move(buffer);
    return workspace_.data();
  }
  try {
    return others_.emplace_back(std::move(buffer)).data();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

GpuCall::GpuCall(const Kernel& kernel, ort::OrtKernelContext* context)
    : Call(kernel, context), scope_(*kernel.session().device) {
  void* given = nullptr;
  Check(api_, api_.KernelContext_GetGPUComputeStream(context, &given));
  is_ours_ = given == nullptr;
  stream_ = is_ours_ ? kernel.session().OwnStream().get() : static_cast<cuda::Stream*>(given);
  CheckCapture();
}

GpuCall::~GpuCall() {
  // Whoever takes this memory next for the same stream comes after the work that is on it by now.
  for (void* data : lent_) memory().Give(data);
}

BoltContext GpuCall::Context() noexcept {
  return {.host = static_cast<Call*>(this),
          .threads = 1,
          .reserved = 0,
          .parallel_for = nullptr,
          .workspace = Workspace,
          .output = Output,
          .stream = stream_,
          .tick = nullptr};
}

void GpuCall::Finish() const {
  if (Capture* capture = kernel_.session().capture.get()) capture->Executed();
  // Nobody but us knows of a stream of ours.
  if (is_ours_) kernel_.session().OwnStream().Wait();
}

void GpuCall::CheckCapture() const {
  const Capture* capture = kernel_.session().capture.get();
  if (capture == nullptr || !capture->stream()->capturing || capture->stream()->get() == stream_) return;
  throw Error(
      "bolt: a run on a stream of the caller can't be captured as a CUDA graph; set the run option "
      "gpu_graph_id to -1 for it, or do without the option cuda_graph");
}

void* GpuCall::Lend(size_t bytes) noexcept {
  if (bytes == 0) return &kNothing;
  void* const data = memory().Take(bytes, stream_);
  if (data == nullptr) return nullptr;
  try {
    lent_.push_back(data);
  } catch (const std::bad_alloc&) {
    memory().Give(data);
    return nullptr;
  }
  return data;
}

}  // namespace bolt
