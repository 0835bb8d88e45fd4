#include "transfer.h"

#include <memory>
#include <utility>
#include <vector>

#include "capture.h"
#include "shape.h"
#include "status.h"

namespace bolt {
namespace {

// ONNX element types that tensors of today can have; a runtime refuses those it does not know.
constexpr ort::Enum kFirstElementType = 1;
constexpr ort::Enum kLastElementType = 26;
constexpr ort::Enum kStringType = 8;

// A replay would read and write the host memory of the run that was captured, which is gone by then.
void RefuseInGraph() {
  Capture* const capture = Capture::Current();
  if (capture == nullptr) return;
  capture->Spoil();
  throw Error(
      "bolt: a run that is captured as a CUDA graph needs all its inputs and outputs in GPU memory; bind "
      "them "
      "there by I/O binding, or do without the option cuda_graph");
}

class MemcpyKernel : public ort::OrtKernelImpl {
 public:
  MemcpyKernel(const ort::Api& api, Device* device) : ort::OrtKernelImpl{}, api_(api), device_(*device) {
    ort_version_supported = api.struct_version;
    Compute = [](ort::OrtKernelImpl* self, ort::OrtKernelContext* context) noexcept {
      const auto& kernel = *static_cast<MemcpyKernel*>(self);
      return Guard(kernel.api_, [&] { kernel.Copy(context); });
    };
    Release = [](ort::OrtKernelImpl* self) noexcept { delete static_cast<MemcpyKernel*>(self); };
  }

 private:
  void Copy(ort::OrtKernelContext* context) const {
    RefuseInGraph();
    const ort::OrtValue* from = nullptr;
    ort::OrtValue* to = nullptr;
    Check(api_, api_.KernelContext_GetInput(context, 0, &from));
    const Shape shape(api_, from);
    Check(api_, api_.KernelContext_GetOutput(context, 0, shape.dims(), shape.rank(), &to));
    const void* source = nullptr;
    void* target = nullptr;
    void* stream = nullptr;
    size_t bytes = 0;
    Check(api_, api_.GetTensorSizeInBytes(from, &bytes));
    Check(api_, api_.GetTensorData(from, &source));
    Check(api_, api_.GetTensorMutableData(to, &target));
    Check(api_, api_.KernelContext_GetGPUComputeStream(context, &stream));
    bolt::Copy(device_, target, source, bytes, static_cast<cuda::Stream*>(stream));
  }

