"""How long an implicit GEMM takes, by the model of `cutlass_gemm_cost`: waves of thread blocks."""

from __future__ import annotations

import math

from bolt.kernels.cutlass_gemm_cost import (
    L2_BYTES_US,
    LATENCY_US,
    LAUNCH_US,
    UNUSUAL,
    USUAL,
    occupancy,
    step_us,
)
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES
from bolt.kernels.finish import epilogue_cost
from bolt.kernels.implicit_gemm import ConvConfig, alignment_of, blocks, iterations
from bolt.ops.conv import ConvSpec
from bolt.target import Target

WALK = {"optimized": 1.0, "fixed": 1.05, "few": 1.2, "analytic": 1.3}
"""What an iterator's address arithmetic adds to a step."""


def conv_us(spec: ConvSpec, config: ConvConfig, target: Target) -> float:
    """Microseconds; dims known at run time only count as 1."""
    gpu, tile = target.gpu, config.tile
    assert gpu is not None
    count, steps = blocks(spec, tile) * config.split_k, iterations(spec, config)
    resident, finish = occupancy(tile, target), _finish_us(spec, config, target)
    waves, rest = divmod(count, gpu.multiprocessors * resident)
    total = LATENCY_US * (waves + bool(rest))
    for times, together in ((waves, resident), (1, -(-rest // gpu.multiprocessors))):
        if together:
            step = step_us(
                tile,
                together=together,
                width=_width(spec, config),
                target=target,
                walk=WALK[config.iterator],
            )
            total += times * (steps * step + together * finish)
    cost = LAUNCH_US + max(total, _memory_us(spec, target)) + _adding_us(spec, config, target)
    return cost * (1.0 if tile.name in USUAL else UNUSUAL)


def _width(spec: ConvSpec, config: ConvConfig) -> int:
    """Bytes of one copy into shared memory."""
    elements = 1 if config.tile.opclass == "Simt" else alignment_of(spec)
    return elements * ELEMENT_BYTES[config.tile.element]


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
    return LAUNCH_US + slices / (target.gpu.multiprocessors * L2_BYTES_US)
