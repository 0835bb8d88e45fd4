// What the pretended runtime and the machine need of the pretended driver (driver.cc).
#pragma once
#include <stddef.h>
#include <stdint.h>

struct CUctx_st;
struct CUstream_st;
struct CUevent_st;

extern "C" {
int cuInit(unsigned flags);
int cuDeviceGetCount(int* count);
int cuDeviceGetAttribute(int* value, int attribute, int device);
int cuDevicePrimaryCtxRetain(CUctx_st** context, int device);
int cuCtxGetCurrent(CUctx_st** context);
int cuCtxSetCurrent(CUctx_st* context);
int cuCtxGetDevice(int* device);
int cuCtxSynchronize();
int cuMemAlloc_v2(uintptr_t* address, size_t bytes);
int cuMemFree_v2(uintptr_t address);
int cuMemHostAlloc(void** address, size_t bytes, unsigned flags);
int cuMemFreeHost(void* address);
int cuMemcpyAsync(uintptr_t to, uintptr_t from, size_t bytes, CUstream_st* stream);
int cuMemcpy(uintptr_t to, uintptr_t from, size_t bytes);
int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t bytes, CUstream_st* stream);
int cuStreamCreate(CUstream_st** stream, unsigned flags);
int cuStreamDestroy_v2(CUstream_st* stream);
int cuStreamSynchronize(CUstream_st* stream);
int cuStreamWaitEvent(CUstream_st* stream, CUevent_st* event, unsigned flags);
int cuStreamIsCapturing(CUstream_st* stream, int* status);
int cuEventCreate(CUevent_st** event, unsigned flags);
int cuEventDestroy_v2(CUevent_st* event);
int cuEventRecord(CUevent_st* event, CUstream_st* stream);
int cuEventSynchronize(CUevent_st* event);
int cuGetErrorString(int code, const char** text);
int cuGetErrorName(int code, const char** text);
int cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, int* status);

// Runs body(copy of the arguments) as work of a stream, with device memory accessible.
int fake_cuda_launch(CUstream_st* stream, void (*body)(void* arguments), const void* arguments, size_t bytes);
// From now on every call that needs a context returns `code`, as after a fault of a kernel.
void fake_cuda_fail(int code, const char* message);
// What the last kernel that failed did; "" when none did.
const char* fake_cuda_message();
}

namespace emu {
// Whether kernels may access these bytes of the host: pinned memory.
bool is_pinned(const void* address, size_t bytes);
}  // namespace emu
