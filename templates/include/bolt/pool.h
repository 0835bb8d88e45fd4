// Pooling windows over channels-last images.
#pragma once
#include "bolt/horizontal.h"

// Which taps of a window exist along one axis: [first, last), and how many the average counts.
struct Taps {
  int64_t first, last, counted;
};

// Taps of output `position`: input rows position * stride - pad + tap * dilation within [0, extent); an average
// that includes padding counts those before extent + pad_end.
BOLT_INLINE Taps taps_at(int64_t position, int64_t stride, int64_t pad, int64_t dilation, int64_t taps,
                         int64_t extent, int64_t counted_end) {
  const int64_t start = position * stride - pad;
  const auto before = [&](int64_t end) {  // taps whose row lies before `end`
    const int64_t n = end - start <= 0 ? 0 : (end - start + dilation - 1) / dilation;
    return n < taps ? n : taps;
  };
  return {before(0), before(extent), before(counted_end)};
}

// U neighbouring vectors joined over rows x columns taps; x is the first tap. n < VL for a partial vector (U = 1).
template <class Op, int U, class T>
BOLT_INLINE void pool_window(vf* acc, const T* x, int64_t rows, int64_t row_step, int64_t columns,
                             int64_t column_step, int64_t n) {
  for (int u = 0; u < U; u++) acc[u] = vset(Op::start);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) {
      const T* const tap = x + i * row_step + j * column_step;
      for (int u = 0; u < U; u++) acc[u] = Op::join(acc[u], vload_upto(tap + u * VL, n));
    }
  }
}
