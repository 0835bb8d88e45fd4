// Teams: T threads (a power of two) that work on one row together. Up to 32 of them are neighbours in a warp; more are
// a whole block.
#pragma once
#include "bolt/cuda/access.h"

// How two values are joined, and what changes nothing when joined. Max and Min let NaN through.
struct SumOp {
  BOLT_DEVICE vf start() { return 0.0f; }
  BOLT_DEVICE vf join(vf a, vf b) { return a + b; }
};
struct ProdOp {
  BOLT_DEVICE vf start() { return 1.0f; }
  BOLT_DEVICE vf join(vf a, vf b) { return a * b; }
};
struct MaxOp {
  BOLT_DEVICE vf start() { return -INFINITY; }
  BOLT_DEVICE vf join(vf a, vf b) { return vmax_nan(a, b); }
};
// Either operand's NaN may get lost.
struct FastMaxOp {
  BOLT_DEVICE vf start() { return -INFINITY; }
  BOLT_DEVICE vf join(vf a, vf b) { return fmaxf(a, b); }
};
struct MinOp {
  BOLT_DEVICE vf start() { return INFINITY; }
  BOLT_DEVICE vf join(vf a, vf b) { return vmin_nan(a, b); }
};

template <int T>
struct Team {
  enum { LANES = T < 32 ? T : 32, WARPS = T > 32 ? T / 32 : 1 };
  enum { BLOCK = T > 32 ? T : 128, TEAMS = BLOCK / T };

  // x joined over the team, the same for all of it. `shared` has WARPS floats; all threads of a block that is one team
  // get here together.
  template <class Op>
  static __device__ __forceinline__ vf join(vf x, vf* shared) {
    const unsigned first = threadIdx.x % 32 / LANES * LANES;
    const unsigned mask = (LANES == 32 ? ~0u : (1u << LANES) - 1) << first;
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) x = Op::join(x, __shfl_xor_sync(mask, x, step));
    if (WARPS == 1) return x;
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = x;
    __syncthreads();
    x = shared[0];
#pragma unroll
    for (int warp = 1; warp < WARPS; warp++) x = Op::join(x, shared[warp]);
    __syncthreads();  // `shared` is free again
    return x;
  }
};

// A row of k elements as its team sees it: each thread has every T-th pack of V. With PACKS > 0 the row is read once
// and stays in registers (k <= PACKS * V * T), else every pass reads it again.
template <class S, class Index, int V, int T, int PACKS>
struct Row {
  enum { HELD = PACKS > 0 };
  const S* p;
  Index k, step;  // step is 1 unless V is 1
  vf held[HELD ? PACKS * V : 1];

  __device__ __forceinline__ Row(const S* p, Index k, Index step) : p(p), k(k), step(step) {
#pragma unroll
    for (int j = 0; j < PACKS; j++) {
      const Index i = place(j);
      if (i < k) vload_upto<V>(held + j * V, p + i * step, left(i));
    }
  }

  static __device__ __forceinline__ Index place(int j) { return ((Index)j * T + threadIdx.x % T) * V; }
  __device__ __forceinline__ int left(Index i) const { return k % V == 0 || k - i >= V ? V : (int)(k - i); }

  // Calls pass(i, n, x) for this thread's packs: V elements x from element i on, of which n exist. What it writes to x
  // is there in the next pass when the row is held.
  template <class F>
  __device__ __forceinline__ void each(F pass) {
    if (HELD) {
#pragma unroll
      for (int j = 0; j < PACKS; j++) {
        const Index i = place(j);
        if (i < k) pass(i, left(i), held + j * V);
      }
    } else {
      for (Index i = place(0); i < k; i += (Index)T * V) {
        vf x[V];
        vload_upto<V>(x, p + i * step, left(i));
        pass(i, left(i), x);
      }
    }
  }

  // value(x) joined over this thread's elements; x may be changed.
  template <class Op, class F>
  __device__ __forceinline__ vf join(F value) {
    vf total = Op::start();
    each([&](Index, int n, vf* x) {
#pragma unroll
      for (int e = 0; e < V; e++) {
        const vf one = value(x[e]);
        if (e < n) total = Op::join(total, one);
      }
    });
    return total;
  }

  // The same over the whole row.
  template <class Op, class F>
  __device__ __forceinline__ vf reduce(vf* shared, F value) {
    return Team<T>::template join<Op>(join<Op>(value), shared);
  }

  // value(x) of every pack's elements, handed to store(i, n, values).
  template <class F, class G>
  __device__ __forceinline__ void map(F value, G store) {
    each([&](Index i, int n, const vf* x) {
      vf values[V];
#pragma unroll
      for (int e = 0; e < V; e++) values[e] = value(x[e]);
      store(i, n, values);
    });
  }
};
