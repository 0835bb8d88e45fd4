// Bytes of neighbouring pixels side by side in words of 32 bits, for products of four at a time.
#pragma once
#include "bolt/simd.h"

#if BOLT_VL == 16 && defined(__AVX512BW__)
enum { BYTES = 4 * VL };
typedef uint8_t bytes_u __attribute__((vector_size(4 * BOLT_VL), aligned(1), may_alias));

#define BOLT_UNPACK(name, instruction)                                                  \
  BOLT_INLINE vf name(vf a, vf b) {                                                     \
    vf y;                                                                               \
    __asm__(instruction " %2, %1, %0" : "=v"(y) : "v"(a), "v"(b));                      \
    return y;                                                                           \
  }
BOLT_UNPACK(low_bytes, "vpunpcklbw")
BOLT_UNPACK(high_bytes, "vpunpckhbw")
BOLT_UNPACK(low_pairs, "vpunpcklwd")
BOLT_UNPACK(high_pairs, "vpunpckhwd")
#undef BOLT_UNPACK

// The bytes of 64 channels in the order that unpacking them twice, which works on each 16 bytes alone, makes natural.
template <bool PART>
BOLT_INLINE vf load_bytes(const void* p, uint64_t mask) {
  const vi order = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  vf x;
  if (PART) {
    vf y;
    __asm__("vmovdqu8 %1, %0%{%2%}%{z%}" : "=v"(y) : "m"(*(const bytes_u*)p), "Yk"(mask));
    __asm__("vpermd %1, %2, %0" : "=v"(x) : "v"(y), "v"(order));
  } else {
    __asm__("vpermd %1, %2, %0" : "=v"(x) : "m"(*(const bytes_u*)p), "v"(order));
  }
  return x;
}

// Of two pairs of pixels (their low and high halves), the words of vector K of 16 channels.
template <int K>
BOLT_INLINE vf words_of(vf low0, vf high0, vf low1, vf high1) {
  if (K == 0) return low_pairs(low0, low1);
  if (K == 1) return high_pairs(low0, low1);
  return K == 2 ? low_pairs(high0, high1) : high_pairs(high0, high1);
}
#endif
