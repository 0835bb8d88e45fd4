#include "bolt/cuda/access.h"
#include "bolt/cuda/grid.h"

// The epilogue of V elements of a row, of which n exist; all pointers are at the first of them.
template <int V>
static __device__ __forceinline__ void finish(__nv_bfloat16* y,
                                              [[maybe_unused]] const __nv_bfloat16* x1,
                                              [[maybe_unused]] const float* x2,
                                              [[maybe_unused]] const vf* acc, int n) {
  vf in1[V];
  vload_upto<V>(in1, x1, n);
  vf in2[V];
  vload_upto<V>(in2, x2, n);
  vf out[V];
#pragma unroll
  for (int e = 0; e < V; e++) {
    const vf e0 = in1[e];
    const vf e1 = in2[e];
    const vf e2 = e0 + e1;
    const vf e3 = vsilu(e2);
    out[e] = e3;
  }
  vstore_upto<V>(y, out, n);
}

// A unit of work: V neighbouring elements of a row.
template <class Index, int V>
__global__ void __launch_bounds__(256) k_kernel(const Pointers<3> p,
    [[maybe_unused]] const Ints<Index, 10> d) {
  const Index inner = 64, packs = (inner + V - 1) / V, units = packs * (d[0] * d[1]);
  const Index step = (Index)gridDim.x * 256;
  for (Index unit = (Index)blockIdx.x * 256 + threadIdx.x; unit < units; unit += step) {
    const Index row = quotient<Index>(unit, packs), i = (unit - row * packs) * V;
    [[maybe_unused]] const int n = inner % V == 0 || inner - i >= V ? V : (int)(inner - i);
    const Index left1 = quotient<Index>(row, d[1]);
    [[maybe_unused]] const Index at1 = row - left1 * d[1];
    [[maybe_unused]] const Index at0 = left1;
    finish<V>((__nv_bfloat16*)p[0] + at0 * d[2] + at1 * d[3] + i,
              (const __nv_bfloat16*)p[1] + at0 * d[6] + at1 * d[7] + i,
              (const float*)p[2] + i,
              nullptr, n);
  }
}

template <class Index, int V>
static int launch(void* const* p, [[maybe_unused]] const int64_t* d, CUstream_st* stream) {
  const int64_t inner = 64, packs = (inner + V - 1) / V, units = packs * (d[0] * d[1]);
  k_kernel<Index, V><<<blocks_for(units, 256), 256, 0, stream>>>(
      pointers_of<3>(p), ints_of<Index, 10>(d));
  return (int)cudaGetLastError();
}

extern "C" __attribute__((visibility("default"))) int k(
    void* const* p, [[maybe_unused]] const int64_t* d, void*, CUstream_st* stream) {
  const bool fits = span_of({d[0], d[1], 64}, {d[2], d[3], 1}) < BOLT_INDEX_LIMIT &&
      span_of({d[4], d[5], 64}, {d[6], d[7], 1}) < BOLT_INDEX_LIMIT &&
      span_of({d[8], d[9], 64}, {0, 0, 1}) < BOLT_INDEX_LIMIT;
  const bool packed = d[2] * 2 % 16 == 0 &&
      d[3] * 2 % 16 == 0 &&
      is_aligned(p[0], 16) &&
      d[6] * 2 % 16 == 0 &&
      d[7] * 2 % 16 == 0 &&
      is_aligned(p[1], 16) &&
      is_aligned(p[2], 16);
  if (fits && packed) return launch<int32_t, 8>(p, d, stream);
  if (fits) return launch<int32_t, 1>(p, d, stream);
  return launch<int64_t, 1>(p, d, stream);
}
