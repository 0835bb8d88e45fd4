#include "bolt/cuda/grid.h"
#include "bolt/cuda/team.h"

// The epilogue of V elements of a row, of which n exist; all pointers are at the first of them.
template <int V>
static __device__ __forceinline__ void finish(__half* y,
                                              [[maybe_unused]] const float* x2,
                                              [[maybe_unused]] const float* x3,
                                              [[maybe_unused]] const vf* acc, int n) {
  vf in2[V];
  vload_upto<V>(in2, x2, n);
  vf in3[V];
  vload_upto<V>(in3, x3, n);
  vf out[V];
#pragma unroll
  for (int e = 0; e < V; e++) {
    const vf e0 = acc[e];
    const vf e1 = in2[e];
    const vf e2 = e0 * e1;
    const vf e3 = in3[e];
    const vf e4 = e2 + e3;
    out[e] = e4;
  }
  vstore_upto<V>(y, out, n);
}

template <class Index, int V, int T, int PACKS>
__global__ void __launch_bounds__(Team<T>::BLOCK) k_kernel(const Pointers<4> p,
    [[maybe_unused]] const Ints<Index, 0> d) {
  [[maybe_unused]] __shared__ vf shared[Team<T>::WARPS];
  const Index k = 768, rows = 128, step = (Index)gridDim.x * Team<T>::TEAMS;
  for (Index row = (Index)blockIdx.x * Team<T>::TEAMS + threadIdx.x / T; row < rows; row += step) {
    [[maybe_unused]] const Index at0 = row;
    Row<__half, Index, V, T, PACKS> x((const __half*)p[1] + 768 * at0, k, 1);
    const auto store = [&](Index i, int n, const vf* acc) { finish<V>((__half*)p[0] + 768 * at0 + i,
              (const float*)p[2] + i,
              (const float*)p[3] + i,
              acc, n); };
    const vf mean = x.template reduce<SumOp>(shared, [](vf v) { return v; }) / (float)k;
    const vf squares = x.template reduce<SumOp>(shared, [&](vf v) { return (v - mean) * (v - mean); });
    const vf scale = 1.0f / sqrtf(squares / (float)k + 0x1.4f8b580000000p-17f);
    x.map([&](vf v) { return (v - mean) * scale; }, store);
  }
}

template <class Index, int V, int T, int PACKS>
static int launch(void* const* p, [[maybe_unused]] const int64_t* d, CUstream_st* stream) {
  const int64_t rows = 128;
  k_kernel<Index, V, T, PACKS><<<blocks_for(rows, Team<T>::TEAMS), Team<T>::BLOCK, 0, stream>>>(
      pointers_of<4>(p), ints_of<Index, 0>(d));
  return (int)cudaGetLastError();
}

extern "C" __attribute__((visibility("default"))) int k(
    void* const* p, [[maybe_unused]] const int64_t* d, void*, CUstream_st* stream) {
  const bool packed = is_aligned(p[0], 16) &&
      is_aligned(p[1], 16) &&
      is_aligned(p[2], 16) &&
      is_aligned(p[3], 16);
  if (packed) return launch<int32_t, 8, 128, 1>(p, d, stream);
  return launch<int32_t, 1, 32, 24>(p, d, stream);
}
