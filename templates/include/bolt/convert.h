// Loads and stores of `vf` from memory of any element type: bool stores x != 0, integers truncate toward zero.
// The `_n` forms touch the first n elements only.
#pragma once
#include "bolt/simd.h"

#define BOLT_AS(T)                                                           \
  BOLT_INLINE vf vload_as(const T* p) { return vload(p); }                   \
  BOLT_INLINE vf vload_as_n(const T* p, int64_t n) { return vload_n(p, n); }
BOLT_AS(float)
BOLT_AS(bf16_t)
BOLT_AS(uint8_t)
BOLT_AS(int8_t)
#undef BOLT_AS
#define BOLT_AS(T)                                                           \
  BOLT_INLINE void vstore_as(T* p, vf x) { vstore(p, x); }                   \
  BOLT_INLINE void vstore_as_n(T* p, vf x, int64_t n) { vstore_n(p, x, n); }
BOLT_AS(float)
BOLT_AS(bf16_t)
#undef BOLT_AS

// Toward zero, and then the lowest 8 bits.
BOLT_INLINE void vstore_as(uint8_t* p, vf x) { narrow_8(p, __builtin_convertvector(x, vi)); }
BOLT_INLINE void vstore_as(int8_t* p, vf x) { narrow_8(p, __builtin_convertvector(x, vi)); }
BOLT_INLINE void vstore_as_n(uint8_t* p, vf x, int64_t n) { narrow_8_n(p, __builtin_convertvector(x, vi), n); }
BOLT_INLINE void vstore_as_n(int8_t* p, vf x, int64_t n) { narrow_8_n(p, __builtin_convertvector(x, vi), n); }

// Plain loops over a small array: both compilers turn them into the widening and narrowing instructions,
// which GCC does not do for __builtin_convertvector of 8-bit elements.
template <class T>
BOLT_INLINE vf vload_as(const T* p) {
  vf x;
  float lanes[VL];
  for (int i = 0; i < VL; i++) lanes[i] = (float)p[i];
  __builtin_memcpy(&x, lanes, sizeof x);
  return x;
}

template <class T>
BOLT_INLINE vf vload_as_n(const T* p, int64_t n) {
  vf x = {};
  for (int64_t i = 0; i < n; i++) x[i] = (float)p[i];
  return x;
}

template <class T>
struct Narrow {
  BOLT_INLINE T from(float x) { return (T)(int32_t)x; }
};
template <>
struct Narrow<int64_t> {
  BOLT_INLINE int64_t from(float x) { return (int64_t)x; }
};
template <>
struct Narrow<bool> {
  BOLT_INLINE bool from(float x) { return x != 0.0f; }
};

template <class T>
BOLT_INLINE void vstore_as_n(T* p, vf x, int64_t n) {
  float lanes[VL];
  __builtin_memcpy(lanes, &x, sizeof x);
  for (int64_t i = 0; i < n; i++) p[i] = Narrow<T>::from(lanes[i]);
}

template <class T>
BOLT_INLINE void vstore_as(T* p, vf x) {
  vstore_as_n(p, x, VL);
}

// Whether a vector is the partial last one of a row, as a type.
struct Whole {
  static constexpr bool value = false;
};
struct Partial {
  static constexpr bool value = true;
};
