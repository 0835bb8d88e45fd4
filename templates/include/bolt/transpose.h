// A VL x VL tile of 32-bit elements transposed in registers.
#pragma once
#include "bolt/simd.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define BOLT_HAS_SHUFFLE 1
#endif
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

// Exchanges the off-diagonal S x S blocks of the 2S x 2S blocks that rows a and b = a + S pass through.
template <int S, int... I>
BOLT_INLINE void exchange(vf& a, vf& b, Lanes<I...>) {
  const vf low = __builtin_shufflevector(a, b, (I & S ? I - S + VL : I)...);
  b = __builtin_shufflevector(a, b, (I & S ? I + VL : I + S)...);
  a = low;
}

template <int S>
BOLT_INLINE void exchange_rows(vf* rows) {
  if constexpr (S > 0) {
    for (int i = 0; i < VL; i++) {
      if (!(i & S)) exchange<S>(rows[i], rows[i + S], MakeLanes<VL>::type());
    }
    exchange_rows<S / 2>(rows);
  }
}

BOLT_INLINE void transpose_registers(vf* rows) { exchange_rows<VL / 2>(rows); }
#else
BOLT_INLINE void transpose_registers(vf* rows) {
  for (int i = 0; i < VL; i++) {
    for (int j = 0; j < i; j++) {
      const float upper = rows[j][i];
      rows[j][i] = rows[i][j];
      rows[i][j] = upper;
    }
  }
}
#endif

// y[i * y_step + j] = x[j * x_step + i] for i, j < VL.
BOLT_INLINE void transpose_tile(float* y, int64_t y_step, const float* x, int64_t x_step) {
  vf rows[VL];
#pragma GCC unroll 16
  for (int j = 0; j < VL; j++) rows[j] = vload(x + j * x_step);
  transpose_registers(rows);
#pragma GCC unroll 16
  for (int i = 0; i < VL; i++) vstore(y + i * y_step, rows[i]);
}
