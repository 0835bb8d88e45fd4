// Resizing channels-last images.
#pragma once
#include "bolt/simd.h"

#include "bolt/sampling.h"

BOLT_INLINE vf vlerp(vf a, vf b, vf weight) { return a + (b - a) * weight; }

// Pixels whose column sources are worked out together.
enum { STRIP = 256 };

// One line of nearest pixels of C channels, all contiguous.
template <int C, class T>
BOLT_INLINE void nearest_line(T* y, const T* source, int64_t pixel_step, const Blend* strip, int64_t width) {
  for (int64_t j = 0; j < width; j++) {
    __builtin_memcpy(y + j * C, source + strip[j].low * pixel_step, C * sizeof(T));
  }
}

// One line of blended pixels of C (few) contiguous channels. When enlarging, the two source lines are blended
// first, as vectors, and each pixel then blends two values instead of four.
template <int C>
BOLT_INLINE void linear_line(float* __restrict y, const float* low, const float* high, float weight,
                             const Blend* strip, int64_t width) {
  float blended[STRIP * C];
  const int64_t first = strip[0].low * C, count = (strip[width - 1].high + 1) * C - first;
  if (count <= STRIP * C) {
    for (int64_t i = 0; i < count; i++) {
      blended[i] = low[first + i] + (high[first + i] - low[first + i]) * weight;
    }
    for (int64_t j = 0; j < width; j++) {
      const float* const a = blended + (strip[j].low * C - first);
      const float* const b = blended + (strip[j].high * C - first);
      for (int c = 0; c < C; c++) y[j * C + c] = a[c] + (b[c] - a[c]) * strip[j].weight;
    }
    return;
  }
  for (int64_t j = 0; j < width; j++) {
    const int64_t a = strip[j].low * C, b = strip[j].high * C;
    for (int c = 0; c < C; c++) {
      const float top = low[a + c] + (low[b + c] - low[a + c]) * strip[j].weight;
      const float bottom = high[a + c] + (high[b + c] - high[a + c]) * strip[j].weight;
      y[j * C + c] = top + (bottom - top) * weight;
    }
  }
}
