"""How long an implicit GEMM takes, by the model of `cutlass_gemm_cost`: waves of thread blocks."""

from __future__ import annotations

import math

from bolt.kernels.cutlass_gemm_cost import (
    L2_RATIO,
    LATENCY_US,
    LAUNCH_US,
    SMEM_BYTES_US,
    math_rate,
    occupancy,
)
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES, Tile
from bolt.kernels.finish import epilogue_cost
from bolt.kernels.implicit_gemm import ConvConfig, alignment_of, blocks, iterations
from bolt.ops.conv import ConvSpec
from bolt.target import Target

USUAL = frozenset({"128x128_32x4", "128x64_64x3", "64x64_64x5", "128x128_32x2", "128x64_32x2", "64x64_32x2"})
"""Tiles that are good for most problems."""

UNUSUAL = 1.03
"""Other tiles have to be better by this, so that a model needs few units."""

WALK = {"optimized": 1.0, "fixed": 1.05, "few": 1.2, "analytic": 1.3}
"""What an iterator's address arithmetic adds to a step."""


def conv_us(spec: ConvSpec, config: ConvConfig, target: Target) -> float:
    """Microseconds; dims known at run time only count as 1."""
    gpu, tile = target.gpu, config.tile
    assert gpu is not None
    count, steps = blocks(spec, tile) * config.split_k, iterations(spec, config)
    resident = occupancy(tile, target)
    finish = _finish_us(spec, config, target)
    waves, rest = divmod(count, gpu.multiprocessors * resident)
    total = waves * (
        steps * _step_us(spec, config, resident, gpu.multiprocessors, target) + resident * finish
    )
    if rest:
        together = -(-rest // gpu.multiprocessors)
        running = min(rest, gpu.multiprocessors)
        total += steps * _step_us(spec, config, together, running, target) + together * finish
    total += LATENCY_US * (waves + bool(rest))
    cost = LAUNCH_US + max(total, _memory_us(spec, target)) + _adding_us(spec, config, target)
    return cost * (1.0 if tile.name in USUAL else UNUSUAL)


def _step_us(spec: ConvSpec, config: ConvConfig, together: int, running: int, target: Target) -> float:
    """One step of the main loop, of `together` thread blocks on each of the `running` multiprocessors."""
    gpu, tile = target.gpu, config.tile
    assert gpu is not None
    m, n, k = tile.shape
    size = ELEMENT_BYTES[tile.element]
    loaded = (m + n) * k * size
    computing = 2.0 * m * n * k / (math_rate(tile, target) / gpu.multiprocessors * 1e-6)
    copies = loaded / (_width(spec, tile) * size) / 128 * 4e-3  # of a warp: issued every 4 cycles or so
    arriving = loaded * running / (gpu.bandwidth * L2_RATIO * 1e-6)
    shared = (_fragments(tile) + loaded) / SMEM_BYTES_US
    busy = together * max(computing / 0.9, shared, arriving, copies) * WALK[config.iterator]
    return max(busy, LATENCY_US / max(1, tile.stages - 1))


def _width(spec: ConvSpec, tile: Tile) -> int:
    """Elements of one copy."""
    return 1 if tile.opclass == "Simt" else alignment_of(spec)


def _fragments(tile: Tile) -> int:
    """Bytes all warps read from shared memory in a step."""
    m, n, k = tile.warp
    return tile.warps * (m + n) * k * ELEMENT_BYTES[tile.element]


def _finish_us(spec: ConvSpec, config: ConvConfig, target: Target) -> float:
    """The epilogue of one thread block, with its multiprocessor's share of the memory's bandwidth."""
    gpu = target.gpu
    assert gpu is not None
    m, n, _ = config.tile.shape
    read = sum(e.dtype.size_bytes for e in spec.extras if e.strides[2] and e.strides[3])
    element = 4 if config.split_k > 1 else spec.out.dtype.size_bytes + read
    moving = m * n * element / (gpu.bandwidth * 1.5 / gpu.multiprocessors * 1e-6)
    cost = 0.0 if config.split_k > 1 else epilogue_cost(spec.epilogue)
    return moving + m * n * cost / (gpu.f32_flops / 2 / gpu.multiprocessors * 1e-6)


def _memory_us(spec: ConvSpec, target: Target) -> float:
    """Every byte once, at the memory's bandwidth."""
    assert target.gpu is not None
    return spec.bytes() / (target.gpu.bandwidth * 0.85e-6)


def _adding_us(spec: ConvSpec, config: ConvConfig, target: Target) -> float:
    """The kernel that adds the slices of split-K: they lie in the L2 cache."""
    if config.split_k == 1:
        return 0.0
    assert target.gpu is not None
    slices = 4 * config.split_k * math.prod(d or 1 for d in spec.out.dims)
    return LAUNCH_US + slices / (target.gpu.bandwidth * L2_RATIO * 1e-6)
