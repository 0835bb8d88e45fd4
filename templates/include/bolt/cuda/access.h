// Loads and stores of fp32 values from memory of any element type of bolt/types.py, one at a time and as vectors.
//
// bool stores x != 0, integers truncate toward zero. f16 and bf16 round to nearest even and keep NaN and infinities, but
// finite values beyond their range become their largest: -3.4e38 in an attention mask must not turn into an infinity.
// 8-bit floats do the same except that infinities become the largest number, too.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <string.h>

#include "bolt/cuda/vmath.h"

template <class T>
struct Element {
  BOLT_DEVICE float to_float(T x) { return (float)x; }
  BOLT_DEVICE T from_float(float x) { return (T)(int32_t)x; }
};
template <>
struct Element<float> {
  BOLT_DEVICE float to_float(float x) { return x; }
  BOLT_DEVICE float from_float(float x) { return x; }
};
template <>
struct Element<int64_t> {
  BOLT_DEVICE float to_float(int64_t x) { return (float)x; }
  BOLT_DEVICE int64_t from_float(float x) { return (int64_t)x; }
};
template <>
struct Element<bool> {
  BOLT_DEVICE float to_float(bool x) { return x ? 1.0f : 0.0f; }
  BOLT_DEVICE bool from_float(float x) { return x != 0.0f; }
};
BOLT_DEVICE float clamp_finite(float x, float largest) {
  return fabsf(x) < INFINITY ? fminf(fmaxf(x, -largest), largest) : x;
}
template <>
struct Element<__half> {
  BOLT_DEVICE float to_float(__half x) { return __half2float(x); }
  BOLT_DEVICE __half from_float(float x) { return __float2half_rn(clamp_finite(x, 65504.0f)); }
};
template <>
struct Element<__nv_bfloat16> {
  BOLT_DEVICE float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
  BOLT_DEVICE __nv_bfloat16 from_float(float x) { return __float2bfloat16_rn(clamp_finite(x, 0x1.fep127f)); }
};
template <>
struct Element<__nv_fp8_e4m3> {
  BOLT_DEVICE float to_float(__nv_fp8_e4m3 x) { return (float)x; }
  BOLT_DEVICE __nv_fp8_e4m3 from_float(float x) { return __nv_fp8_e4m3(x); }
};
template <>
struct Element<__nv_fp8_e5m2> {
  BOLT_DEVICE float to_float(__nv_fp8_e5m2 x) { return (float)x; }
  BOLT_DEVICE __nv_fp8_e5m2 from_float(float x) { return __nv_fp8_e5m2(x); }
};

template <class T>
BOLT_DEVICE vf vload_as(const T* p) {
  return Element<T>::to_float(*p);
}
template <class T>
BOLT_DEVICE void vstore_as(T* p, vf x) {
  *p = Element<T>::from_float(x);
}

// The widest machine type that moves BYTES (a power of two) at once; 16 bytes at most.
struct alignas(16) Bytes16 {
  uint32_t word[4];
};
struct alignas(8) Bytes8 {
  uint32_t word[2];
};
template <int BYTES>
struct Move {
  typedef Bytes16 type;
};
template <>
struct Move<8> {
  typedef Bytes8 type;
};
template <>
struct Move<4> {
  typedef uint32_t type;
};
template <>
struct Move<2> {
  typedef uint16_t type;
};
template <>
struct Move<1> {
  typedef uint8_t type;
};

// N neighbouring elements (N a power of two) between memory and registers; `p` is aligned to their bytes, or to 16 when
// they are more.
template <int N, class T>
BOLT_DEVICE void load_pack(T* elements, const T* p) {
  constexpr int BYTES = N * (int)sizeof(T), WIDTH = BYTES < 16 ? BYTES : 16;
  typedef typename Move<WIDTH>::type Word;
#pragma unroll
  for (int i = 0; i < BYTES / WIDTH; i++) {
    const Word word = ((const Word*)p)[i];
    memcpy((char*)elements + i * WIDTH, &word, WIDTH);
  }
}
template <int N, class T>
BOLT_DEVICE void store_pack(T* p, const T* elements) {
  constexpr int BYTES = N * (int)sizeof(T), WIDTH = BYTES < 16 ? BYTES : 16;
  typedef typename Move<WIDTH>::type Word;
#pragma unroll
  for (int i = 0; i < BYTES / WIDTH; i++) {
    Word word;
    memcpy(&word, (const char*)elements + i * WIDTH, WIDTH);
    ((Word*)p)[i] = word;
  }
}

// The same with conversion.
template <int N, class T>
BOLT_DEVICE void vload_pack(vf* x, const T* p) {
  T elements[N];
  load_pack<N>(elements, p);
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = Element<T>::to_float(elements[i]);
}
template <int N, class T>
BOLT_DEVICE void vstore_pack(T* p, const vf* x) {
  T elements[N];
#pragma unroll
  for (int i = 0; i < N; i++) elements[i] = Element<T>::from_float(x[i]);
  store_pack<N>(p, elements);
}

// The first n elements only where n < N; the others read as `rest` and are not touched. A partial pack needs no
// alignment.
template <int N, class T>
BOLT_DEVICE void vload_upto(vf* x, const T* p, int n, vf rest = 0.0f) {
  if (n >= N) {
    vload_pack<N>(x, p);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = i < n ? vload_as(p + i) : rest;
}
template <int N, class T>
BOLT_DEVICE void vstore_upto(T* p, const vf* x, int n) {
  if (n >= N) {
    vstore_pack<N>(p, x);
    return;
  }
#pragma unroll
  for (int i = 0; i < N; i++) {
    if (i < n) vstore_as(p + i, x[i]);
  }
}
