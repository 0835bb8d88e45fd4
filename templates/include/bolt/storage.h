// Elements of memory that are not fp32: kernels compute in `vf` and convert when they load and store.
//
// A bf16 store rounds to nearest even and keeps NaN; u8 and s8 stores round to nearest even and saturate.
// Included by simd.h.
#pragma once

// The upper half of an fp32 number.
struct bf16_t {
  uint16_t bits;
  __attribute__((always_inline)) operator float() const { return __builtin_bit_cast(float, (uint32_t)bits << 16); }
};

typedef uint32_t vu __attribute__((vector_size(4 * BOLT_VL)));
typedef uint16_t vh __attribute__((vector_size(2 * BOLT_VL)));
typedef uint8_t vb __attribute__((vector_size(BOLT_VL)));
typedef int8_t vc __attribute__((vector_size(BOLT_VL)));
typedef uint16_t vh_u __attribute__((vector_size(2 * BOLT_VL), aligned(1), may_alias));
typedef uint8_t vb_u __attribute__((vector_size(BOLT_VL), aligned(1), may_alias));
typedef int8_t vc_u __attribute__((vector_size(BOLT_VL), aligned(1), may_alias));

// Loads that widen elements to 32 bits, and stores that keep their lowest bits; the `_n` forms touch n elements only.
// Assembly, because GCC 12 spells some of these conversions lane by lane and compilers name the builtins differently.
#if BOLT_VL == 16 && defined(__AVX512BW__)
#define BOLT_WIDEN(name, instruction, memory)                                                            \
  BOLT_INLINE vi name(const void* p) {                                                                   \
    vi x;                                                                                                \
    __asm__(instruction " %1, %0" : "=v"(x) : "m"(*(const memory*)p));                                   \
    return x;                                                                                            \
  }                                                                                                      \
  BOLT_INLINE vi name##_n(const void* p, int64_t n) {                                                    \
    vi x;                                                                                                \
    const uint16_t mask = (uint16_t)((1u << n) - 1);                                                     \
    __asm__(instruction " %1, %0%{%2%}%{z%}" : "=v"(x) : "m"(*(const memory*)p), "Yk"(mask));            \
    return x;                                                                                            \
  }
#define BOLT_NARROW(name, instruction, memory)                                                           \
  BOLT_INLINE void name(void* p, vi x) {                                                                 \
    __asm__(instruction " %1, %0" : "=m"(*(memory*)p) : "v"(x));                                         \
  }                                                                                                      \
  BOLT_INLINE void name##_n(void* p, vi x, int64_t n) {                                                  \
    const uint16_t mask = (uint16_t)((1u << n) - 1);                                                     \
    __asm__(instruction " %1, %0%{%2%}" : "+m"(*(memory*)p) : "v"(x), "Yk"(mask));                       \
  }
BOLT_WIDEN(widen_u16, "vpmovzxwd", vh_u)
BOLT_WIDEN(widen_u8, "vpmovzxbd", vb_u)
BOLT_WIDEN(widen_s8, "vpmovsxbd", vc_u)
BOLT_NARROW(narrow_16, "vpmovdw", vh_u)
BOLT_NARROW(narrow_8, "vpmovdb", vb_u)
BOLT_NARROW(saturate_u8, "vpmovusdb", vb_u)
BOLT_NARROW(saturate_s8, "vpmovsdb", vc_u)
#else
#define BOLT_WIDEN(name, element, memory)                                                                \
  BOLT_INLINE vi name(const void* p) { return __builtin_convertvector(*(const memory*)p, vi); }          \
  BOLT_INLINE vi name##_n(const void* p, int64_t n) {                                                    \
    vi x = {};                                                                                           \
    for (int64_t i = 0; i < n; i++) x[i] = ((const element*)p)[i];                                       \
    return x;                                                                                            \
  }
#define BOLT_NARROW(name, element, vector, memory)                                                       \
  BOLT_INLINE void name(void* p, vi x) { *(memory*)p = __builtin_convertvector(x, vector); }             \
  BOLT_INLINE void name##_n(void* p, vi x, int64_t n) {                                                  \
    for (int64_t i = 0; i < n; i++) ((element*)p)[i] = (element)x[i];                                    \
  }
BOLT_WIDEN(widen_u16, uint16_t, vh_u)
BOLT_WIDEN(widen_u8, uint8_t, vb_u)
BOLT_WIDEN(widen_s8, int8_t, vc_u)
BOLT_NARROW(narrow_16, uint16_t, vh, vh_u)
BOLT_NARROW(narrow_8, uint8_t, vb, vb_u)
#endif
#undef BOLT_WIDEN
#undef BOLT_NARROW

constexpr float LARGEST_BF16 = 0x1.fep127f;

