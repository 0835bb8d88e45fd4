// One piece [first, last) of a row, copied in the way its strides ask for; y and x point to the row's element 0.
// Elements of one type are moved as unsigned integers of their size, others (To, From) are converted.
#pragma once
#include "bolt/transpose.h"

template <class To, class From>
struct Convert {
  BOLT_INLINE To of(From x) { return (To)x; }
};
template <>
struct Convert<bf16_t, float> {
  BOLT_INLINE bf16_t of(float x) { return bf16_of(x); }
};

// Both sides contiguous.
template <class T>
BOLT_INLINE void copy_contiguous(T* y, const T* x, int64_t first, int64_t last) {
  __builtin_memcpy(y + first, x + first, (size_t)(last - first) * sizeof(T));
}
template <class To, class From>
BOLT_INLINE void copy_contiguous(To* y, const From* x, int64_t first, int64_t last) {
  int64_t i = first;
  for (; i + VL <= last; i += VL) put_lanes(y + i, lanes_of(x + i));
  if (i < last) put_lanes(y + i, lanes_of(x + i, last - i), last - i);
}

// N contiguous elements, few enough for plain moves.
template <int N, class T>
BOLT_INLINE void copy_short(T* y, const T* x) {
  __builtin_memcpy(y, x, N * sizeof(T));
}
template <int N, class To, class From>
BOLT_INLINE void copy_short(To* y, const From* x) {
  copy_contiguous(y, x, 0, N);
}

// One element over a contiguous row.
template <class To, class From>
BOLT_INLINE void copy_broadcast(To* __restrict y, const From* x, int64_t first, int64_t last) {
  const To value = Convert<To, From>::of(*x);
  for (int64_t i = first; i < last; i++) y[i] = value;
}

template <class To, class From>
BOLT_INLINE void copy_strided(To* __restrict y, int64_t y_step, const From* __restrict x, int64_t x_step,
                              int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) y[i * y_step] = Convert<To, From>::of(x[i * x_step]);
}

// y[i * y_step + j] = x[j * x_step + i], j < N: planes to pixels of N channels.
template <int N, class To, class From>
BOLT_INLINE void copy_interleave(To* __restrict y, int64_t y_step, const From* __restrict x, int64_t x_step,
                                 int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    for (int j = 0; j < N; j++) y[i * y_step + j] = Convert<To, From>::of(x[j * x_step + i]);
  }
}

// y[j * y_step + i] = x[i * x_step + j], j < N: pixels of N channels to planes.
template <int N, class To, class From>
BOLT_INLINE void copy_deinterleave(To* __restrict y, int64_t y_step, const From* __restrict x, int64_t x_step,
                                   int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    for (int j = 0; j < N; j++) y[j * y_step + i] = Convert<To, From>::of(x[i * x_step + j]);
  }
}

// y[i * y_step + j] = x[j * x_step + i] for i in [first, last), j in [0, columns), tile by tile: every cache
// line is read and written whole while it is near.
template <class To, class From>
BOLT_INLINE void copy_transposed(To* y, int64_t y_step, const From* x, int64_t x_step, int64_t columns,
                                 int64_t first, int64_t last) {
  constexpr bool IN_REGISTERS = sizeof(To) <= 4;
  constexpr int64_t TILE = IN_REGISTERS ? BOLT_VL : 16;
  for (int64_t i = first; i < last; i += TILE) {
    const int64_t rows = last - i < TILE ? last - i : TILE;
    for (int64_t j = 0; j < columns; j += TILE) {
      const int64_t width = columns - j < TILE ? columns - j : TILE;
      To* const to = y + i * y_step + j;
      const From* const from = x + j * x_step + i;
      if constexpr (IN_REGISTERS) {
        if (rows == TILE && width == TILE) {
          transpose_tile(to, y_step, from, x_step);
          continue;
        }
        if (VL > 4) {  // SSE has no masked loads and stores
          transpose_part(to, y_step, from, x_step, rows, width);
          continue;
        }
      }
      for (int64_t u = 0; u < rows; u++) copy_strided(to + u * y_step, 1, from + u, x_step, 0, width);
    }
  }
}
