// Reductions over two strided axes at once.
#pragma once
#include "bolt/horizontal.h"

// What is done to each element before it is joined.
struct AsIs {
  BOLT_INLINE vf map(vf x) { return x; }
};
struct Square {
  BOLT_INLINE vf map(vf x) { return x * x; }
};
struct Magnitude {
  BOLT_INLINE vf map(vf x) { return vabs(x); }
};

// Two axes of input, in elements.
struct Window {
  int64_t r0, step0, r1, step1;
};

// U neighbouring vectors, each joined over the window; the last lanes beyond n of a partial vector (U = 1) are
// not read. At least four independent chains hide the latency of `join`; blocks of 128 rows keep sums accurate.
template <class Op, class Map, int U, class T>
BOLT_INLINE void reduce_columns(vf* total, const T* x, const Window& w, int64_t n) {
  constexpr int CHAINS = U < 4 ? 4 / U : 1;
  for (int u = 0; u < U; u++) total[u] = vset(Op::start);
  for (int64_t i0 = 0; i0 < w.r0; i0++) {
    for (int64_t start = 0; start < w.r1; start += 128) {
      const int64_t end = start + 128 < w.r1 ? start + 128 : w.r1;
      vf block[CHAINS][U];
      for (int c = 0; c < CHAINS; c++) {
        for (int u = 0; u < U; u++) block[c][u] = vset(Op::start);
      }
      const T* row = x + i0 * w.step0 + start * w.step1;
      int64_t i1 = start;
      for (; i1 + CHAINS <= end; i1 += CHAINS, row += CHAINS * w.step1) {
        for (int c = 0; c < CHAINS; c++) {
          for (int u = 0; u < U; u++) {
            block[c][u] = Op::join(block[c][u], Map::map(vload_upto(row + c * w.step1 + u * VL, n)));
          }
        }
      }
      for (; i1 < end; i1++, row += w.step1) {
        for (int u = 0; u < U; u++) block[0][u] = Op::join(block[0][u], Map::map(vload_upto(row + u * VL, n)));
      }
      for (int c = 0; c < CHAINS; c++) {
        for (int u = 0; u < U; u++) total[u] = Op::join(total[u], block[c][u]);
      }
    }
  }
}

// One element of the output; r1 is contiguous.
template <class Op, class Map, class T>
BOLT_INLINE float reduce_row(const T* x, const Window& w) {
  vf total = vset(Op::start);
  for (int64_t i0 = 0; i0 < w.r0; i0++) {
    const T* const row = x + i0 * w.step0;
    const float part = vreduce<Op>(w.r1, [&](int64_t i, int64_t n) { return Map::map(vload_upto(row + i, n)); });
    total = Op::join(total, vset(part));
  }
  return total[0];
}

// One element of the output, any strides.
template <class Op, class Map, class T>
BOLT_INLINE float reduce_strided(const T* x, const Window& w) {
  vf total = vset(Op::start);
  for (int64_t i0 = 0; i0 < w.r0; i0++) {
    const T* const row = x + i0 * w.step0;
    const float part = vreduce<Op>(w.r1, [&](int64_t i, int64_t n) {
      vf values = {};
      for (int64_t j = 0; j < n; j++) values[j] = row[(i + j) * w.step1];
      return Map::map(values);
    });
    total = Op::join(total, vset(part));
  }
  return total[0];
}
