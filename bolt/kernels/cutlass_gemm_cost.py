"""How long a GEMM takes, by an analytic model of waves of thread blocks."""

from __future__ import annotations

from dataclasses import dataclass

from bolt.kernels.cutlass_gemm_problem import (
    GemmConfig,
    Problem,
    Size,
    Vectors,
    size_of,
    tile_for,
    vectors_of,
)
from bolt.kernels.cutlass_streamk import MANY
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES, THREE_PRODUCTS, Tile
from bolt.ops.gemm import GemmSpec
from bolt.target import Target

LAUNCH_US = 3.0
LATENCY_US = 0.7  # from a load's issue to its data, out of memory
SMEM_BYTES_US = 150e3  # shared memory of one multiprocessor, bytes per microsecond: 128 a cycle at best
L2_BYTES_US = 60e3  # what one multiprocessor takes from the L2 cache, bytes per microsecond: 40 a cycle
STEP_US = 0.015  # barrier and addresses of one step of the main loop
SPLIT_US = 1.5  # one thread block waits for another's sums
HIDDEN = 0.03  # of what waits for memory anyway: still better short
MEMSET_US = 2.0  # clears stream-K's flags


USUAL = frozenset(
    {
        *("256x128_32x3", "128x128_32x4", "128x64_64x3", "64x64_64x5"),  # f16, bf16
        *(
            "256x128_32x2",
            "128x128_32x2",
            "64x128_64x2",
            "64x64_64x2",
        ),  # compute capability 7.5, or unaligned
        *("256x128_16x3", "128x128_16x4", "128x64_32x3", "64x64_32x5"),  # tf32
        *("128x128_8x5", "64x64_8x5", "128x128_8x2", "64x64_8x2"),  # f32 on CUDA cores
        "64x64_32x3",  # f32 on tensor cores
    }
)
"""Tiles that are good for most problems."""

UNUSUAL = 1.03
"""Other tiles have to be better by this, so that a model needs few units."""


def occupancy(tile: Tile, target: Target) -> int:
    """Thread blocks one multiprocessor runs at a time."""
    gpu = target.gpu
    assert gpu is not None
    accumulators = tile.warp[0] * tile.warp[1] // 32
    parts = 60 if tile.math_op == THREE_PRODUCTS else 0
    registers = min(255, accumulators + 100 + parts)
    most = (
        gpu.smem_sm_bytes // (tile.smem_bytes + 1024),
        gpu.registers // (registers * tile.threads),
        (1024 if gpu.sm == 75 else 1536) // tile.threads,
    )
    return max(1, min(most))


def step_us(tile: Tile, *, together: int, width: int, target: Target, walk: float = 1.0) -> float:
    """One step of the main loop.

    Args:
        tile: what a thread block loads and multiplies.
        together: thread blocks on each multiprocessor.
        width: bytes of one copy into shared memory.
        target: where it runs.
        walk: what the iterators' address arithmetic adds, as a factor.
    """
    gpu = target.gpu
    assert gpu is not None
    (m, n, k), (wm, wn, wk) = tile.shape, tile.warp
    size = ELEMENT_BYTES[tile.element]
    loaded = (m + n) * k * size
    read = tile.warps * (wm + wn) * wk * size
    computing = 2.0 * m * n * k / (math_rate(tile, target) / gpu.multiprocessors * 1e-6)
    copies = loaded / width / 128 * 4e-3  # a warp's copy instruction is issued every 4 cycles or so
    arriving = loaded / L2_BYTES_US
    shared = (read + loaded) / SMEM_BYTES_US
    busy = together * max(computing / 0.9, shared, arriving, copies) * walk + STEP_US
    return max(busy, LATENCY_US / max(1, tile.stages - 1))


