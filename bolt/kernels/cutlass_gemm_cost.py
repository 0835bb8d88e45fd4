"""How long a GEMM takes, by an analytic model of waves of thread blocks."""

from __future__ import annotations

from bolt.kernels.cutlass_gemm_problem import (
    GemmConfig,
    Problem,
    Size,
    Vectors,
    size_of,
    tile_for,
    vectors_of,
)
from bolt.kernels.cutlass_tiles import Tile
from bolt.ops.gemm import GemmSpec
from bolt.target import Target

LAUNCH_US = 3.0
LATENCY_US = 0.7  # from a load's issue to its data, out of memory
SMEM_BYTES_US = 180e3  # shared memory of one multiprocessor, bytes per microsecond: 128 a cycle
L2_RATIO = 2.5  # bandwidth of the L2 cache, in units of the memory's
SPLIT_US = 1.5  # one thread block waits for another's sums
MEMSET_US = 2.0  # clears stream-K's flags


def occupancy(tile: Tile, target: Target) -> int:
    """Thread blocks one multiprocessor runs at a time."""
    gpu = target.gpu
    assert gpu is not None
    accumulators = tile.warp[0] * tile.warp[1] // 32
    registers = min(255, accumulators + 100)
    most = (
        gpu.smem_sm_bytes // (tile.smem_bytes + 1024),
        gpu.registers // (registers * tile.threads),
        (1024 if gpu.sm == 75 else 1536) // tile.threads,
    )
    return max(1, min(most))


def _step_us(tile: Tile, blocks: int, running: int, vectors: Vectors, target: Target) -> float:
    """One step of the main loop, of `blocks` thread blocks on each of the `running` multiprocessors."""
    gpu = target.gpu
    assert gpu is not None
    (m, n, k), (wm, wn, wk) = tile.shape, tile.warp
    size = 4 if tile.element in ("tf32", "f32") else 1 if tile.element in ("s8", "u8") else 2
    loaded = (m + n) * k * size
    read = tile.warps * (wm + wn) * wk * size
    math = 2.0 * m * n * k / (math_rate(tile, target) / gpu.multiprocessors * 1e-6)
    narrowest = min(vectors.a, vectors.b) * size
    copies = loaded / narrowest / 128 * 4e-3  # a copy instruction of a warp is issued every 4 cycles or so
    traffic = loaded * running / (gpu.bandwidth * L2_RATIO * 1e-6)
    shared = (read + loaded) / SMEM_BYTES_US
    waiting = LATENCY_US / max(1, tile.stages - 1)
    return max(blocks * max(math / 0.9, shared, traffic, copies), waiting)


def math_rate(tile: Tile, target: Target) -> float:
    """Operations per second of all multiprocessors with the tile's instructions."""
    gpu = target.gpu
    assert gpu is not None
    if tile.opclass == "Simt":
        return gpu.f32_flops * 0.8
    # what later tensor cores gain over those of 8.0 needs instructions of their own (wgmma, tcgen05)
    peak = gpu.tensor_flops * MMA_SHARE.get(gpu.sm, 1.0)
    return peak * {"tf32": 0.5, "s8": 2.0, "u8": 2.0}.get(tile.element, 1.0)


MMA_SHARE = {90: 0.62, 100: 0.3}
"""Share of the tensor cores' rate that mma.sync reaches."""


def gemm_us(spec: GemmSpec, config: GemmConfig, target: Target) -> float:
    """Microseconds of a GEMM: waves of thread blocks, each a prologue, the steps and an epilogue."""
    gpu = target.gpu
    assert gpu is not None
    size, problem = size_of(spec), Problem(spec)
    vectors = vectors_of(problem, config.tile)[0]
    tile = tile_for(config.tile, vectors)
    m, n, depth = tile.shape
    tiles_ = -(-size.m // m) * -(-size.n // n) * size.batch
    steps = -(-size.k // depth)
    split = config.split_k if config.schedule == "stream" else 1
    blocks = tiles_ * split
    resident = occupancy(tile, target)
    waves, rest = divmod(blocks, gpu.multiprocessors * resident)
    finish = _finish_us(spec, tile, vectors, target)
    if config.schedule == "stream" and split == 1:
        work = blocks / gpu.multiprocessors * steps
        step = _step_us(tile, 1, gpu.multiprocessors, vectors, target)
        total = work * step + LATENCY_US + finish * (1 + blocks // gpu.multiprocessors) + 2 * SPLIT_US
    else:
        own = -(-steps // split)
        total = waves * (
            own * _step_us(tile, resident, gpu.multiprocessors, vectors, target) + resident * finish
        )
        if rest:
            at_once = -(-rest // gpu.multiprocessors)
            running = min(rest, gpu.multiprocessors)
            total += own * _step_us(tile, at_once, running, vectors, target) + at_once * finish
        total += LATENCY_US * (waves + bool(rest))
    if config.schedule == "stream":
        exchanged = (
            2.0 * 4 * m * n * (tiles_ * (split - 1) if split > 1 else min(blocks, gpu.multiprocessors))
        )
        total += MEMSET_US + exchanged / (gpu.bandwidth * L2_RATIO * 1e-6) + SPLIT_US * (split - 1)
    once = LAUNCH_US + max(total, _memory_us(spec, size, target))
    return size.launches * once + _swizzle_us(config, size)


def _finish_us(spec: GemmSpec, tile: Tile, vectors: Vectors, target: Target) -> float:
    """The epilogue of one thread block, with its multiprocessor's share of the memory's bandwidth."""
    gpu = target.gpu
    assert gpu is not None
    read = sum(e.dtype.size_bytes for e in spec.extras if e.strides[2] != 0 and e.strides[3] != 0)
    moved = tile.shape[0] * tile.shape[1] * (spec.out.dtype.size_bytes + read)
    share = gpu.bandwidth * 1.5 / gpu.multiprocessors * 1e-6
    narrow = 1.0 if vectors.d * spec.out.dtype.size_bytes >= 8 else 1.5
    return narrow * moved / share


def _memory_us(spec: GemmSpec, size: Size, target: Target) -> float:
    """Every byte once, at the memory's bandwidth."""
    gpu = target.gpu
    assert gpu is not None
    element = spec.operands[1].dtype.size_bytes
    shared_b = all(s == 0 for s in spec.operands[2].strides[:2])
    weights = size.n * size.k * element * (1 if shared_b else size.batch)
    rows = size.batch * size.m
    read = sum(e.dtype.size_bytes for e in spec.extras if e.strides[2] != 0 and e.strides[3] != 0)
    total = weights + rows * (size.k * element + size.n * (spec.out.dtype.size_bytes + read))
    return total / (gpu.bandwidth * 0.85e-6)


def _swizzle_us(config: GemmConfig, size: Size) -> float:
    """Breaks ties: neighbours in both directions share more than neighbours in one."""
    columns = -(-size.n // config.tile.shape[1])
    return 0.001 * abs(min(4, columns) - config.swizzle) if config.schedule == "data" else 0.0
