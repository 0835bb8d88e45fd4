// A VL x VL tile of elements of up to 32 bits transposed in registers, one in each lane.
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

// Elements of a type of their own are numbers; unsigned integers stand for any of their size, in the lanes' lowest bits.
// Numbers become bf16 without becoming infinite: they may be a mask of -3.4e38.
template <class T>
BOLT_INLINE vf lanes_of(const T* p) {
  return vload(p);
}
BOLT_INLINE vf lanes_of(const uint32_t* p) { return vload((const float*)p); }
BOLT_INLINE vf lanes_of(const uint16_t* p) { return (vf)widen_u16(p); }
BOLT_INLINE vf lanes_of(const uint8_t* p) { return (vf)widen_u8(p); }
template <class T>
BOLT_INLINE vf lanes_of(const T* p, int64_t n) {
  return vload_n(p, n);
}
BOLT_INLINE vf lanes_of(const uint32_t* p, int64_t n) { return vload_n((const float*)p, n); }
BOLT_INLINE vf lanes_of(const uint16_t* p, int64_t n) { return (vf)widen_u16_n(p, n); }
BOLT_INLINE vf lanes_of(const uint8_t* p, int64_t n) { return (vf)widen_u8_n(p, n); }

template <class T>
BOLT_INLINE void put_lanes(T* p, vf x) {
  vstore(p, x);
}
BOLT_INLINE void put_lanes(bf16_t* p, vf x) { vstore(p, bf16_range(x)); }
BOLT_INLINE void put_lanes(uint32_t* p, vf x) { vstore((float*)p, x); }
BOLT_INLINE void put_lanes(uint16_t* p, vf x) { narrow_16(p, (vi)x); }
BOLT_INLINE void put_lanes(uint8_t* p, vf x) { narrow_8(p, (vi)x); }
template <class T>
BOLT_INLINE void put_lanes(T* p, vf x, int64_t n) {
  vstore_n(p, x, n);
}
BOLT_INLINE void put_lanes(bf16_t* p, vf x, int64_t n) { vstore_n(p, bf16_range(x), n); }
BOLT_INLINE void put_lanes(uint32_t* p, vf x, int64_t n) { vstore_n((float*)p, x, n); }
BOLT_INLINE void put_lanes(uint16_t* p, vf x, int64_t n) { narrow_16_n(p, (vi)x, n); }
BOLT_INLINE void put_lanes(uint8_t* p, vf x, int64_t n) { narrow_8_n(p, (vi)x, n); }

// y[i * y_step + j] = x[j * x_step + i] for i, j < VL.
template <class To, class From>
BOLT_INLINE void transpose_tile(To* y, int64_t y_step, const From* x, int64_t x_step) {
  vf rows[VL];
#pragma GCC unroll 16
  for (int j = 0; j < VL; j++) rows[j] = lanes_of(x + j * x_step);
  transpose_registers<VL / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < VL; i++) put_lanes(y + i * y_step, rows[i]);
}

// The same for i < rows, j < columns, both at most VL.
template <class To, class From>
BOLT_INLINE void transpose_part(To* y, int64_t y_step, const From* x, int64_t x_step, int64_t rows,
                                int64_t columns) {
  vf tile[VL];
#pragma GCC unroll 16
  for (int j = 0; j < VL; j++) tile[j] = j < columns ? lanes_of(x + j * x_step, rows) : vf{};
  transpose_registers<VL / 2>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < VL; i++) {
    if (i < rows) put_lanes(y + i * y_step, tile[i], columns);
  }
}
