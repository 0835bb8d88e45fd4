// Register tiles: MR rows (pixels) times NV vectors of output channels, and how their work is shared out.
#pragma once
#include "bolt/word.h"

BOLT_INLINE int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
BOLT_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A cursor that pulls the weights needed next into the caches while the current ones are used.
struct Ahead {
  const char* at;
  int64_t bytes;  // between two touches

  template <int TOUCHES>
  __attribute__((always_inline)) void touch() {
#pragma GCC unroll 24
    for (int i = 0; i < TOUCHES; i++) {
      __builtin_prefetch(at);
      at += bytes;
    }
  }
};

// Where the pixels of a tile lie: in a line, or in rows of W pixels.
template <int W>
struct PixelGrid {
  int64_t row_step, step;
};
BOLT_INLINE int64_t offset_of(int64_t step, int i) { return i * step; }
template <int W>
BOLT_INLINE int64_t offset_of(const PixelGrid<W>& grid, int i) {
  return i / W * grid.row_step + i % W * grid.step;
}

// acc[i][j] += a[offset_of(steps, i)] * b[j], one word of the reduction.
template <int MR, int NV, typename T, typename Steps, typename W = Word<T>>
BOLT_INLINE void mac_one(vf (&acc)[MR][NV], const T* a, const Steps& steps, const float* b, const W& word = {}) {
  vf w[NV];
#pragma GCC unroll 32
  for (int j = 0; j < NV; j++) w[j] = vload(b + j * VL);
#pragma GCC unroll 32
  for (int i = 0; i < MR; i++) {
    vf x;
    word.spread(x, a + offset_of(steps, i));
#pragma GCC unroll 32
    for (int j = 0; j < NV; j++) word.mac(acc[i][j], x, w[j]);
  }
}

// The same for the first C elements of a word.
template <int C, int MR, int NV, typename T, typename Steps>
BOLT_INLINE void mac_part(vf (&acc)[MR][NV], const T* a, const Steps& steps, const float* b, const Word<T>& word) {
#pragma GCC unroll 32
  for (int i = 0; i < MR; i++) {
    vf x;
    spread_part<C>(x, word, a + offset_of(steps, i));
#pragma GCC unroll 32
    for (int j = 0; j < NV; j++) word.mac(acc[i][j], x, vload(b + j * VL));
  }
}

// acc[i][j] += sum over x < C of a[offset_of(steps, i) + x] * b[x][j]; b is a panel of a row of NV vectors per word of a.
// The steps are unrolled by UNROLL: all of a short C, because GCC spills the sums around a loop of a few turns.
template <int MR, int NV, int64_t C, int UNROLL, int TOUCHES, typename T, typename Steps>
BOLT_INLINE void mac(vf (&acc)[MR][NV], const T* a, const Steps& steps, const float* b, Ahead& ahead) {
  constexpr int64_t SIZE = Word<T>::SIZE, WORDS = C / SIZE, WHOLE = WORDS / UNROLL * UNROLL;
  const Word<T> word = {};
#pragma GCC unroll 1
  for (int64_t x = 0; x < WHOLE; x += UNROLL) {
#pragma GCC unroll 16
    for (int u = 0; u < UNROLL; u++) mac_one<MR, NV>(acc, a + (x + u) * SIZE, steps, b + (x + u) * NV * VL, word);
    ahead.touch<TOUCHES>();
  }
#pragma GCC unroll 1
  for (int64_t x = WHOLE; x < WORDS; x++) mac_one<MR, NV>(acc, a + x * SIZE, steps, b + x * NV * VL, word);
  // The last word ends with the last element; b has zeros for those it shares with the word before.
  if constexpr (C % SIZE != 0 && C > SIZE) mac_one<MR, NV>(acc, a + C - SIZE, steps, b + WORDS * NV * VL, word);
  if constexpr (C < SIZE) mac_part<C>(acc, a, steps, b, word);
}

// Sums that start at what `Word` of signed 8-bit integers makes too much; b has it before its panel.
template <int MR, int NV>
BOLT_INLINE void start(vf (&acc)[MR][NV], const float* b) {
#pragma GCC unroll 32
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 32
    for (int j = 0; j < NV; j++) acc[i][j] = vload(b + j * VL);
}

// The numbers that are the sums of products of elements of type T.
template <typename T, int MR, int NV>
BOLT_INLINE void settle(vf (&acc)[MR][NV]) {
#pragma GCC unroll 32
  for (int i = 0; i < MR; i++)
#pragma GCC unroll 32
    for (int j = 0; j < NV; j++) acc[i][j] = Word<T>::sum(acc[i][j]);
}

// The same for a run-time number c of words and any distance `next` between those of a.
template <int MR, int NV, typename T, typename W = Word<T>>
BOLT_INLINE void mac_strided(vf (&acc)[MR][NV], const T* a, int64_t step, int64_t next, const float* b, int64_t c,
                             const W& word = {}) {
#pragma GCC unroll 1
  for (int64_t x = 0; x < c; x++, a += next, b += NV * VL) mac_one<MR, NV>(acc, a, step, b, word);
}

