// Walking strided index spaces, and cutting them into shares.
#pragma once
#include <stdint.h>

#ifndef BOLT_INLINE
#define BOLT_INLINE static inline __attribute__((always_inline))
#endif

// Part `part` of `parts` of [0, count).
struct Share {
  int64_t first, last;
  Share(int64_t count, int64_t part, int64_t parts)
      : first(count * part / parts), last(count * (part + 1) / parts) {}
};

// Length of the pieces a row of `inner` elements is cut into, so that `rows` rows feed `parts` shares evenly;
// a multiple of 64 elements, so that shares don't write to the same cache line.
BOLT_INLINE int64_t piece_length(int64_t rows, int64_t inner, int64_t parts) {
  if (parts == 1 || rows >= 8 * parts) return inner;
  const int64_t pieces = (8 * parts + rows - 1) / rows;
  const int64_t length = ((inner + pieces - 1) / pieces + 63) / 64 * 64;
  return length < inner ? length : inner;
}

// Offsets of N operands while an index runs over R axes in row-major order.
template <int R, int N>
struct Walk {
  int64_t dims[R], strides[N][R], index[R], offset[N];

  __attribute__((always_inline)) int64_t count() const {
    int64_t product = 1;
    for (int r = 0; r < R; r++) product *= dims[r];
    return product;
  }

  __attribute__((always_inline)) void seek(int64_t position) {
    for (int n = 0; n < N; n++) offset[n] = 0;
    for (int r = R - 1; r >= 0; r--) {
      index[r] = position % dims[r];
      position /= dims[r];
      for (int n = 0; n < N; n++) offset[n] += index[r] * strides[n][r];
    }
  }

  __attribute__((always_inline)) void next() {
    for (int r = R - 1; r >= 0; r--) {
      for (int n = 0; n < N; n++) offset[n] += strides[n][r];
      if (++index[r] < dims[r]) return;
      for (int n = 0; n < N; n++) offset[n] -= dims[r] * strides[n][r];
      index[r] = 0;
    }
  }
};

// Calls piece(first, last) for every piece [first, last) of this share, with `walk` at the piece's row. Rows have
// `inner` elements; all rows are there for all pieces, so the shares differ by one piece at most.
template <int R, int N, class F>
BOLT_INLINE void for_pieces(Walk<R, N>& walk, int64_t inner, int64_t part, int64_t parts, F piece) {
  const int64_t rows = walk.count(), length = piece_length(rows, inner, parts);
  const int64_t pieces = (inner + length - 1) / length;
  const Share share(rows * pieces, part, parts);
  int64_t k = share.first % pieces;
  walk.seek(share.first / pieces);
  for (int64_t unit = share.first; unit < share.last; unit++) {
    piece(k * length, k + 1 == pieces ? inner : (k + 1) * length);
    if (++k == pieces) {
      k = 0;
      walk.next();
    }
  }
}

// Calls rows(n) for every group of up to `size` rows of this share, with `walk` at the first of them. Doing one step
// for all rows of a group before the next step overlaps the steps' latencies.
template <int R, int N, class F>
BOLT_INLINE void for_groups(Walk<R, N>& walk, int64_t size, int64_t part, int64_t parts, F rows) {
  const Share share(walk.count(), part, parts);
  walk.seek(share.first);
  for (int64_t i = share.first; i < share.last; i += size) {
    const int64_t n = share.last - i < size ? share.last - i : size;
    rows(n);
    for (int64_t j = 0; j < n; j++) walk.next();
  }
}

// The largest group, and how many rows of k elements go into one: as many as stay in the L1 cache together.
enum { GROUP = 8 };
BOLT_INLINE int64_t group_size(int64_t k) { return k <= 512 ? (int64_t)GROUP : 1; }