def math_rate(tile: Tile, target: Target) -> float:
    """Operations per second of all multiprocessors with the tile's instructions."""
    gpu = target.gpu
    assert gpu is not None
    if tile.opclass == "Simt":
        return gpu.f32_flops * 0.8
    # what later tensor cores gain over those of 8.0 needs instructions of their own (wgmma, tcgen05)
    peak = gpu.tensor_flops * MMA_SHARE.get(gpu.sm, 1.0)
    return peak * _TENSOR_SPEED.get(tile.element, 1.0)


_TENSOR_SPEED = {"tf32": 0.5, "f32": 0.5 / 3, "s8": 2.0, "u8": 2.0}
"""Of the tensor cores, against fp16; fp32 is three products of tf32."""

MMA_SHARE = {90: 0.62, 100: 0.3}
"""Share of the tensor cores' rate that mma.sync reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A GEMM cut into tiles.

    Attributes:
        size: of the product.
        tile: what a thread block computes.
        tiles: of one run.
        steps: of the main loop.
        width: bytes of one copy into shared memory.
        finish_us: the epilogue of one thread block.
        target: where it runs.
    """

    size: Size
    tile: Tile
    tiles: int
    steps: int
    width: int
    finish_us: float
    target: Target

    @classmethod
    def of(cls, spec: GemmSpec, config: GemmConfig, target: Target) -> Work:
        size = size_of(spec)
        vectors = vectors_of(Problem(spec), config.tile)[0]
        tile = tile_for(config.tile, vectors, target)
        m, n, k = tile.shape
        return cls(
            size=size,
            tile=tile,
            tiles=-(-size.m // m) * -(-size.n // n) * size.batch,
            steps=-(-size.k // k),
            width=min(vectors.a, vectors.b) * ELEMENT_BYTES[tile.element],
            finish_us=_finish_us(spec, tile, vectors, target),
            target=target,
        )

    def step_us(self, together: int) -> float:
        return step_us(self.tile, together=together, width=self.width, target=self.target)

    @property
    def multiprocessors(self) -> int:
        assert self.target.gpu is not None
        return self.target.gpu.multiprocessors


def gemm_us(spec: GemmSpec, config: GemmConfig, target: Target) -> float:
    """Microseconds of a GEMM: waves of thread blocks, each a prologue, the steps and an epilogue."""
    work = Work.of(spec, config, target)
    if config.schedule == "data":
        total = _waves_us(work, 1)
    elif config.split_k > 1:
        total = _waves_us(work, config.split_k) + _exchange_us(work, config.split_k)
    else:
        total = _balanced_us(work) + _exchange_us(work, 1)
    once = LAUNCH_US + max(total, _memory_us(spec, work.size, target)) + HIDDEN * total
    usual = 1.0 if work.tile.name in USUAL else UNUSUAL
    return work.size.launches * once * usual + _swizzle_us(config, work.size)


def _waves_us(work: Work, split: int) -> float:
    """As many thread blocks at a time as fit, each of one tile or share of a tile."""
    steps, resident = -(-work.steps // split), occupancy(work.tile, work.target)
    waves, rest = divmod(work.tiles * split, work.multiprocessors * resident)
    total = waves * (steps * work.step_us(resident) + resident * work.finish_us + LATENCY_US)
    if rest:
        together = -(-rest // work.multiprocessors)
        total += steps * work.step_us(together) + together * work.finish_us + LATENCY_US
    return total


def _balanced_us(work: Work) -> float:
    """All steps of all tiles, evenly on all multiprocessors."""
    share = work.tiles / work.multiprocessors
    return share * work.steps * work.step_us(1) + LATENCY_US + work.finish_us * (1 + int(share)) + SPLIT_US


def _exchange_us(work: Work, split: int) -> float:
    """Partial sums are written and read again: one thread block after the other, or many at a time."""
    m, n, _ = work.tile.shape
    partial = work.tiles * (split - 1) if split > 1 else min(work.tiles, work.multiprocessors)
    moved = 2.0 * 4 * m * n * partial
    waits = max(1, split - 1) if split < MANY else 2
    return MEMSET_US + moved / (work.multiprocessors * L2_BYTES_US) + SPLIT_US * waits


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
