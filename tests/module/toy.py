"""A module written by hand: y = a * w + b per row, through a workspace, on the host's threads.

Inputs a (n, 4) f32 and b (4) f32, weights w (4) f32; outputs y (n, 4) f32 and rows (1) s64.
"""

from bolt.kernels.family import Source
from bolt.target import X86_PORTABLE
from bolt.toolchain import build, host

TEXT = r"""
#include <stdio.h>
#include <string.h>
#include "bolt/module_abi.h"
struct BoltModule { const float* weights; };
static const int64_t dims_a[] = {-1, 4}, dims_b[] = {4}, dims_rows[] = {1};
static const BoltValueInfo inputs[] = {{"a", 1, 2, dims_a}, {"b", 1, 1, dims_b}};
static const BoltValueInfo outputs[] = {{"y", 1, 2, dims_a}, {"rows", 7, 1, dims_rows}};
static int32_t create(const void* weights, BoltModule** out, char*, size_t) {
  *out = (BoltModule*)__builtin_malloc(sizeof(BoltModule));
  (*out)->weights = (const float*)weights;
  return (uintptr_t)weights % 64 ? 2 : 0;
}
static void destroy(BoltModule* m) { __builtin_free(m); }
static int32_t infer(const BoltModule*, const int64_t* const* in, int64_t* const* out, int32_t,
                     uint64_t* workspace, char* error, size_t n) {
  if (in[0][0] > 1000000) { snprintf(error, n, "%ld rows are too many", (long)in[0][0]); return 1; }
  out[0][0] = in[0][0]; out[0][1] = 4; out[1][0] = 1;
  *workspace = in[0][0] * 16;
  return 0;
}
struct Job { const float *a, *b, *w; float *y, *tmp; };
static void row(void* arg, size_t i) {
  Job* j = (Job*)arg;
  for (int c = 0; c < 4; c++) j->tmp[i * 4 + c] = j->a[i * 4 + c] * j->w[c];
  for (int c = 0; c < 4; c++) j->y[i * 4 + c] = j->tmp[i * 4 + c] + j->b[c];
}
static int32_t run(const BoltModule* m, const BoltTensor* in, const BoltContext* c, char* error, size_t n) {
  const int64_t rows = in[0].dims[0], one = 1;
  Job job = {(const float*)in[0].data, (const float*)in[1].data, m->weights, 0, 0};
  if (job.b[0] == -77) { snprintf(error, n, "b is -77"); return 1; }
  job.y = (float*)c->output(c->host, 0, in[0].dims, 2);
  int64_t* count = (int64_t*)c->output(c->host, 1, &one, 1);
  job.tmp = (float*)c->workspace(c->host, rows * 16);
  if (!job.y || !count || !job.tmp) { snprintf(error, n, "no memory"); return 1; }
  *count = rows;
  if (c->threads > 1) c->parallel_for(c->host, row, rows, &job);
  else for (int64_t i = 0; i < rows; i++) row(&job, i);
  return 0;
}
static const BoltModuleTable table = {ABI, "x86-portable", "SHA", 16, 2, 2, inputs, outputs,
                                      create, destroy, infer, run};
extern "C" __attribute__((visibility("default"))) const BoltModuleTable* bolt_module(void) { return &table; }
"""


def compile_toy(cache_root, *, abi="BOLT_MODULE_ABI_VERSION", sha256=""):
    """The toy module's library."""
    source = Source(name="toy", text=TEXT.replace("ABI,", f"{abi},").replace("SHA", sha256))
    compiler = host.find_compiler()
    return build.library(source, X86_PORTABLE, compiler=compiler, cache=build.store(cache_root))
