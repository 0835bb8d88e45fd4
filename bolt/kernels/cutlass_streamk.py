"""The scratch of stream-K, whose thread blocks exchange sums: the numbers of `ThreadblockSwizzleStreamK`."""

from __future__ import annotations

import numpy as np

from bolt.kernels.cutlass_gemm_problem import GemmConfig, Size
from bolt.target import Target


def streamk_workspace(size: Size, config: GemmConfig, target: Target) -> int:
    """Bytes stream-K needs: partial sums of the thread blocks that share tiles, and their flags.

    One resident thread block is what units tell CUTLASS, so that sums are added in order, never by atomics.
    """
    tile = config.tile
    blocks = _streamk_blocks(size, config, target)
    partial = 2 * 4 * tile.warps * tile.warp[0] * tile.warp[1]
    return _cache_lines(partial * blocks) + _cache_lines(4 * blocks)


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
