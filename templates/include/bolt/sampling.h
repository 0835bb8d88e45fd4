// Where the pixels of a resized image come from, along one axis (ONNX Resize). Plain C++, also for device code.
#pragma once
#include <stdint.h>

#ifndef BOLT_INLINE
#ifdef __CUDACC__
#define BOLT_INLINE static __host__ __device__ __forceinline__
#else
#define BOLT_INLINE static inline __attribute__((always_inline))
#endif
#endif

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
