// The part of ONNX Runtime's plugin C ABI that bolt uses, declared from facts alone: slot numbers, signatures
// and field orders. No ONNX Runtime header is needed to build. tests/ep/check_abi.py proves this file against
// real headers where they are at hand; tests/ep/ort_versions.py proves it against real runtimes.
//
// ONNX Runtime only appends to its tables, so a slot number is good for every later version. `GetApi(n)`
// returns the same table for every n the runtime knows and prints an error for larger ones; we ask for the
// oldest version we support and decide by `since` which slots exist.
#ifndef BOLT_EP_ORT_ABI_H_
#define BOLT_EP_ORT_ABI_H_

#include <cstddef>
#include <cstdint>

namespace bolt::ort {

// The oldest runtime (1.x) whose tables hold everything a CPU execution provider needs.
inline constexpr uint32_t kOldestMinor = 23;
// The oldest runtime (1.x.y) with what a GPU needs: kernels of our own for copies between host and device.
inline constexpr uint32_t kOldestGpuMinor = 24;
inline constexpr uint32_t kOldestGpuPatch = 4;
// Since when graphs are captured and replayed.
inline constexpr uint32_t kOldestGraphMinor = 26;
// The version of the callback structs below.
inline constexpr uint32_t kStructVersion = 29;

struct OrtAllocator;
struct OrtApi;
struct OrtCustomOpDomain;
struct OrtDataType;
struct OrtDataTransferImpl;
struct OrtDeviceEpIncompatibilityDetails;
struct OrtEp;
struct OrtEpApi;
struct OrtEpDevice;
struct OrtEpFactory;
struct OrtEpGraphSupportInfo;
struct OrtEpProfilerImpl;
struct OrtExternalResourceImporterImpl;
struct OrtGraph;
struct OrtGraphicsInteropConfig;
struct OrtHardwareDevice;
struct OrtKernelContext;
struct OrtKernelDef;
struct OrtKernelDefBuilder;
struct OrtKernelImpl;
struct OrtKernelInfo;
struct OrtKernelRegistry;
struct OrtKeyValuePairs;
struct OrtLogger;
struct OrtMemoryDevice;
struct OrtMemoryInfo;
struct OrtNode;
struct OrtNodeComputeContext;
struct OrtNodeFusionOptions;
struct OrtOpAttr;
struct OrtResourceCount;
struct OrtRunOptions;
struct OrtSessionOptions;
struct OrtSharedPrePackedWeightCache;
struct OrtStatus;
struct OrtSyncStream;
struct OrtSyncStreamImpl;
struct OrtTensorTypeAndShapeInfo;
struct OrtTypeInfo;
struct OrtValue;
struct OrtValueInfo;

// Enums cross the ABI as int; a plain int has the same size and registers.
using Enum = int;

enum ErrorCode : Enum { kFail = 1, kInvalidArgument = 2, kNotImplemented = 9, kInvalidGraph = 10 };
enum AttributeType : Enum { kAttributeInt = 1, kAttributeString = 5 };
enum HardwareType : Enum { kHardwareCpu = 0, kHardwareGpu = 1, kHardwareNpu = 2 };
enum MemoryDeviceType : Enum { kMemoryCpu = 0, kMemoryGpu = 1 };
enum DeviceMemory : Enum { kMemoryDefault = 0, kMemoryHostAccessible = 5 };
enum AllocatorType : Enum { kDeviceAllocator = 0 };
enum MemType : Enum { kCpuInput = -2, kCpuOutput = -1 };
enum LogLevel : Enum { kLogVerbose, kLogInfo, kLogWarning, kLogError, kLogFatal };
enum Compatibility : Enum {
  kCompatibilityNotApplicable,
  kCompatibilityOptimal,
  kCompatibilityPreferRecompilation,
  kCompatibilityUnsupported
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

using ParallelForBody = void (*)(void*, size_t);
using KernelCreateFn = OrtStatus* (*)(void*, const OrtKernelInfo*, OrtKernelImpl**);

// X(slot, since 1.x, name, return type, parameters)
#define BOLT_ORT_API(X)                                                                                    \
  X(0, 23, CreateStatus, OrtStatus*, (Enum, const char*))                                                  \
  X(2, 23, GetErrorMessage, const char*, (const OrtStatus*))                                               \
  X(51, 23, GetTensorMutableData, OrtStatus*, (OrtValue*, void**))                                         \
  X(55, 23, CastTypeInfoToTensorInfo, OrtStatus*, (const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**)) \
  X(60, 23, GetTensorElementType, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, Enum*))                   \
  X(61, 23, GetDimensionsCount, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t*))                   \
  X(62, 23, GetDimensions, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t*, size_t))               \
  X(65, 23, GetTensorTypeAndShape, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo**))             \
  X(90, 23, KernelContext_GetInput, OrtStatus*, (const OrtKernelContext*, size_t, const OrtValue**))       \
  X(91, 23, KernelContext_GetOutput, OrtStatus*,                                                           \
    (OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**))                                       \
  X(93, 23, ReleaseStatus, void, (OrtStatus*))                                                             \
  X(94, 23, ReleaseMemoryInfo, void, (OrtMemoryInfo*))                                                     \
  X(99, 23, ReleaseTensorTypeAndShapeInfo, void, (OrtTensorTypeAndShapeInfo*))                             \
  X(193, 23, KernelContext_GetGPUComputeStream, OrtStatus*, (const OrtKernelContext*, void**))             \
  X(194, 23, GetTensorMemoryInfo, OrtStatus*, (const OrtValue*, const OrtMemoryInfo**))                    \
  X(237, 23, HasSessionConfigEntry, OrtStatus*, (const OrtSessionOptions*, const char*, int*))             \
  X(238, 23, GetSessionConfigEntry, OrtStatus*, (const OrtSessionOptions*, const char*, char*, size_t*))   \
  X(247, 23, Logger_LogMessage, OrtStatus*,                                                                \
    (const OrtLogger*, Enum, const char*, const char*, int, const char*))                                  \
  X(272, 23, ReadOpAttr, OrtStatus*, (const OrtOpAttr*, Enum, void*, size_t, size_t*))                     \
  X(274, 23, KernelContext_ParallelFor, OrtStatus*,                                                        \
    (const OrtKernelContext*, ParallelForBody, size_t, size_t, void*))                                     \
  X(289, 23, GetValueInfoName, OrtStatus*, (const OrtValueInfo*, const char**))                            \
  X(290, 23, GetValueInfoTypeInfo, OrtStatus*, (const OrtValueInfo*, const OrtTypeInfo**))                 \
  X(295, 23, CreateKeyValuePairs, void, (OrtKeyValuePairs**))                                              \
  X(296, 23, AddKeyValuePair, void, (OrtKeyValuePairs*, const char*, const char*))                         \
  X(297, 23, GetKeyValue, const char*, (const OrtKeyValuePairs*, const char*))                             \
  X(298, 23, GetKeyValuePairs, void,                                                                       \
    (const OrtKeyValuePairs*, const char* const**, const char* const**, size_t*))                          \
  X(300, 23, ReleaseKeyValuePairs, void, (OrtKeyValuePairs*))                                              \
  X(307, 23, HardwareDevice_Type, Enum, (const OrtHardwareDevice*))                                        \
  X(308, 23, HardwareDevice_VendorId, uint32_t, (const OrtHardwareDevice*))                                \
  X(311, 23, HardwareDevice_Metadata, const OrtKeyValuePairs*, (const OrtHardwareDevice*))                 \
  X(317, 23, GetEpApi, const OrtEpApi*, ())                                                                \
  X(318, 23, GetTensorSizeInBytes, OrtStatus*, (const OrtValue*, size_t*))                                 \
  X(320, 23, CreateMemoryInfo_V2, OrtStatus*,                                                              \
    (const char*, Enum, uint32_t, int32_t, Enum, size_t, Enum, OrtMemoryInfo**))                           \
  X(334, 23, Graph_GetModelPath, OrtStatus*, (const OrtGraph*, const char**))                              \
  X(344, 23, Graph_GetNumNodes, OrtStatus*, (const OrtGraph*, size_t*))                                    \
  X(345, 23, Graph_GetNodes, OrtStatus*, (const OrtGraph*, const OrtNode**, size_t))                       \
  X(349, 23, Node_GetName, OrtStatus*, (const OrtNode*, const char**))                                     \
  X(350, 23, Node_GetOperatorType, OrtStatus*, (const OrtNode*, const char**))                             \
  X(351, 23, Node_GetDomain, OrtStatus*, (const OrtNode*, const char**))                                   \
  X(353, 23, Node_GetNumInputs, OrtStatus*, (const OrtNode*, size_t*))                                     \
  X(354, 23, Node_GetInputs, OrtStatus*, (const OrtNode*, const OrtValueInfo**, size_t))                   \
  X(355, 23, Node_GetNumOutputs, OrtStatus*, (const OrtNode*, size_t*))                                    \
  X(356, 23, Node_GetOutputs, OrtStatus*, (const OrtNode*, const OrtValueInfo**, size_t))                  \
  X(361, 23, Node_GetAttributeByName, OrtStatus*, (const OrtNode*, const char*, const OrtOpAttr**))        \
  X(373, 23, GetRunConfigEntry, const char*, (const OrtRunOptions*, const char*))                          \
  X(378, 23, GetTensorData, OrtStatus*, (const OrtValue*, const void**))                                   \
  X(379, 23, GetSessionOptionsConfigEntries, OrtStatus*, (const OrtSessionOptions*, OrtKeyValuePairs**))   \
  X(384, 23, SyncStream_GetHandle, void*, (OrtSyncStream*))                                                \
  X(414, 24, GetTensorElementTypeAndShapeDataReference, OrtStatus*,                                        \
    (const OrtValue*, Enum*, const int64_t**, size_t*))                                                    \
  X(423, 28, KernelContext_GetSyncStream, OrtStatus*, (const OrtKernelContext*, OrtSyncStream**))