  const ort::Api& api_;
  Device& device_;
};

std::vector<const ort::OrtDataType*> AllTypes(const ort::Api& api) {
  std::vector<const ort::OrtDataType*> types;
  for (ort::Enum type = kFirstElementType; type <= kLastElementType; ++type) {
    const ort::OrtDataType* found = nullptr;
    if (type == kStringType) continue;
    if (ort::OrtStatus* status = api.GetTensorDataType(type, &found)) {
      api.ReleaseStatus(status);
    } else if (found != nullptr) {
      types.push_back(found);
    }
  }
  return types;
}

using Builder = std::unique_ptr<ort::OrtKernelDefBuilder, ort::ReleaseKernelDefBuilderFn>;
using Definition = std::unique_ptr<ort::OrtKernelDef, ort::ReleaseKernelDefFn>;

Definition Define(const ort::Api& api, const char* op_type, const char* provider, bool to_host) {
  ort::OrtKernelDefBuilder* raw = nullptr;
  Check(api, api.CreateKernelDefBuilder(&raw));
  const Builder builder(raw, api.ReleaseKernelDefBuilder);
  const std::vector<const ort::OrtDataType*> types = AllTypes(api);
  Check(api, api.KernelDefBuilder_SetOperatorType(raw, op_type));
  Check(api, api.KernelDefBuilder_SetDomain(raw, ""));
  Check(api, api.KernelDefBuilder_SetSinceVersion(raw, 1, 1));
  Check(api, api.KernelDefBuilder_SetExecutionProvider(raw, provider));
  Check(api, api.KernelDefBuilder_AddTypeConstraint(raw, "T", types.data(), types.size()));
  Check(api, to_host ? api.KernelDefBuilder_SetOutputMemType(raw, 0, ort::kCpuOutput)
                     : api.KernelDefBuilder_SetInputMemType(raw, 0, ort::kCpuInput));
  ort::OrtKernelDef* definition = nullptr;
  Check(api, api.KernelDefBuilder_Build(raw, &definition));
  return Definition(definition, api.ReleaseKernelDef);
}

}  // namespace

MemcpyKernels::MemcpyKernels(const ort::Api& api, Device* device, const char* provider)
    : api_(api), device_(device) {
  ort::OrtKernelRegistry* raw = nullptr;
  Check(api, api.CreateKernelRegistry(&raw));
  std::unique_ptr<ort::OrtKernelRegistry, ort::ReleaseKernelRegistryFn> registry(raw,
                                                                                 api.ReleaseKernelRegistry);
  for (const bool to_host : {false, true}) {
    const Definition definition = Define(api, to_host ? "MemcpyToHost" : "MemcpyFromHost", provider, to_host);
    Check(api, api.KernelRegistry_AddKernel(raw, definition.get(), Make, this));
  }
  registry_ = registry.release();
}

ort::OrtStatus* MemcpyKernels::Make(void* kernels, const ort::OrtKernelInfo*,
                                    ort::OrtKernelImpl** kernel) noexcept {
  const auto& it = *static_cast<const MemcpyKernels*>(kernels);
  return Guard(it.api_, [&] { *kernel = std::make_unique<MemcpyKernel>(it.api_, it.device_).release(); });
}

DataTransfer::DataTransfer(const ort::Api& api) : ort::OrtDataTransferImpl{}, api_(api) {
  ort_version_supported = api.struct_version;
  Release = [](ort::OrtDataTransferImpl* self) noexcept { delete static_cast<DataTransfer*>(self); };
  CanCopy = [](const ort::OrtDataTransferImpl* self, const ort::OrtMemoryDevice* from,
               const ort::OrtMemoryDevice* to) noexcept {
    const auto& it = *static_cast<const DataTransfer*>(self);
    return it.IsOursOrHost(from) && it.IsOursOrHost(to) && (it.IsOurs(from) || it.IsOurs(to));
  };
  CopyTensors = [](ort::OrtDataTransferImpl* self, const ort::OrtValue** from, ort::OrtValue** to,
                   ort::OrtSyncStream** streams, size_t count) noexcept {
    const auto& it = *static_cast<DataTransfer*>(self);
    return Guard(it.api_, [&] {
      for (size_t i = 0; i < count; ++i) it.Copy(from[i], to[i], streams == nullptr ? nullptr : streams[i]);
    });
  };
}

bool DataTransfer::IsOurs(const ort::OrtMemoryDevice* memory) const noexcept {
  return api_.MemoryDevice_GetDeviceType(memory) == ort::kMemoryGpu &&
         api_.MemoryDevice_GetVendorId(memory) == kNvidia &&
         api_.MemoryDevice_GetDeviceId(memory) < AllDevices().list.size();
}

bool DataTransfer::IsOnDevice(const ort::OrtMemoryDevice* memory) const noexcept {
  return IsOurs(memory) && api_.MemoryDevice_GetMemoryType(memory) == ort::kMemoryDefault;
}

bool DataTransfer::IsOursOrHost(const ort::OrtMemoryDevice* memory) const noexcept {
  return api_.MemoryDevice_GetDeviceType(memory) == ort::kMemoryCpu || IsOurs(memory);
}

void DataTransfer::Copy(const ort::OrtValue* from, ort::OrtValue* to, ort::OrtSyncStream* stream) const {
  const ort::OrtMemoryDevice* const target_memory = api_.Value_GetMemoryDevice(to);
  const ort::OrtMemoryDevice* const source_memory = api_.Value_GetMemoryDevice(from);
  if (!IsOnDevice(target_memory) || !IsOnDevice(source_memory)) RefuseInGraph();
  const ort::OrtMemoryDevice* const side = IsOurs(target_memory) ? target_memory : source_memory;
  Device& device = *AllDevices().list.at(api_.MemoryDevice_GetDeviceId(side));
  size_t bytes = 0;
  const void* source = nullptr;
  void* target = nullptr;
  Check(api_, api_.GetTensorSizeInBytes(from, &bytes));
  Check(api_, api_.GetTensorData(from, &source));
  Check(api_, api_.GetTensorMutableData(to, &target));
  void* const handle = stream == nullptr ? nullptr : api_.SyncStream_GetHandle(stream);
  bolt::Copy(device, target, source, bytes, static_cast<cuda::Stream*>(handle));
}

}  // namespace bolt
