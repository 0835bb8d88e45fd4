// A VL x VL tile of 32-bit elements transposed in registers.
#pragma once
#include "bolt/shuffle.h"

// By halves: blocks of S x S are in place when everything larger is.
template <int S>
BOLT_INLINE void transpose_registers(vf* rows) {
  if constexpr (S > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < VL; i++) {
      if (!(i & S)) vexchange<S>(rows[i], rows[i + S]);
    }
    transpose_registers<S / 2>(rows);
  }
}

// y[i * y_step + j] = x[j * x_step + i] for i, j < VL.
BOLT_INLINE void transpose_tile(float* y, int64_t y_step, const float* x, int64_t x_step) {
  vf rows[VL];
#pragma GCC unroll 16
  for (int j = 0; j < VL; j++) rows[j] = vload(x + j * x_step);
  transpose_registers<VL / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < VL; i++) vstore(y + i * y_step, rows[i]);
}

// The same for i < rows, j < columns, both at most VL.
BOLT_INLINE void transpose_part(float* y, int64_t y_step, const float* x, int64_t x_step, int64_t rows,
                                int64_t columns) {
  vf tile[VL];
#pragma GCC unroll 16
  for (int j = 0; j < VL; j++) tile[j] = j < columns ? vload_n(x + j * x_step, rows) : vf{};
  transpose_registers<VL / 2>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < VL; i++) {
    if (i < rows) vstore_n(y + i * y_step, tile[i], columns);
  }
}
