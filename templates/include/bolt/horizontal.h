// Reductions of rows of memory to one value, and of a vector to its lanes' total.
#pragma once
#include "bolt/shuffle.h"

// The first n lanes of x, `fill` in the others.
BOLT_INLINE vf vkeep(vf x, int64_t n, float fill) {
  vi lane;
  for (int i = 0; i < VL; i++) lane[i] = i;
  return lane < (int32_t)n ? x : vset(fill);
}

struct SumOp {
  static constexpr float start = 0.0f;
  BOLT_INLINE vf join(vf a, vf b) { return a + b; }
};
struct ProdOp {
  static constexpr float start = 1.0f;
  BOLT_INLINE vf join(vf a, vf b) { return a * b; }
};
// Either operand's NaN may get lost.
struct FastMaxOp {
  static constexpr float start = -__builtin_inff();
  BOLT_INLINE vf join(vf a, vf b) { return vmax(a, b); }
};
struct MaxOp {
  static constexpr float start = -__builtin_inff();
  BOLT_INLINE vf join(vf a, vf b) { return vmax_nan(a, b); }
};
struct MinOp {
  static constexpr float start = __builtin_inff();
  BOLT_INLINE vf join(vf a, vf b) { return vmin_nan(a, b); }
};

// All lanes joined, by halves.
template <class Op, int S = VL / 2>
BOLT_INLINE float vtotal(vf x) {
  if constexpr (S == 0) {
    return x[0];
  } else {
    return vtotal<Op, S / 2>(Op::join(x, vrotate<S>(x)));
  }
}

// Joins value(i, n) over the vectors of [0, count): n is VL but for the last vector, whose missing lanes are left
// out. Four independent chains hide the latency of `join`; their blocks of 4096 vectors keep sums accurate.
template <class Op, class F>
BOLT_INLINE float vreduce(int64_t count, F value) {
  const vf start = vset(Op::start);
  vf total = start;
  int64_t i = 0;
  while (i + 4 * VL <= count) {
    const int64_t left = (count - i) / (4 * VL) * (4 * VL);
    const int64_t end = i + (left < 4096 * VL ? left : 4096 * VL);
    vf a = start, b = start, c = start, e = start;
    for (; i < end; i += 4 * VL) {
      a = Op::join(a, value(i, VL));
      b = Op::join(b, value(i + VL, VL));
      c = Op::join(c, value(i + 2 * VL, VL));
      e = Op::join(e, value(i + 3 * VL, VL));
    }
    total = Op::join(total, Op::join(Op::join(a, b), Op::join(c, e)));
  }
  for (; i + VL <= count; i += VL) total = Op::join(total, value(i, VL));
  if (i < count) total = Op::join(total, vkeep(value(i, count - i), count - i, Op::start));
  return vtotal<Op>(total);
}

// n elements at p; a plain load for a whole vector.
template <class T>
BOLT_INLINE vf vload_upto(const T* p, int64_t n) {
  return n == VL ? vload(p) : vload_n(p, n);
}
template <class T>
BOLT_INLINE void vstore_upto(T* p, vf x, int64_t n) {
  if (n == VL) {
    vstore(p, x);
  } else {
    vstore_n(p, x, n);
  }
}
