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

// Four neighbours and their weights by cubic convolution with coefficient a. Beyond the border lies its pixel.
struct Taps {
  int64_t at[4];
  float weight[4];
};

BOLT_INLINE Taps cubic_at(double at, int64_t size, double a) {
  const int64_t low = nearest_floor(at);
  const double t = at - (double)low, u = 1.0 - t;
  Taps taps;
  for (int i = 0; i < 4; i++) taps.at[i] = clamp_index(low - 1 + i, size);
  taps.weight[0] = (float)(a * t * u * u);
  taps.weight[1] = (float)(((a + 2.0) * t - (a + 3.0)) * t * t + 1.0);
  taps.weight[2] = (float)(((a + 2.0) * u - (a + 3.0)) * u * u + 1.0);
  taps.weight[3] = (float)(a * u * t * t);
  return taps;
}