#define BOLT_ORT_EP_API(X)                                                                          \
  X(0, 23, CreateEpDevice, OrtStatus*,                                                              \
    (OrtEpFactory*, const OrtHardwareDevice*, const OrtKeyValuePairs*, const OrtKeyValuePairs*,     \
     OrtEpDevice**))                                                                                \
  X(1, 23, ReleaseEpDevice, void, (OrtEpDevice*))                                                   \
  X(2, 23, EpGraphSupportInfo_AddNodesToFuse, OrtStatus*,                                           \
    (OrtEpGraphSupportInfo*, const OrtNode* const*, size_t, const OrtNodeFusionOptions*))           \
  X(5, 23, EpDevice_AddAllocatorInfo, OrtStatus*, (OrtEpDevice*, const OrtMemoryInfo*))             \
  X(6, 23, MemoryInfo_GetMemoryDevice, const OrtMemoryDevice*, (const OrtMemoryInfo*))              \
  X(7, 23, Value_GetMemoryDevice, const OrtMemoryDevice*, (const OrtValue*))                        \
  X(8, 23, MemoryDevice_AreEqual, bool, (const OrtMemoryDevice*, const OrtMemoryDevice*))           \
  X(9, 23, MemoryDevice_GetDeviceType, Enum, (const OrtMemoryDevice*))                              \
  X(10, 23, MemoryDevice_GetMemoryType, Enum, (const OrtMemoryDevice*))                             \
  X(11, 23, MemoryDevice_GetVendorId, uint32_t, (const OrtMemoryDevice*))                           \
  X(12, 23, MemoryDevice_GetDeviceId, uint32_t, (const OrtMemoryDevice*))                           \
  X(13, 23, SyncStream_GetImpl, const OrtSyncStreamImpl*, (const OrtSyncStream*))                   \
  X(16, 24, CreateHardwareDevice, OrtStatus*,                                                       \
    (Enum, uint32_t, uint32_t, const char*, const OrtKeyValuePairs*, OrtHardwareDevice**))          \
  X(17, 24, ReleaseHardwareDevice, void, (OrtHardwareDevice*))                                      \
  X(18, 24, CreateKernelRegistry, OrtStatus*, (OrtKernelRegistry**))                                \
  X(19, 24, ReleaseKernelRegistry, void, (OrtKernelRegistry*))                                      \
  X(20, 24, KernelRegistry_AddKernel, OrtStatus*,                                                   \
    (OrtKernelRegistry*, const OrtKernelDef*, KernelCreateFn, void*))                               \
  X(21, 24, CreateKernelDefBuilder, OrtStatus*, (OrtKernelDefBuilder**))                            \
  X(22, 24, ReleaseKernelDefBuilder, void, (OrtKernelDefBuilder*))                                  \
  X(23, 24, KernelDefBuilder_SetOperatorType, OrtStatus*, (OrtKernelDefBuilder*, const char*))      \
  X(24, 24, KernelDefBuilder_SetDomain, OrtStatus*, (OrtKernelDefBuilder*, const char*))            \
  X(25, 24, KernelDefBuilder_SetSinceVersion, OrtStatus*, (OrtKernelDefBuilder*, int, int))         \
  X(26, 24, KernelDefBuilder_SetExecutionProvider, OrtStatus*, (OrtKernelDefBuilder*, const char*)) \
  X(27, 24, KernelDefBuilder_SetInputMemType, OrtStatus*, (OrtKernelDefBuilder*, size_t, Enum))     \
  X(28, 24, KernelDefBuilder_SetOutputMemType, OrtStatus*, (OrtKernelDefBuilder*, size_t, Enum))    \
  X(29, 24, KernelDefBuilder_AddTypeConstraint, OrtStatus*,                                         \
    (OrtKernelDefBuilder*, const char*, const OrtDataType* const*, size_t))                         \
  X(32, 24, KernelDefBuilder_Build, OrtStatus*, (OrtKernelDefBuilder*, OrtKernelDef**))             \
  X(33, 24, ReleaseKernelDef, void, (OrtKernelDef*))                                                \
  X(40, 24, GetTensorDataType, OrtStatus*, (Enum, const OrtDataType**))

