// What every generated `run` shares: errors, integer helpers, and calling a kernel on several threads.
#pragma once
#include <stdarg.h>
#include <stdio.h>

#include "bolt/module_abi.h"

typedef void (*BoltKernel)(void* const* p, const int64_t* d, void* scratch, int64_t part, int64_t parts);

static inline int64_t bolt_floordiv(int64_t a, int64_t b) {
  const int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}
static inline int64_t bolt_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t bolt_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t bolt_align(int64_t bytes) { return (bytes + 63) & ~int64_t{63}; }

__attribute__((format(printf, 3, 4))) static inline int32_t bolt_fail(char* error, size_t error_bytes,
                                                                      const char* format, ...) {
  va_list args;
  va_start(args, format);
  if (error != nullptr && error_bytes > 0) vsnprintf(error, error_bytes, format, args);
  va_end(args);
  return 1;
}

struct BoltCall {
  BoltKernel kernel;
  void* const* p;
  const int64_t* d;
  char* scratch;
  int64_t scratch_bytes;
  int64_t parts;
};

static inline void bolt_call_part(void* arg, size_t part) {
  const BoltCall* call = static_cast<const BoltCall*>(arg);
  call->kernel(call->p, call->d, call->scratch + part * call->scratch_bytes, static_cast<int64_t>(part),
               call->parts);
}

// Runs one kernel: serially, or in as many equal shares as there are threads.
static inline void bolt_call(const BoltContext* context, BoltKernel kernel, void* const* p, const int64_t* d,
                             char* scratch, int64_t scratch_bytes, bool parallel) {
  if (!parallel || context->threads <= 1) {
    kernel(p, d, scratch, 0, 1);
    return;
  }
  BoltCall call = {kernel, p, d, scratch, scratch_bytes, context->threads};
  context->parallel_for(context->host, bolt_call_part, static_cast<size_t>(context->threads), &call);
}
