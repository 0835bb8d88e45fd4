/* The C ABI of a bolt module: one shared library per partition of a model.
 *
 * Stable, versioned, and free of ONNX Runtime, Python and C++ types. A module exports one symbol,
 * `bolt_module`, which returns its table. The execution provider (bolt/ep/src) and Python
 * (bolt/module/load.py) drive modules through this file only.
 *
 * On a CUDA target weights, inputs, outputs and workspace are device memory, which the host can't read; dims,
 * names and everything else are host memory. `create`, `run` and `destroy` are called with a context of the
 * device current on the calling thread, `infer` needs none. `run` only puts work on `stream`: it does not wait
 * for it, allocates nothing, and everything it does may be captured into a CUDA graph. The workspace and
 * the weights stay valid until the stream has done that work.
 */
#ifndef BOLT_MODULE_ABI_H_
#define BOLT_MODULE_ABI_H_
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BOLT_MODULE_ABI_VERSION 1u

/* Element types are ONNX's TensorProto.DataType numbers (float = 1, int64 = 7, ...). */

typedef struct BoltValueInfo {
  const char* name;
  int32_t dtype;
  int32_t rank;
  const int64_t* dims; /* rank entries; -1 is dynamic */
} BoltValueInfo;

typedef struct BoltTensor {
  const void* data;
  const int64_t* dims;
  int32_t rank;
  int32_t dtype;
} BoltTensor;

/* What the host lends a module for one call of `run`. All callbacks are safe to call from the calling
 * thread only; `parallel_for` runs `fn` on any threads. */
typedef struct BoltContext {
  void* host; /* handed back to every callback */
  int32_t threads; /* threads `parallel_for` can use; 1 means: call nothing, run serially */
  int32_t reserved;
  /* Calls fn(arg, i) once for each i in [0, count), in any order, and returns when all are done. */
  void (*parallel_for)(void* host, void (*fn)(void* arg, size_t i), size_t count, void* arg);
  /* 64-byte-aligned memory (256 on CUDA), valid until `run` returns; NULL when there is none. Called at most
   * once. */
  void* (*workspace)(void* host, size_t bytes);
  /* Memory of output `index` with the given dims, to be filled by the module; NULL on failure. */
  void* (*output)(void* host, int32_t index, const int64_t* dims, int32_t rank);
  /* The CUDA stream (a CUstream) to launch on, never NULL there; NULL on the CPU. */
  void* stream;
  /* Profiling: called after each step with its number; NULL (the normal case) costs one branch per step. */
  void (*tick)(void* host, int32_t step);
} BoltContext;

typedef struct BoltModule BoltModule;

typedef struct BoltModuleTable {
  uint32_t abi_version;     /* BOLT_MODULE_ABI_VERSION the module was built with; checked before anything else */
  const char* target;       /* name of the target row, e.g. "x86-avx512" */
  const char* weights_sha256; /* of the module's slice of the weights file, 64 hex digits ("" for none) */
  uint64_t weights_bytes;
  int32_t input_count;
  int32_t output_count;
  const BoltValueInfo* inputs;
  const BoltValueInfo* outputs;

  /* `weights`: weights_bytes bytes, 64-byte aligned (256 on CUDA), outliving the module. On failure returns non-zero and
   * writes a NUL-terminated sentence into `error` (capacity `error_bytes`). */
  int32_t (*create)(const void* weights, BoltModule** out, char* error, size_t error_bytes);
  void (*destroy)(BoltModule*);
  /* Output dims for given input dims. `input_dims[i]` has inputs[i].rank entries; `output_dims[i]` has room for
   * outputs[i].rank. Also writes the workspace bytes that `run` will ask for with `threads` threads. */
  int32_t (*infer)(const BoltModule*, const int64_t* const* input_dims, int64_t* const* output_dims,
                   int32_t threads, uint64_t* workspace_bytes, char* error, size_t error_bytes);
  /* Runs the partition. Several threads may run the same module at the same time. */
  int32_t (*run)(const BoltModule*, const BoltTensor* inputs, const BoltContext* context, char* error,
                 size_t error_bytes);

  /* The steps of `run`, in order, for profiles: step_names[i] is what tick(host, i) has just finished. */
  int32_t step_count;
  const char* const* step_names;
} BoltModuleTable;

/* The one exported symbol: `const BoltModuleTable* bolt_module(void)`. */
typedef const BoltModuleTable* (*BoltModuleEntry)(void);

#ifdef __cplusplus
}
#endif
#endif  /* BOLT_MODULE_ABI_H_ */