#define BOLT_ORT_DECLARE(slot, since, name, ret, params) using name##Fn = ret(*) params;
BOLT_ORT_API(BOLT_ORT_DECLARE)
BOLT_ORT_EP_API(BOLT_ORT_DECLARE)
#undef BOLT_ORT_DECLARE

// The resolved functions of one runtime. Functions newer than the runtime are null.
struct Api {
#define BOLT_ORT_MEMBER(slot, since, name, ret, params) name##Fn name = nullptr;
  BOLT_ORT_API(BOLT_ORT_MEMBER)
  BOLT_ORT_EP_API(BOLT_ORT_MEMBER)
#undef BOLT_ORT_MEMBER
  uint32_t minor = 0;  // of the runtime: 31 for 1.31.1
  uint32_t patch = 0;  // 1 for 1.31.1
  // What goes into every `ort_version_supported`: 1.26.0 rejects values above its own.
  uint32_t struct_version = 0;
};

// The number that starts at `*text`, which is moved behind it.
inline uint32_t ReadNumber(const char** text) noexcept {
  uint32_t number = 0;
  for (; **text >= '0' && **text <= '9'; ++*text) number = number * 10 + static_cast<uint32_t>(**text - '0');
  return number;
}

// Minor and patch number of "1.31.1"; zeros when the text is not a version 1.x.
inline void ReadVersion(const char* version, Api* api) noexcept {
  if (version[0] != '1' || version[1] != '.') return;
  version += 2;
  api->minor = ReadNumber(&version);
  if (*version == '.') api->patch = ReadNumber(&++version);
}

