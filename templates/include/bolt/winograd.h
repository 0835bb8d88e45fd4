// One-dimensional Winograd transforms F(m, 3) of vectors: input (B^T d) and output (A^T m).
#pragma once
#include "bolt/simd.h"

template <int M>
struct Winograd;

// Points 0, 1, -1.
template <>
struct Winograd<2> {
  static constexpr int SIZE = 4;
  static inline __attribute__((always_inline)) void input(const vf (&d)[4], vf (&o)[4]) {
    o[0] = d[0] - d[2];
    o[1] = d[1] + d[2];
    o[2] = d[2] - d[1];
    o[3] = d[1] - d[3];
  }
  static inline __attribute__((always_inline)) void output(const vf (&s)[4], vf (&o)[2]) {
    o[0] = s[0] + s[1] + s[2];
    o[1] = s[1] - s[2] - s[3];
  }
};

// Points 0, 1, -1, 2, -2.
template <>
struct Winograd<4> {
  static constexpr int SIZE = 6;
  static inline __attribute__((always_inline)) void input(const vf (&d)[6], vf (&o)[6]) {
    const vf even = d[4] - d[2] * 4.f, odd = d[3] - d[1] * 4.f;
    const vf even2 = d[4] - d[2], odd2 = (d[3] - d[1]) * 2.f;
    o[0] = d[0] * 4.f + (even - d[2]);
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = even2 + odd2;
    o[4] = even2 - odd2;
    o[5] = d[1] * 4.f + (d[5] - d[3] * 5.f);
  }
  static inline __attribute__((always_inline)) void output(const vf (&s)[6], vf (&o)[4]) {
    const vf near = s[1] + s[2], near_odd = s[1] - s[2];
    const vf far = s[3] + s[4], far_odd = s[3] - s[4];
    o[0] = s[0] + near + far;
    o[1] = near_odd + far_odd * 2.f;
    o[2] = near + far * 4.f;
    o[3] = near_odd + far_odd * 8.f + s[5];
  }
};
