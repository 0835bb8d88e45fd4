"""The scratch of stream-K, whose thread blocks exchange sums: the numbers of `ThreadblockSwizzleStreamK`."""

from __future__ import annotations

import numpy as np

from bolt.kernels.cutlass_gemm_problem import GemmConfig, Size
from bolt.kernels.cutlass_tiles import Tile
from bolt.target import Target

MANY = 4
"""Thread blocks of one tile from which on others add their sums, each a few rows; fewer wait for one another.
Either way the order of the sums is fixed."""

SPARE = 32
"""Thread blocks a multiprocessor is said to hold then. CUTLASS adds apart only where some would be idle."""


def streamk_workspace(size: Size, config: GemmConfig, target: Target) -> int:
    """Bytes stream-K needs: partial sums of the thread blocks that share tiles, and their flags."""
    tile, gpu = config.tile, target.gpu
    assert gpu is not None
    blocks = _streamk_blocks(size, config, target)
    partial = 2 * 4 * tile.warps * tile.warp[0] * tile.warp[1]
    shared = -(-size.m // tile.shape[0]) * -(-size.n // tile.shape[1])
    waves = -(-shared * config.split_k // gpu.multiprocessors)
    is_added_apart = config.split_k >= MANY and waves < SPARE and blocks > 2 * shared
    flags = max(blocks, shared * _fragments(tile) if is_added_apart else 0)
    return _cache_lines(partial * blocks) + _cache_lines(4 * flags)


def _fragments(tile: Tile) -> int:
    """Pieces in which a warp's accumulators pass through the epilogue."""
    rows, columns, _ = tile.warp
    is_tall = tile.opclass == "TensorOp" or (rows > columns and tile.stages == 2)
    return rows // (8 if is_tall else 4)


def _cache_lines(count: int) -> int:
    return -(-count // 128) * 128


def _streamk_blocks(size: Size, config: GemmConfig, target: Target) -> int:
    """Thread blocks that share tiles; CUTLASS makes room for one where there is none."""
    gpu = target.gpu
    assert gpu is not None
    m, n, k = config.tile.shape
    tiles_, steps = -(-size.m // m) * -(-size.n // n), -(-size.k // k)
    if config.split_k > 1:
        shared, blocks = tiles_, tiles_ * config.split_k
    else:
        shared, blocks = _balanced(tiles_, steps, gpu.multiprocessors)
    if blocks == 0:
        return 1
    blocks = min(blocks, shared * steps)
    regions = shared if blocks > shared and blocks % shared == 0 else 1
    return blocks // regions * regions


def _balanced(count: int, steps: int, wave: int) -> tuple[int, int]:
    """(tiles that are shared, thread blocks that share them) as stream-K's heuristic has it."""
    full, partial = divmod(count, wave)
    if partial == 0:
        return 0, 0
    shared = partial if full < 1 else partial + wave
    first = min(wave, shared + 1) if full < 1 else wave
    best, blocks = -(1 << 31), 0
    waves = -(-shared // wave)
    for trial in range(first, min(wave, shared * steps // 2) + 1):
        per_block = -(-shared * steps // trial)
        saved = steps * waves - per_block - _fixup_steps(trial, shared, per_block)
        if saved >= best:
            best, blocks = saved, trial
    return (shared, blocks) if best >= 0 else (0, 0)


def _fixup_steps(blocks: int, shared: int, per_block: int) -> int:
    """What exchanging sums costs, in steps of the main loop (fp32 arithmetic, as in CUTLASS)."""
    single = np.float32
    if blocks % shared == 0:
        return int(single(2.0) + single(0.0) + single(2.0) * single(blocks // shared))
    peers = -(-blocks // shared) + 1
    return int(single(2.0) + single(0.02) * single(peers) * single(per_block) + single(2.0) * single(peers))