inline bool HasGpuSupport(const Api& api) noexcept {
  return api.minor > kOldestGpuMinor || (api.minor == kOldestGpuMinor && api.patch >= kOldestGpuPatch);
}

// Resolves every function; false when the runtime is too old (or not 1.x) to be used at all.
inline bool Resolve(const OrtApiBase* base, Api* api) noexcept {
  ReadVersion(base->GetVersionString(), api);
  api->struct_version = api->minor < kStructVersion ? api->minor : kStructVersion;
  if (api->minor < kOldestMinor) return false;
  const void* table = base->GetApi(kOldestMinor);
  if (table == nullptr) return false;
  auto slots = static_cast<void* const*>(table);
#define BOLT_ORT_RESOLVE(slot, since, name, ret, params) \
  if (api->minor >= since) api->name = reinterpret_cast<name##Fn>(slots[slot]);
  BOLT_ORT_API(BOLT_ORT_RESOLVE)
  slots = static_cast<void* const*>(static_cast<const void*>(api->GetEpApi()));
  BOLT_ORT_EP_API(BOLT_ORT_RESOLVE)
#undef BOLT_ORT_RESOLVE
  return true;
}

// The structs an execution provider fills in. Append-only; the comments say since when the fields above them
// exist.

struct OrtNodeFusionOptions {
  uint32_t ort_version_supported;
  bool drop_constant_initializers;
};

