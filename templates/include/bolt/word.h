// Products of an implicit GEMM: words of 32 bits with one, two or four elements of the reduction, multiplied with a
// word of weights per lane and added up. Sums of integers are integers, kept in the bits of a `vf`.
#pragma once
#include "bolt/simd.h"

typedef int32_t word_u __attribute__((aligned(1), may_alias));

// Of input elements of type T: SIZE elements are a word, `spread` puts one in all lanes, `mac` is c += x * w.
template <typename T>
struct Word;

template <>
struct Word<float> {
  static constexpr int SIZE = 1;
  __attribute__((always_inline)) void spread(vf& x, const float* p) const { BOLT_SPREAD(x, p); }
  static inline __attribute__((always_inline)) void mac(vf& c, vf x, vf w) { BOLT_FMA(c, x, w); }
  static inline __attribute__((always_inline)) vf sum(vf c) { return c; }
};

// As with BOLT_FMA and BOLT_SPREAD of simd.h, GCC has to keep the written order.
#if defined(__clang__)
#define BOLT_KEEP
#else
#define BOLT_KEEP volatile
#endif

#if BOLT_VL == 16 && defined(__AVX512BF16__)
template <>
struct Word<bf16_t> {
  static constexpr int SIZE = 2;
  __attribute__((always_inline)) void spread(vf& x, const bf16_t* p) const {
    __asm__ BOLT_KEEP("vpbroadcastd %1, %0" : "=v"(x) : "m"(*(const word_u*)p));
  }
  static inline __attribute__((always_inline)) void mac(vf& c, vf x, vf w) {
    __asm__ BOLT_KEEP("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(x), "v"(w));
  }
  static inline __attribute__((always_inline)) vf sum(vf c) { return c; }
};
#endif

#if BOLT_VL == 16 && defined(__AVX512VNNI__)
template <>
struct Word<uint8_t> {
  static constexpr int SIZE = 4;
  __attribute__((always_inline)) void spread(vf& x, const uint8_t* p) const {
    __asm__ BOLT_KEEP("vpbroadcastd %1, %0" : "=v"(x) : "m"(*(const word_u*)p));
  }
  static inline __attribute__((always_inline)) void mac(vf& c, vf x, vf w) {
    __asm__ BOLT_KEEP("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(x), "v"(w));
  }
  static inline __attribute__((always_inline)) vf sum(vf c) { return __builtin_convertvector((vi)c, vf); }
};

// The instruction takes the input as unsigned: 128 is added to it, and `Start` has what the sums get too much.
template <>
struct Word<int8_t> : Word<uint8_t> {
  vi shift = vi{} + (int32_t)0x80808080;
  __attribute__((always_inline)) void spread(vf& x, const int8_t* p) const {
    __asm__ BOLT_KEEP("vpxord %1%{1to16%}, %2, %0" : "=v"(x) : "m"(*(const word_u*)p), "v"(shift));
  }
};
#endif

// Elements multiplied as fp32 numbers, one at a time.
template <typename T>
struct Number : Word<float> {
  __attribute__((always_inline)) void spread(vf& x, const T* p) const { x = vset((float)*p); }
};
template <>
struct Number<float> : Word<float> {};

// A word of the first N elements at p, the others zero.
template <int N, typename T>
BOLT_INLINE void spread_part(vf& x, const Word<T>& word, const T* p) {
  T part[Word<T>::SIZE] = {};
#pragma GCC unroll 4
  for (int i = 0; i < N; i++) part[i] = p[i];
  word.spread(x, part);
}
