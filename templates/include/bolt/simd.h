// Vectors of fp32 by GCC/Clang vector extensions: one source for AVX-512, AVX2, SSE and NEON.
//
// BOLT_VL (lanes) comes from the target row (-DBOLT_VL=16). Every kernel includes this file and nothing
// heavier: <immintrin.h> alone doubles the compile time of a kernel.
#pragma once
#include <stdint.h>
#include <stddef.h>

#ifndef BOLT_VL
#error "compile kernels with -DBOLT_VL=<fp32 lanes of a vector>"
#endif

#define BOLT_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * BOLT_VL)));
typedef int32_t vi __attribute__((vector_size(4 * BOLT_VL)));
typedef float vf_u __attribute__((vector_size(4 * BOLT_VL), aligned(4), may_alias));
typedef int32_t vi_u __attribute__((vector_size(4 * BOLT_VL), aligned(4), may_alias));

enum { VL = BOLT_VL };

BOLT_INLINE vf vset(float x) { return x - vf{}; }
BOLT_INLINE vf vload(const float* p) { return *(const vf_u*)p; }
BOLT_INLINE void vstore(float* p, vf x) { *(vf_u*)p = x; }

// The first n (0 < n <= VL) lanes only; nothing beyond them is touched. Missing lanes read as 0.
#if BOLT_VL == 16 && defined(__AVX512F__)
BOLT_INLINE vf vload_n(const float* p, int64_t n) {
  return (vf)__builtin_ia32_loadups512_mask(p, vf{}, (uint16_t)((1u << n) - 1));
}
BOLT_INLINE void vstore_n(float* p, vf x, int64_t n) {
  __builtin_ia32_storeups512_mask(p, x, (uint16_t)((1u << n) - 1));
}
#elif BOLT_VL == 8 && defined(__AVX2__)
BOLT_INLINE vi first_lanes(int64_t n) { return vi{0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)n; }
BOLT_INLINE vf vload_n(const float* p, int64_t n) {
  return __builtin_ia32_maskloadps256((const vf*)p, first_lanes(n));
}
BOLT_INLINE void vstore_n(float* p, vf x, int64_t n) {
  __builtin_ia32_maskstoreps256((vf*)p, first_lanes(n), x);
}
#else
BOLT_INLINE vf vload_n(const float* p, int64_t n) {
  vf x = {};
  for (int64_t i = 0; i < n; i++) x[i] = p[i];
  return x;
}
BOLT_INLINE void vstore_n(float* p, vf x, int64_t n) {
  for (int64_t i = 0; i < n; i++) p[i] = x[i];
}
#endif

// c += a * b, and x = *p in all lanes. GCC moves the broadcasts of plain vector code far ahead of their uses
// and then spills the accumulators (measured: 96-284 against 250-285 GFLOP/s over the same tiles). Volatile asm
// keeps the written order of the two.
#if defined(__FMA__) && !defined(__clang__)
#define BOLT_FMA(c, a, b) __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#define BOLT_SPREAD(x, p) __asm__ volatile("vbroadcastss %1, %0" : "=v"(x) : "m"(*(p)))
#elif defined(__SSE2__) && !defined(__AVX__) && !defined(__clang__)
#define BOLT_FMA(c, a, b)                                                                        \
  do {                                                                                           \
    vf bolt_product = (a);                                                                       \
    __asm__ volatile("mulps %2, %1\n\taddps %1, %0" : "+x"(c), "+x"(bolt_product) : "x"(b));     \
  } while (0)
#define BOLT_SPREAD(x, p) __asm__ volatile("movss %1, %0\n\tshufps $0, %0, %0" : "=x"(x) : "m"(*(p)))
#else
#define BOLT_FMA(c, a, b) ((c) += (a) * (b))
#define BOLT_SPREAD(x, p) ((x) = vset(*(p)))
#endif

BOLT_INLINE vf vselect(vi mask, vf a, vf b) { return mask ? a : b; }
BOLT_INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }

// The larger (smaller) of a and b: one instruction. A NaN in b passes through, a NaN in a loses.
// (clang has no such builtin of 512 bits, and finds the instruction by itself.)
#if BOLT_VL == 16 && defined(__AVX512F__) && !defined(__clang__)
BOLT_INLINE vf vmax(vf a, vf b) { return __builtin_ia32_maxps512_mask(a, b, a, (uint16_t)-1, 4); }
BOLT_INLINE vf vmin(vf a, vf b) { return __builtin_ia32_minps512_mask(a, b, a, (uint16_t)-1, 4); }
#elif BOLT_VL == 8 && defined(__AVX__)
BOLT_INLINE vf vmax(vf a, vf b) { return __builtin_ia32_maxps256(a, b); }
BOLT_INLINE vf vmin(vf a, vf b) { return __builtin_ia32_minps256(a, b); }
#elif BOLT_VL == 4 && defined(__SSE__)
BOLT_INLINE vf vmax(vf a, vf b) { return __builtin_ia32_maxps(a, b); }
BOLT_INLINE vf vmin(vf a, vf b) { return __builtin_ia32_minps(a, b); }
#else
BOLT_INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
BOLT_INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }
#endif

// The same where a NaN in either operand passes through, as in ONNX Max and Min.
BOLT_INLINE vf vmax_nan(vf a, vf b) { return a == a ? vmax(a, b) : a; }
BOLT_INLINE vf vmin_nan(vf a, vf b) { return a == a ? vmin(a, b) : a; }

// x is the second operand: NaN stays NaN.
BOLT_INLINE vf vrelu(vf x) { return vmax(vf{}, x); }
BOLT_INLINE vf vclip(vf x, vf lo, vf hi) { return vmin(hi, vmax(lo, x)); }

#include "bolt/storage.h"
#include "bolt/vmath.h"
#include "bolt/coarse.h"
