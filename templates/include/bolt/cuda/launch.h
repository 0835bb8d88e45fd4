// What a launcher of a CUDA kernel returns, and the arguments launchers hand to device code that is compiled
// apart from them. Plain C++: no CUDA header is needed to include it.
#pragma once
#include <stdint.h>

struct CUstream_st;  // cudaStream_t is a pointer to it

// 0 is success, a positive code a cudaError_t, a negative one the negated cutlass::Status.
typedef int BoltLaunch(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream);

// A tensor an epilogue reads: element (batch, row, column) of the output needs
// data[batch * strides[0] + row * strides[1] + column * strides[2]]; strides in elements, 0 broadcasts.
struct BoltExtra {
  const void* data;
  int64_t strides[3];
};

enum { BOLT_MAX_EXTRAS = 8 };

// d[batch] = epilogue(a[batch] * b[batch]), m x k times k x n. Leading dimensions and batch steps in elements.
struct BoltGemm {
  int64_t batch, m, n, k;
  const void* a;
  int64_t lda, a_batch;
  const void* b;
  int64_t ldb, b_batch;
  void* d;
  int64_t ldd, d_batch;
  BoltExtra extras[BOLT_MAX_EXTRAS];
  void* workspace;
  int64_t split_k;  // shares of k that run side by side where the unit can do that; 0 and 1 do not split
  int64_t swizzle;  // neighbouring tiles of one column that run together where the unit can do that; 0 is 1
};

// Cross-correlation over (n, h, w, c): pixel (p, q) reads rows p * stride[0] - pad[0] + r * dilation[0].
// Strides of the tensors are of n, h and w, in elements; channels are contiguous. Extras: batch is n, row is the
// pixel p * width + q, column is the channel; or n, p and q for a unit that says so.
struct BoltConv {
  int64_t n, h, w, c, k, p, q, r, s, groups;
  int64_t pad[2], stride[2], dilation[2];
  const void* x;
  int64_t x_strides[3];
  const void* weights;
  void* y;
  int64_t y_strides[3];
  BoltExtra extras[BOLT_MAX_EXTRAS];
  void* workspace;
  int64_t split_k;  // as in BoltGemm, over the channels
};

// out = softmax(scale * q k^T + bias) v for each batch and head: m queries and n keys of d values, n values of e.
// Strides are of batch, head and row, in elements.
struct BoltAttention {
  int64_t batch, heads, m, n, d, e;
  const void* q;
  int64_t q_strides[3];
  const void* k;
  int64_t k_strides[3];
  const void* v;
  int64_t v_strides[3];
  const void* bias;
  int64_t bias_strides[3];
  void* out;
  int64_t out_strides[3];
  float scale;
  int32_t causal;
};

// Device code compiled apart: `NAME(arguments, stream)` runs it, `NAME_workspace(arguments)` tells the bytes of
// workspace it needs (host only, no device is touched), `NAME_check(arguments)` whether it can run (0 or a code).
typedef int BoltGemmUnit(const BoltGemm* arguments, CUstream_st* stream);
typedef int BoltConvUnit(const BoltConv* arguments, CUstream_st* stream);
typedef int BoltAttentionUnit(const BoltAttention* arguments, CUstream_st* stream);
