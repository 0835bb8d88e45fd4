// Where the pixels of a resized image come from, along one axis (ONNX Resize).
#pragma once
#include <stdint.h>

#include "bolt/simd.h"

struct Axis {
  int64_t out, in;
  double scale;
};

// Source coordinate of output index i.
BOLT_INLINE double half_pixel(int64_t i, const Axis& a) { return ((double)i + 0.5) / a.scale - 0.5; }
BOLT_INLINE double asymmetric(int64_t i, const Axis& a) { return (double)i / a.scale; }
BOLT_INLINE double pytorch_half_pixel(int64_t i, const Axis& a) { return a.out == 1 ? 0.0 : half_pixel(i, a); }
BOLT_INLINE double align_corners(int64_t i, const Axis& a) {
  return a.out == 1 ? 0.0 : (double)i * (double)(a.in - 1) / (double)(a.out - 1);
}

// Which pixel a coordinate means. Without libm: SSE2 has no rounding instruction.
BOLT_INLINE int64_t nearest_floor(double at) {
  const int64_t whole = (int64_t)at;
  return whole - (at < (double)whole);
}
BOLT_INLINE int64_t nearest_ceil(double at) { return -nearest_floor(-at); }
BOLT_INLINE int64_t nearest_round_prefer_floor(double at) { return nearest_ceil(at - 0.5); }
BOLT_INLINE int64_t nearest_round_prefer_ceil(double at) { return nearest_floor(at + 0.5); }

BOLT_INLINE int64_t clamp_index(int64_t i, int64_t size) { return i < 0 ? 0 : i < size ? i : size - 1; }

// Two neighbours and the weight of the second. A nearest pixel is a Blend whose `low` is it.
struct Blend {
  int64_t low, high;
  float weight;
};

BOLT_INLINE Blend blend_at(double at, int64_t size) {
  const double last = (double)(size - 1), inside = at < 0.0 ? 0.0 : at < last ? at : last;
  const int64_t low = (int64_t)inside;
  return {low, clamp_index(low + 1, size), (float)(inside - (double)low)};
}

BOLT_INLINE vf vlerp(vf a, vf b, vf weight) { return a + (b - a) * weight; }

// Pixels whose column sources are worked out together.
enum { STRIP = 256 };

// One line of nearest pixels of C channels, all contiguous.
template <int C>
BOLT_INLINE void nearest_line(float* y, const float* source, int64_t pixel_step, const Blend* strip, int64_t width) {
  for (int64_t j = 0; j < width; j++) {
    __builtin_memcpy(y + j * C, source + strip[j].low * pixel_step, C * sizeof(float));
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
