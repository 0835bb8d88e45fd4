// One piece [first, last) of a row, copied in the way its strides ask for. T is an unsigned integer of the
// element's size; y and x point to the row's element 0.
#pragma once
#include "bolt/transpose.h"

// Both sides contiguous.
template <class T>
BOLT_INLINE void copy_contiguous(T* y, const T* x, int64_t first, int64_t last) {
  __builtin_memcpy(y + first, x + first, (size_t)(last - first) * sizeof(T));
}

// N contiguous elements, few enough for plain moves.
template <int N, class T>
BOLT_INLINE void copy_short(T* y, const T* x) {
  __builtin_memcpy(y, x, N * sizeof(T));
}

// One element over a contiguous row.
template <class T>
BOLT_INLINE void copy_broadcast(T* __restrict y, const T* x, int64_t first, int64_t last) {
  const T value = *x;
  for (int64_t i = first; i < last; i++) y[i] = value;
}

template <class T>
BOLT_INLINE void copy_strided(T* __restrict y, int64_t y_step, const T* __restrict x, int64_t x_step,
                              int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) y[i * y_step] = x[i * x_step];
}

// y[i * y_step + j] = x[j * x_step + i], j < N: planes to pixels of N channels.
template <int N, class T>
BOLT_INLINE void copy_interleave(T* __restrict y, int64_t y_step, const T* __restrict x, int64_t x_step,
                                 int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    for (int j = 0; j < N; j++) y[i * y_step + j] = x[j * x_step + i];
  }
}

// y[j * y_step + i] = x[i * x_step + j], j < N: pixels of N channels to planes.
template <int N, class T>
BOLT_INLINE void copy_deinterleave(T* __restrict y, int64_t y_step, const T* __restrict x, int64_t x_step,
                                   int64_t first, int64_t last) {
  for (int64_t i = first; i < last; i++) {
    for (int j = 0; j < N; j++) y[j * y_step + i] = x[i * x_step + j];
  }
}

template <class T>
static inline void transpose_rest(T* __restrict y, int64_t y_step, const T* __restrict x, int64_t x_step,
                                  int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) y[i * y_step + j] = x[j * x_step + i];
  }
}

// y[i * y_step + j] = x[j * x_step + i] for i in [first, last), j in [0, columns), tile by tile: every cache
// line is read and written whole while it is near.
template <class T>
BOLT_INLINE void copy_transposed(T* y, int64_t y_step, const T* x, int64_t x_step, int64_t columns,
                                 int64_t first, int64_t last) {
  constexpr int64_t TILE = sizeof(T) == 4 ? BOLT_VL : 16;
  for (int64_t i = first; i < last; i += TILE) {
    const int64_t rows = last - i < TILE ? last - i : TILE;
    for (int64_t j = 0; j < columns; j += TILE) {
      const int64_t width = columns - j < TILE ? columns - j : TILE;
      T* const to = y + i * y_step + j;
      const T* const from = x + j * x_step + i;
      if (sizeof(T) == 4 && rows == TILE && width == TILE) {
        transpose_tile((float*)to, y_step, (const float*)from, x_step);
      } else if (sizeof(T) == 4 && VL > 4) {  // SSE has no masked loads and stores
        transpose_part((float*)to, y_step, (const float*)from, x_step, rows, width);
      } else {
        transpose_rest(to, y_step, from, x_step, rows, width);
      }
    }
  }
}