// x within the range of bf16, for a store that must not make infinity of a finite number. NaN and infinity stay.
BOLT_INLINE vf bf16_range(vf x) {
  const vf most = vset(LARGEST_BF16);
  return vabs(x) < __builtin_inff() ? vmax(-most, vmin(most, x)) : x;
}
BOLT_INLINE bf16_t bf16_of(float x) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, x), magnitude = bits & 0x7fffffff;
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  if (magnitude > 0x7f800000) return {(uint16_t)((bits | 0x400000) >> 16)};  // NaN
  // Between the largest bf16 number and infinity rounding is cut.
  return {(uint16_t)((magnitude >= 0x7f7f0000 && magnitude < 0x7f800000 ? bits : rounded) >> 16)};
}

// The bits of bf16 numbers, in the lower halves.
BOLT_INLINE vi bf16_bits(vf x) {
  const vu bits = (vu)x;
  const vu rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (vi)((x == x ? rounded : (bits | 0x400000)) >> 16);
}

BOLT_INLINE vf vload(const bf16_t* p) { return (vf)(widen_u16(p) << 16); }
BOLT_INLINE vf vload(const uint8_t* p) { return __builtin_convertvector(widen_u8(p), vf); }
BOLT_INLINE vf vload(const int8_t* p) { return __builtin_convertvector(widen_s8(p), vf); }
BOLT_INLINE vf vload_n(const bf16_t* p, int64_t n) { return (vf)(widen_u16_n(p, n) << 16); }
BOLT_INLINE vf vload_n(const uint8_t* p, int64_t n) { return __builtin_convertvector(widen_u8_n(p, n), vf); }
BOLT_INLINE vf vload_n(const int8_t* p, int64_t n) { return __builtin_convertvector(widen_s8_n(p, n), vf); }

#if BOLT_VL == 16 && defined(__AVX512BF16__)
BOLT_INLINE vh bf16_halves(vf x) {
  vh y;
  __asm__("vcvtneps2bf16 %1, %0" : "=v"(y) : "v"(x));
  return y;
}
BOLT_INLINE void vstore(bf16_t* p, vf x) { *(vh_u*)p = bf16_halves(x); }
BOLT_INLINE void vstore_n(bf16_t* p, vf x, int64_t n) {
  const uint16_t mask = (uint16_t)((1u << n) - 1);
  __asm__("vmovdqu16 %1, %0%{%2%}" : "+m"(*(vh_u*)p) : "v"(bf16_halves(x)), "Yk"(mask));
}
#else
BOLT_INLINE void vstore(bf16_t* p, vf x) { narrow_16(p, bf16_bits(x)); }
BOLT_INLINE void vstore_n(bf16_t* p, vf x, int64_t n) { narrow_16_n(p, bf16_bits(x), n); }
#endif

#if BOLT_VL == 16 && defined(__AVX512BW__)
// The nearest integer of at most `high`, ties to even. What is no number or too small becomes the smallest integer.
BOLT_INLINE vi nearest(vf x, float high) {
  vi y;
  __asm__("vcvtps2dq %1, %0" : "=v"(y) : "v"(vmin(vset(high), x)));
  return y;
}
BOLT_INLINE vi nearest_u8(vf x) {
  const vi y = nearest(x, 255);
  return y > 0 ? y : vi{};
}
BOLT_INLINE void vstore(uint8_t* p, vf x) { saturate_u8(p, nearest_u8(x)); }
BOLT_INLINE void vstore(int8_t* p, vf x) { saturate_s8(p, nearest(x, 127)); }
BOLT_INLINE void vstore_n(uint8_t* p, vf x, int64_t n) { saturate_u8_n(p, nearest_u8(x), n); }
BOLT_INLINE void vstore_n(int8_t* p, vf x, int64_t n) { saturate_s8_n(p, nearest(x, 127), n); }
#else
// The nearest integer in [low, high], ties to even, in the lowest 8 bits; NaN becomes `low`. The sum's last bit has
// the weight of 1.
BOLT_INLINE vi saturated(vf x, float low, float high) {
  return (vi)(vmin(vmax(x, vset(low)), vset(high)) + 0x1.8p23f);
}
BOLT_INLINE void vstore(uint8_t* p, vf x) { narrow_8(p, saturated(x, 0, 255)); }
BOLT_INLINE void vstore(int8_t* p, vf x) { narrow_8(p, saturated(x, -128, 127)); }
BOLT_INLINE void vstore_n(uint8_t* p, vf x, int64_t n) { narrow_8_n(p, saturated(x, 0, 255), n); }
BOLT_INLINE void vstore_n(int8_t* p, vf x, int64_t n) { narrow_8_n(p, saturated(x, -128, 127), n); }
#endif