struct OrtNodeComputeInfo {
  uint32_t ort_version_supported;
  OrtStatus* (*CreateState)(OrtNodeComputeInfo*, OrtNodeComputeContext*, void**);
  OrtStatus* (*Compute)(OrtNodeComputeInfo*, void*, OrtKernelContext*);
  void (*ReleaseState)(OrtNodeComputeInfo*, void*);
};

struct OrtKernelImpl {
  uint32_t ort_version_supported;
  uint32_t flags;
  OrtStatus* (*Compute)(OrtKernelImpl*, OrtKernelContext*);
  void (*Release)(OrtKernelImpl*);
  OrtStatus* (*PrePackWeight)(OrtKernelImpl*, const OrtValue*, int, OrtAllocator*,
                              OrtSharedPrePackedWeightCache*, bool*);
  OrtStatus* (*SetSharedPrePackedWeight)(OrtKernelImpl*, const void* const*, const size_t*, size_t,
                                         int);  // 1.24
};

struct OrtAllocator {
  uint32_t version;
  void* (*Alloc)(OrtAllocator*, size_t);
  void (*Free)(OrtAllocator*, void*);
  const OrtMemoryInfo* (*Info)(const OrtAllocator*);
  void* (*Reserve)(OrtAllocator*, size_t);
  OrtStatus* (*GetStats)(const OrtAllocator*, OrtKeyValuePairs**);
  void* (*AllocOnStream)(OrtAllocator*, size_t, OrtSyncStream*);  // 1.23
  OrtStatus* (*Shrink)(OrtAllocator*);                            // 1.25
};

struct OrtDataTransferImpl {
  uint32_t ort_version_supported;
  void (*Release)(OrtDataTransferImpl*);
  bool (*CanCopy)(const OrtDataTransferImpl*, const OrtMemoryDevice*, const OrtMemoryDevice*);
  OrtStatus* (*CopyTensors)(OrtDataTransferImpl*, const OrtValue**, OrtValue**, OrtSyncStream**, size_t);
};

struct OrtSyncNotificationImpl {
  uint32_t ort_version_supported;
  void (*Release)(OrtSyncNotificationImpl*);
  OrtStatus* (*Activate)(OrtSyncNotificationImpl*);
  OrtStatus* (*WaitOnDevice)(OrtSyncNotificationImpl*, OrtSyncStream*);
  OrtStatus* (*WaitOnHost)(OrtSyncNotificationImpl*);
};

struct OrtSyncStreamImpl {
  uint32_t ort_version_supported;
  void (*Release)(OrtSyncStreamImpl*);
  void* (*GetHandle)(OrtSyncStreamImpl*);
  OrtStatus* (*CreateNotification)(OrtSyncStreamImpl*, OrtSyncNotificationImpl**);
  OrtStatus* (*Flush)(OrtSyncStreamImpl*);
  OrtStatus* (*OnSessionRunEnd)(OrtSyncStreamImpl*);
};

