// Lane permutations of `vf` with constant indices.
#pragma once
#include "bolt/simd.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define BOLT_HAS_SHUFFLE 1
#endif
#endif

// Lane i takes lane number i of the list.
#ifdef BOLT_HAS_SHUFFLE
#define vpick(x, ...) __builtin_shufflevector(x, x, __VA_ARGS__)
#else
#define vpick(x, ...) __builtin_shuffle(x, vi{__VA_ARGS__})
#endif

#ifdef BOLT_HAS_SHUFFLE
template <int... I>
struct Lanes {};
template <int N, int... I>
struct MakeLanes : MakeLanes<N - 1, N - 1, I...> {};
template <int... I>
struct MakeLanes<0, I...> {
  typedef Lanes<I...> type;
};

template <int S, int... I>
BOLT_INLINE vf rotate_lanes(vf x, Lanes<I...>) {
  return __builtin_shufflevector(x, x, ((I + S) % VL)...);
}
template <int S>
BOLT_INLINE vf vrotate(vf x) {
  return rotate_lanes<S>(x, MakeLanes<VL>::type());
}

// Exchanges the off-diagonal S x S blocks of the 2S x 2S blocks that rows a and b = a + S pass through.
template <int S, int... I>
BOLT_INLINE void exchange_lanes(vf& a, vf& b, Lanes<I...>) {
  const vf low = __builtin_shufflevector(a, b, (I & S ? I - S + VL : I)...);
  b = __builtin_shufflevector(a, b, (I & S ? I + VL : I + S)...);
  a = low;
}
template <int S>
BOLT_INLINE void vexchange(vf& a, vf& b) {
  exchange_lanes<S>(a, b, MakeLanes<VL>::type());
}
#else
// Lane i takes lane (i + S) % VL.
template <int S>
BOLT_INLINE vf vrotate(vf x) {
  vf y;
  for (int i = 0; i < VL; i++) y[i] = x[(i + S) % VL];
  return y;
}
template <int S>
BOLT_INLINE void vexchange(vf& a, vf& b) {
  for (int i = 0; i < VL; i++) {
    if (i & S) {
      const float upper = a[i];
      a[i] = b[i - S];
      b[i - S] = upper;
    }
  }
}
#endif
