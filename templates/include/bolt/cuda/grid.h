// Launching hand-written kernels, and finding a thread's place. Sizes known at run time only reach device code as `d`,
// so that generated text spells a dim the same way on both sides: a literal, or d[i].
#pragma once
#include <cuda_runtime.h>
#include <stdint.h>

#include "bolt/cuda/launch.h"

// The `p` and `d` of a launcher, by value.
template <int COUNT>
struct Pointers {
  void* at[COUNT];
  __device__ __forceinline__ void* operator[](int i) const { return at[i]; }
};
template <class Index, int COUNT>
struct Ints {
  Index at[COUNT ? COUNT : 1];
  __device__ __forceinline__ Index operator[](int i) const { return at[i]; }
};

template <int COUNT>
static inline Pointers<COUNT> pointers_of(void* const* p) {
  Pointers<COUNT> out;
  for (int i = 0; i < COUNT; i++) out.at[i] = p[i];
  return out;
}
template <class Index, int COUNT>
static inline Ints<Index, COUNT> ints_of(const int64_t* d) {
  Ints<Index, COUNT> out = {};
  for (int i = 0; i < COUNT; i++) out.at[i] = (Index)d[i];
  return out;
}

// Up to here, elements are counted in 32 bits: the index may step over the end by a grid of threads.
enum : int64_t { BOLT_INDEX_LIMIT = int64_t{1} << 30 };

// Distance in elements between the first and the last element of a view.
template <int RANK>
static inline int64_t span_of(const int64_t (&dims)[RANK], const int64_t (&strides)[RANK]) {
  int64_t span = 1;
  for (int i = 0; i < RANK; i++) span += (dims[i] - 1) * (strides[i] < 0 ? -strides[i] : strides[i]);
  return span;
}

static inline bool is_aligned(const void* p, int64_t bytes) { return (uintptr_t)p % bytes == 0; }

// Blocks that cover `units`, of which each takes `per_block` at a time. Kernels stride over the grid, so that fewer
// blocks than needed are right, too: no more than some rounds of the largest GPU's.
static inline unsigned blocks_for(int64_t units, int64_t per_block) {
  const int64_t blocks = (units + per_block - 1) / per_block;
  return (unsigned)(blocks < 1 ? 1 : blocks < 65536 ? blocks : 65536);
}

// Of numbers that are not negative: unsigned division is cheaper.
template <class Index>
struct Unsigned {
  typedef uint32_t type;
};
template <>
struct Unsigned<int64_t> {
  typedef uint64_t type;
};
template <class Index>
static __device__ __forceinline__ Index quotient(Index a, Index b) {
  typedef typename Unsigned<Index>::type U;
  return (Index)((U)a / (U)b);
}
