"""tile.h: shares cover a grid of work exactly once and evenly; cuts cover an extent."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from kernels.harness import compile_kernel

from bolt.target import detect

TARGET = detect()
SHARES = """
#include "bolt/tile.h"
extern "C" __attribute__((visibility("default")))
void shares(void* const* p, const int64_t* d, void*, int64_t part, int64_t parts) {
  const Share share = share_of(part, parts, d[0], d[1], d[2], d[3], d[4]);
  int32_t* grid = (int32_t*)p[0];
  for (int i = 0; i < share.count; i++) {
    const Rectangle& r = share.rectangle[i];
    for (int64_t m = r.m0; m < r.m1; m++)
      for (int64_t n = r.n0; n < r.n1; n++) grid[m * d[1] + n]++;
  }
}
"""
CUTS = """
#include "bolt/tile.h"
extern "C" __attribute__((visibility("default")))
void cuts(void* const* p, const int64_t* d, void*, int64_t part, int64_t) {
  const Tiling cut = part ? listed_tiles<14, 10, 7, 5, 3, 2, 1>(d[0]) : even_tiles<14>(d[0]);
  int32_t* rows = (int32_t*)p[0];
  for (int64_t t = 0; t < cut.count; t++)
    for (int64_t i = 0; i < cut.rows(t); i++) rows[cut.start(t) + i]++;
  rows[d[0]] = (int32_t)cut.count;
}
"""


def _call(source: str, name: str, counts: np.ndarray, dims: list[int], part: int, parts: int) -> None:
    pointers = (ctypes.c_void_p * 1)(counts.ctypes.data)
    compile_kernel(source, name, TARGET)(pointers, (ctypes.c_int64 * len(dims))(*dims), None, part, parts)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 6, 7, 16])
@pytest.mark.parametrize("costs", [(1000, 1, 1), (100, 50, 1), (100, 1, 50)])
def test_shares_cover_the_grid_evenly(parts: int, costs: tuple[int, int, int]) -> None:
    for m, n in [(1, 1), (1, 12), (5, 1), (2, 3), (4, 32), (49, 8), (13, 7), (200, 2)]:
        seen, sizes = np.zeros((m, n), np.int32), []
        for part in range(parts):
            before = seen.sum()
            _call(SHARES, "shares", seen, [m, n, *costs], part, parts)
            sizes.append(int(seen.sum() - before))
        assert (seen == 1).all(), (m, n)
        assert min(sizes) > 0 or max(sizes) < 2, (m, n, sizes)
        fetches = m * costs[1] + n * costs[2]
        assert max(sizes) * costs[0] <= 1.25 * -(-m * n // parts) * costs[0] + fetches, (m, n, sizes)


@pytest.mark.parametrize("listed", [0, 1])
def test_cuts_cover_an_extent(listed: int) -> None:
    for extent in [0, 1, 6, 13, 14, 15, 27, 29, 100]:
        rows = np.zeros(extent + 1, np.int32)
        _call(CUTS, "cuts", rows, [extent], listed, 1)
        assert (rows[:extent] == 1).all(), extent
        if not listed:
            assert rows[extent] == -(-extent // 14)
