"""Analytic time of Hopper's warp-specialized kernels, in microseconds.

Tiles run in waves over the multiprocessors. A tile costs the larger of what its instructions take and what
its operands take to arrive, plus its epilogue where nothing hides it; the whole call costs at least the
traffic with memory. Rates are those of `target.gpu`; the fractions of them are estimates, not measured here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from bolt.kernels.cutlass_gemm_cost import L2_BYTES_US, LAUNCH_US, MEMSET_US, SPLIT_US
from bolt.kernels.cutlass_tiles_sm90 import ELEMENT_BYTES, Tile
from bolt.target import Gpu

_SPEED = {"f16": 1.0, "bf16": 1.0, "tf32": 0.5, "s8": 2.0, "f8": 2.0}
"""Of the tensor cores, against fp16."""

_ADDED_EACH_STEP = frozenset({"f8"})
"""Operands whose sums CUDA cores add to others in each step along k (`cutlass_tiles_sm90`)."""

_TENSOR_FRACTION = 0.75
_MEMORY_FRACTION = 0.8

_USUAL = frozenset(
    (
        ((128, 256), (2, 1)),
        ((128, 128), (2, 1)),
        ((64, 128), (1, 1)),
        ((64, 64), (1, 2)),
        ((64, 32), (1, 2)),
    )
)
"""Tiles and clusters that are good for most problems: others have to be some percent better, so that a model
needs few units, each of which takes half a minute to compile."""
_UNUSUAL = 1.1

_STEP_US = 0.03
"""Barriers and the first instruction's latency in each step along k."""

_OVERHEAD = {
    "pingpong": (0.6, 0.4),
    "cooperative": (0.6, 0.7),
    "im2col": (1.5, 1.0),
    "1sm": (0.6, 0.3),
    "2sm": (0.6, 0.3),
}
"""Microseconds until a tile's first instruction, and share of its epilogue that shows. Persistent blocks load
the next tile meanwhile; with pingpong the other warpgroup multiplies, on Blackwell the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a kernel has to do.

    Attributes:
        m: rows.
        n: columns.
        k: depth.
        batch: how many of them.
        element: what the tensor cores multiply.
        bytes: traffic with memory, every operand once.
        out_bytes: of one stored element, epilogue inputs of full size included.
        epilogue_cost: vector instructions of the epilogue per element.
    """

    m: int
    n: int
    k: int
    batch: int
    element: str
    bytes: int
    out_bytes: int
    epilogue_cost: float


def microseconds(problem: Problem, tile: Tile, gpu: Gpu, *, splits: int = 1) -> float:
    """The time of one call, `splits` thread blocks sharing the depth of each tile."""
    m, n, k = tile.shape
    rows, columns = blocks(problem, tile)
    work = rows * columns * problem.batch * splits
    steps = ceil(ceil(problem.k / k) / splits)
    per_tile = steps * _step(problem, tile, gpu) + _epilogue(problem, tile, gpu, splits)
    whole, rest = divmod(work, gpu.multiprocessors)
    waves = whole + (0.0 if not rest else max(0.55, rest / gpu.multiprocessors))
    computing = (waves if whole else 1.0) * per_tile
    moving = problem.bytes / (gpu.bandwidth * _MEMORY_FRACTION) * 1e6
    usual = 1.0 if ((m, n), tile.cluster) in _USUAL else _UNUSUAL
    waiting = MEMSET_US + SPLIT_US * min(splits - 1, 3) if splits > 1 else 0.0
    return (LAUNCH_US + max(computing, moving)) * usual + waiting


def blocks(problem: Problem, tile: Tile) -> tuple[int, int]:
    """Thread blocks along m and n, whole clusters."""
    m, n, _ = tile.shape
    return (
        ceil(problem.m / (m * tile.cluster[0])) * tile.cluster[0],
        ceil(problem.n / (n * tile.cluster[1])) * tile.cluster[1],
    )


def _step(problem: Problem, tile: Tile, gpu: Gpu) -> float:
    """Microseconds of one step along k: instructions, or the arrival of both operands' tiles."""
    m, n, k = tile.shape
    flops = gpu.tensor_flops * _SPEED[problem.element] * _TENSOR_FRACTION / gpu.multiprocessors
    # an instruction reads both operands from shared memory; below 64 columns that is the slower part
    narrow = max(1.0, (16 + n / 4) / (n / 2))
    lone = 1.15 if tile.schedule == "pingpong" and m == 64 and n < 128 else 1.0
    computing = 2 * m * n * k / flops * narrow * lone
    rows, columns = min(m, problem.m), min(n, problem.n)  # what lies outside is never fetched
    shared = (rows / tile.cluster[1] + columns / tile.cluster[0]) * k * ELEMENT_BYTES[problem.element]
    arriving = shared / L2_BYTES_US
    if problem.element in _ADDED_EACH_STEP:
        computing += m * n / (gpu.f32_flops / 2 / gpu.multiprocessors)
    return max(computing * 1e6, arriving) + _STEP_US


def _epilogue(problem: Problem, tile: Tile, gpu: Gpu, splits: int) -> float:
    """Microseconds of a tile's start and epilogue, as far as nothing runs beside them."""
    m, n, _ = tile.shape
    share = gpu.bandwidth * _MEMORY_FRACTION / gpu.multiprocessors
    storing = m * n * problem.out_bytes / share
    computing = m * n * problem.epilogue_cost / (gpu.f32_flops / 2 / gpu.multiprocessors)
    reducing = (2 * m * n * 4) / share if splits > 1 else 0.0
    start, hidden = _OVERHEAD[tile.schedule]
    return start + (max(storing, computing) * hidden + reducing) * 1e6