// The same for pairs of c values next to each other. The last one of an odd number forms a pair with the value before
// it, which b has a zero for, if there is one: in the pairs, or before a.
template <int MR, int NV, typename T>
BOLT_INLINE void mac_pairs(vf (&acc)[MR][NV], const T* a, int64_t step, const float* b, int64_t c, bool has_before) {
  static_assert(Word<T>::SIZE == 2);
  const Word<T> word = {};
  mac_strided<MR, NV>(acc, a, step, 2, b, c / 2, word);
  if (c % 2 == 0) return;
  b += c / 2 * NV * VL;
  if (c > 1 || has_before)
    mac_one<MR, NV>(acc, a + c - 2, step, b, word);
  else
    mac_part<1>(acc, a, step, b, word);
}

// Loads and stores of the first `lanes` lanes; without TAIL the compiler knows that it is all of them.
template <bool TAIL, class T>
BOLT_INLINE vf load_lanes(const T* p, int64_t lanes) {
  return !TAIL || lanes == VL ? vload(p) : vload_n(p, lanes);
}
template <bool TAIL, class T>
BOLT_INLINE void store_lanes(T* p, vf x, int64_t lanes) {
  if (!TAIL || lanes == VL)
    vstore(p, x);
  else
    vstore_n(p, x, lanes);
}

// How rows are cut into tiles: `whole` tiles of `size` rows, the first `longer` of them with one more, then rests.
struct Tiling {
  int64_t count, whole, size, longer, rest[4];

  __attribute__((always_inline)) int64_t start(int64_t t) const {
    int64_t first = at_most(t, whole) * size + at_most(t, longer);
    for (int64_t i = whole; i < t; i++) first += rest[i - whole];
    return first;
  }
  __attribute__((always_inline)) int64_t rows(int64_t t) const {
    return t < whole ? size + (t < longer) : rest[t - whole];
  }
};

// The fewest tiles of at most MOST rows; their sizes differ by at most one.
template <int MOST>
BOLT_INLINE Tiling even_tiles(int64_t extent) {
  if (extent == 0) return {};
  const int64_t count = ceil_div(extent, MOST);
  return {count, count, extent / count, extent % count, {}};
}

// Tiles of MOST rows, and the rest in tiles of FEWER rows (descending, down to 1): any extent with few sizes.
template <int MOST, int... FEWER>
BOLT_INLINE Tiling listed_tiles(int64_t extent) {
  const int64_t fewer[] = {FEWER..., 1};
  Tiling tiling = {extent / MOST, extent / MOST, MOST, 0, {}};
  int64_t left = extent % MOST;
  for (int64_t size : fewer)
    for (; left >= size; left -= size) tiling.rest[tiling.count++ - tiling.whole] = size;
  return tiling;
}

// Share `part` of `parts` of a grid of m x n equal units: at most three rectangles.
struct Rectangle {
  int64_t m0, m1, n0, n1;
};
struct Share {
  Rectangle rectangle[3];
  int count;
};

// Cuts along both axes when that is even enough, preferring the cut that reads the least memory; else into runs
// of units along m, then n. `unit_cost`, `m_cost` and `n_cost` are the time of a unit's arithmetic and of
// fetching one row of a, one panel of b.
BOLT_INLINE Share share_of(int64_t part, int64_t parts, int64_t m, int64_t n, int64_t unit_cost, int64_t m_cost,
                           int64_t n_cost) {
  if (parts == 1) return {{{0, m, 0, n}}, 1};
  int64_t best = INT64_MAX, best_n = 0;
  for (int64_t pn = 1; pn <= at_most(parts, n); pn++) {
    const int64_t pm = parts / pn;
    if (pm * pn != parts || pm > m) continue;
    const int64_t rows = ceil_div(m, pm), panels = ceil_div(n, pn);
    const int64_t cost = rows * panels * unit_cost + rows * m_cost + panels * n_cost;
    if (cost < best) best = cost, best_n = pn;
  }
  const int64_t total = m * n, even = ceil_div(total, parts) * unit_cost;
  if (best_n && best <= even + even / 4 + m * m_cost + n * n_cost) {
    const int64_t pm = parts / best_n, i = part % pm, j = part / pm;
    return {{{i * m / pm, (i + 1) * m / pm, j * n / best_n, (j + 1) * n / best_n}}, 1};
  }
  const int64_t first = part * total / parts, last = (part + 1) * total / parts;
  const int64_t n0 = first / m, n1 = last / m, m0 = first % m, m1 = last % m;
  if (n0 == n1) return {{{m0, m1, n0, n0 + 1}}, m0 < m1};
  Share share = {{{m0, m, n0, n0 + 1}}, 1};
  if (n0 + 1 < n1) share.rectangle[share.count++] = {0, m, n0 + 1, n1};
  if (m1) share.rectangle[share.count++] = {0, m1, n1, n1 + 1};
  return share;
}
