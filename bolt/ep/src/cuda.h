// The CUDA driver. The library loads on machines without one: it is looked for when a GPU is asked for, and
// what is used of it is declared here (tests/ep/test_cuda_abi.py compares with cuda.h where there is one).
#ifndef BOLT_EP_CUDA_H_
#define BOLT_EP_CUDA_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace bolt::cuda {

struct Context;
struct Event;
struct Graph;
struct GraphExec;
struct Stream;

using Result = int;  // CUresult; 0 is success
using DeviceHandle = int;
using Address = unsigned long long;  // CUdeviceptr

enum ResultCode : Result { kOutOfMemory = 2 };
enum Attribute : int { kCapabilityMajor = 75, kCapabilityMinor = 76 };
enum StreamFlag : unsigned { kNonBlocking = 1 };  // no ordering with the legacy stream
enum EventFlag : unsigned { kNoTiming = 2 };
enum HostFlag : unsigned { kPortable = 1 };  // pinned for every context
enum CaptureMode : int { kRelaxed = 2 };     // memory may be allocated while a stream is captured

// X(name, symbol, parameters). The versions are those that cuda.h of CUDA 12 and 13 gives the plain names.
#define BOLT_CUDA(X)                                                                          \
  X(Init, cuInit, (unsigned))                                                                 \
  X(GetErrorName, cuGetErrorName, (Result, const char**))                                     \
  X(GetErrorString, cuGetErrorString, (Result, const char**))                                 \
  X(DeviceGetCount, cuDeviceGetCount, (int*))                                                 \
  X(DeviceGet, cuDeviceGet, (DeviceHandle*, int))                                             \
  X(DeviceGetName, cuDeviceGetName, (char*, int, DeviceHandle))                               \
  X(DeviceGetAttribute, cuDeviceGetAttribute, (int*, int, DeviceHandle))                      \
  X(DeviceGetPciBusId, cuDeviceGetPCIBusId, (char*, int, DeviceHandle))                       \
  X(PrimaryContextRetain, cuDevicePrimaryCtxRetain, (Context**, DeviceHandle))                \
  X(ContextGetCurrent, cuCtxGetCurrent, (Context**))                                          \
  X(ContextSetCurrent, cuCtxSetCurrent, (Context*))                                           \
  X(ContextSynchronize, cuCtxSynchronize, ())                                                 \
  X(MemAlloc, cuMemAlloc_v2, (Address*, size_t))                                              \
  X(MemFree, cuMemFree_v2, (Address))                                                         \
  X(MemHostAlloc, cuMemHostAlloc, (void**, size_t, unsigned))                                 \
  X(MemFreeHost, cuMemFreeHost, (void*))                                                      \
  X(MemcpyAsync, cuMemcpyAsync, (Address, Address, size_t, Stream*))                          \
  X(StreamCreate, cuStreamCreate, (Stream**, unsigned))                                       \
  X(StreamDestroy, cuStreamDestroy_v2, (Stream*))                                             \
  X(StreamSynchronize, cuStreamSynchronize, (Stream*))                                        \
  X(StreamWaitEvent, cuStreamWaitEvent, (Stream*, Event*, unsigned))                          \
  X(StreamBeginCapture, cuStreamBeginCapture_v2, (Stream*, int))                              \
  X(StreamEndCapture, cuStreamEndCapture, (Stream*, Graph**))                                 \
  X(EventCreate, cuEventCreate, (Event**, unsigned))                                          \
  X(EventDestroy, cuEventDestroy_v2, (Event*))                                                \
  X(EventRecord, cuEventRecord, (Event*, Stream*))                                            \
  X(EventSynchronize, cuEventSynchronize, (Event*))                                           \
  X(GraphInstantiate, cuGraphInstantiateWithFlags, (GraphExec**, Graph*, unsigned long long)) \
  X(GraphLaunch, cuGraphLaunch, (GraphExec*, Stream*))                                        \
  X(GraphDestroy, cuGraphDestroy, (Graph*))                                                   \
  X(GraphExecDestroy, cuGraphExecDestroy, (GraphExec*))

struct Driver {
#define BOLT_CUDA_MEMBER(name, symbol, params) Result(*name) params = nullptr;
  BOLT_CUDA(BOLT_CUDA_MEMBER)
#undef BOLT_CUDA_MEMBER
};

// The driver of this machine after cuInit, or null; then `obstacle` says why and what to do.
const Driver* FindDriver(std::string* obstacle) noexcept;

// The driver. Only to be called where FindDriver found one before.
const Driver& Get() noexcept;

// "out of memory (CUDA_ERROR_OUT_OF_MEMORY)".
std::string Explain(const Driver& driver, Result result);

// Throws Error when a call failed: "bolt: can't <what>: ...".
void Check(Result result, const char* what);

}  // namespace bolt::cuda

#endif  // BOLT_EP_CUDA_H_