struct OrtEp {
  uint32_t ort_version_supported;
  const char* (*GetName)(const OrtEp*);
  OrtStatus* (*GetCapability)(OrtEp*, const OrtGraph*, OrtEpGraphSupportInfo*);
  OrtStatus* (*Compile)(OrtEp*, const OrtGraph**, const OrtNode**, size_t, OrtNodeComputeInfo**, OrtNode**);
  void (*ReleaseNodeComputeInfos)(OrtEp*, OrtNodeComputeInfo**, size_t);
  OrtStatus* (*GetPreferredDataLayout)(OrtEp*, Enum*);
  OrtStatus* (*ShouldConvertDataLayoutForOp)(OrtEp*, const char*, const char*, Enum, int*);
  OrtStatus* (*SetDynamicOptions)(OrtEp*, const char* const*, const char* const*, size_t);
  OrtStatus* (*OnRunStart)(OrtEp*, const OrtRunOptions*);
  OrtStatus* (*OnRunEnd)(OrtEp*, const OrtRunOptions*, bool);
  OrtStatus* (*CreateAllocator)(OrtEp*, const OrtMemoryInfo*, OrtAllocator**);
  OrtStatus* (*CreateSyncStreamForDevice)(OrtEp*, const OrtMemoryDevice*, OrtSyncStreamImpl**);
  const char* (*GetCompiledModelCompatibilityInfo)(OrtEp*, const OrtGraph*);  // 1.23
  OrtStatus* (*GetKernelRegistry)(OrtEp*, const OrtKernelRegistry**);
  OrtStatus* (*IsConcurrentRunSupported)(OrtEp*, bool*);  // 1.24
  OrtStatus* (*Sync)(OrtEp*);
  OrtStatus* (*CreateProfiler)(OrtEp*, OrtEpProfilerImpl**);  // 1.25
  bool (*IsGraphCaptureEnabled)(const OrtEp*);
  bool (*IsGraphCaptured)(const OrtEp*, int);
  OrtStatus* (*ReplayGraph)(OrtEp*, int);
  Enum (*GetGraphCaptureNodeAssignmentPolicy)(const OrtEp*);
  OrtStatus* (*GetAvailableResource)(const OrtEp*, OrtResourceCount*);  // 1.26
  OrtStatus* (*OnSessionInitializationEnd)(OrtEp*);
  OrtStatus* (*GetDefaultMemoryDevice)(const OrtEp*, const OrtMemoryDevice**);
  OrtStatus* (*ReleaseCapturedGraph)(OrtEp*, int);          // 1.27
  OrtStatus* (*GetWeightlessSupport)(const OrtEp*, Enum*);  // 1.29
};

struct OrtEpFactory {
  uint32_t ort_version_supported;
  const char* (*GetName)(const OrtEpFactory*);
  const char* (*GetVendor)(const OrtEpFactory*);
  OrtStatus* (*GetSupportedDevices)(OrtEpFactory*, const OrtHardwareDevice* const*, size_t, OrtEpDevice**,
                                    size_t, size_t*);
  OrtStatus* (*CreateEp)(OrtEpFactory*, const OrtHardwareDevice* const*, const OrtKeyValuePairs* const*,
                         size_t, const OrtSessionOptions*, const OrtLogger*, OrtEp**);
  void (*ReleaseEp)(OrtEpFactory*, OrtEp*);
  uint32_t (*GetVendorId)(const OrtEpFactory*);
  const char* (*GetVersion)(const OrtEpFactory*);
  OrtStatus* (*ValidateCompiledModelCompatibilityInfo)(OrtEpFactory*, const OrtHardwareDevice* const*, size_t,
                                                       const char*, Enum*);
  OrtStatus* (*CreateAllocator)(OrtEpFactory*, const OrtMemoryInfo*, const OrtKeyValuePairs*, OrtAllocator**);
  void (*ReleaseAllocator)(OrtEpFactory*, OrtAllocator*);
  OrtStatus* (*CreateDataTransfer)(OrtEpFactory*, OrtDataTransferImpl**);
  bool (*IsStreamAware)(const OrtEpFactory*);
  OrtStatus* (*CreateSyncStreamForDevice)(OrtEpFactory*, const OrtMemoryDevice*, const OrtKeyValuePairs*,
                                          OrtSyncStreamImpl**);  // 1.23
  OrtStatus* (*GetHardwareDeviceIncompatibilityDetails)(OrtEpFactory*, const OrtHardwareDevice*,
                                                        OrtDeviceEpIncompatibilityDetails*);
  OrtStatus* (*CreateExternalResourceImporterForDevice)(OrtEpFactory*, const OrtEpDevice*,
                                                        OrtExternalResourceImporterImpl**);
  OrtStatus* (*GetNumCustomOpDomains)(OrtEpFactory*, size_t*);
  OrtStatus* (*GetCustomOpDomains)(OrtEpFactory*, OrtCustomOpDomain**, size_t);  // 1.24
  OrtStatus* (*InitGraphicsInterop)(OrtEpFactory*, const OrtEpDevice*, const OrtGraphicsInteropConfig*);
  OrtStatus* (*DeinitGraphicsInterop)(OrtEpFactory*, const OrtEpDevice*);  // 1.25
  OrtStatus* (*SelectBestModelCandidate)(OrtEpFactory*, const OrtHardwareDevice*,
                                         const OrtKeyValuePairs* const*, size_t, const OrtSessionOptions*,
                                         size_t*);  // 1.28
};

}  // namespace bolt::ort

#endif  // BOLT_EP_ORT_ABI_H_
