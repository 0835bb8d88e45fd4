// Runs a GEMM with two batch dims by units that have one. Plain C++, host only.
#pragma once
#include "bolt/cuda/launch.h"

namespace {

// An operand in the order of the spec (d, a, b, extras): where it starts, the steps between batches, and the step by
// which it moves when the output's row moves by one (b's is 0), in elements of `size` bytes.
struct Matrix {
  char* data;
  int64_t size;
  int64_t batch[2];
  int64_t row;
};

enum { BOLT_MAX_BATCH = 65535 };  // extent of a grid along z

// Whether each operand's element (i, r) of an outer dim of `outer` and an inner of `inner` is found by one step.
inline bool is_one_dim(const Matrix* x, int count, int64_t inner, int outer_dim, int inner_dim) {
  for (int i = 0; i < count; i++) {
    const int64_t step = inner_dim < 0 ? x[i].row : x[i].batch[inner_dim];
    if (x[i].batch[outer_dim] != inner * step) return false;
  }
  return true;
}

// Batches of one row are rows, where the operand has a step between rows at all.
inline void take_batches_as_rows(Matrix* x, int count, bool is_a_row_major) {
  for (int i = 0; i < count; i++)
    if (x[i].row != 0 && (i != 1 || is_a_row_major)) x[i].row = x[i].batch[1];
}

inline void place(BoltGemm& g, const Matrix* x, int count, int64_t outer, int64_t first, int64_t batch) {
  void* at[3 + BOLT_MAX_EXTRAS];
  int64_t step[3 + BOLT_MAX_EXTRAS];
  for (int i = 0; i < count; i++) {
    at[i] = x[i].data + (outer * x[i].batch[0] + first * x[i].batch[1]) * x[i].size;
    step[i] = batch > 1 ? x[i].batch[1] : 0;
  }
  g.batch = batch;
  g.d = at[0], g.d_batch = step[0];
  g.a = at[1], g.a_batch = step[1];
  g.b = at[2], g.b_batch = step[2];
  for (int i = 3; i < count; i++) {
    BoltExtra& extra = g.extras[i - 3];
    extra.data = at[i], extra.strides[0] = step[i], extra.strides[1] = x[i].row;
  }
}

// The first unit whose check agrees runs; `units` has check and unit in turn.
inline int run_one(const BoltGemm& g, const BoltGemmUnit* const* units, int count, CUstream_st* stream) {
  int code = 0;
  for (int i = 0; i < count; i++) {
    code = units[2 * i](&g, stream);
    if (code == 0) return units[2 * i + 1](&g, stream);
  }
  return code;
}

// `g` has the sizes of one batch, the leading dims of a (0: its rows' step) and b, and the config.
inline int run_batches(BoltGemm g, Matrix* x, int count, int64_t b0, int64_t b1, const BoltGemmUnit* const* units,
                       int unit_count, CUstream_st* stream) {
  if (b1 == 1)
    for (int i = 0; i < count; i++) x[i].batch[1] = x[i].batch[0];
  // An outer batch that continues the inner one, and batches that continue the rows, are one longer dim.
  if (b1 == 1 || is_one_dim(x, count, b1, 0, 1)) b1 *= b0, b0 = 1;
  if (b1 > 1 && g.m == 1) take_batches_as_rows(x, count, g.lda == 0);
  if (b1 > 1 && is_one_dim(x, count, g.m, 1, -1)) g.m *= b1, b1 = 1;
  g.ldd = x[0].row;
  if (g.lda == 0) g.lda = x[1].row;
  for (int64_t outer = 0; outer < b0; outer++)
    for (int64_t first = 0; first < b1; first += BOLT_MAX_BATCH) {
      const int64_t rest = b1 - first;
      place(g, x, count, outer, first, rest < BOLT_MAX_BATCH ? rest : (int64_t)BOLT_MAX_BATCH);
      if (const int code = run_one(g, units, unit_count, stream)) return code;
    }
  return 0;
}

}  // namespace
