// What a generated `run` for a CUDA target uses besides bolt/module.h: putting kernels on the stream, and saying
// what went wrong. Plain C++: the entry points of the CUDA runtime are declared here, no CUDA header is needed.
#pragma once
#include "bolt/cuda/launch.h"
#include "bolt/module.h"

extern "C" {
int cudaGetLastError(void);
const char* cudaGetErrorString(int code);
// Writes `count` integers of `size` bytes each; defined in cuda_ints.cu.
int bolt_write_ints(void* out, int size, const int64_t* values, int count, CUstream_st* stream);
}

static inline int64_t bolt_align_device(int64_t bytes) { return (bytes + 255) & ~int64_t{255}; }

// Kernels follow each other on the stream: one area of scratch serves them all.
static inline int64_t bolt_areas(int64_t threads) {
  (void)threads;
  return 1;
}

static inline bool bolt_misaligned(const void* data) { return (reinterpret_cast<uintptr_t>(data) & 15) != 0; }

// cutlass::Status, negated by launchers.
static inline const char* bolt_cutlass_status(int code) {
  static const char* const names[] = {"success", "misaligned operand", "invalid data type", "invalid layout",
                                      "invalid problem", "not supported on this device", "no workspace",
                                      "internal error", "compiled for another architecture",
                                      "the driver is too old", "out of device memory"};
  return code > 0 && code < static_cast<int>(sizeof names / sizeof *names) ? names[code] : "unknown status";
}

static inline int32_t bolt_launch_failed(const char* name, int code, char* error, size_t error_bytes) {
  const int last = cudaGetLastError();  // CUTLASS keeps what CUDA said to itself
  if (code > 0) return bolt_fail(error, error_bytes, "%s can't be launched: %s", name, cudaGetErrorString(code));
  if (last != 0)
    return bolt_fail(error, error_bytes, "%s can't be launched: %s (CUTLASS: %s)", name, cudaGetErrorString(last),
                     bolt_cutlass_status(-code));
  return bolt_fail(error, error_bytes, "%s can't be launched: CUTLASS says %s", name, bolt_cutlass_status(-code));
}

// Puts one kernel on the stream.
static inline int32_t bolt_launch(const BoltContext* context, BoltLaunch* kernel, const char* name, void* const* p,
                                  const int64_t* d, void* scratch, char* error, size_t error_bytes) {
  const int code = kernel(p, d, scratch, static_cast<CUstream_st*>(context->stream));
  return __builtin_expect(code == 0, 1) ? 0 : bolt_launch_failed(name, code, error, error_bytes);
}

static inline int32_t bolt_put_ints(const BoltContext* context, void* out, int size, const int64_t* values,
                                    int count, char* error, size_t error_bytes) {
  const int code = bolt_write_ints(out, size, values, count, static_cast<CUstream_st*>(context->stream));
  return __builtin_expect(code == 0, 1) ? 0 : bolt_launch_failed("known integers", code, error, error_bytes);
}
