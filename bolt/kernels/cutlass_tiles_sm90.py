"""Legal tiles of Hopper's warp-specialized kernels, as data.

A tile is an instruction shape times a multiplier, both from the tables of CUTLASS's own kernel generator
(`cutlass_library.sm90_shapes`). Its widest shapes are kept, and of the others those whose columns are
16 << i or 24 << i: further ones differ by a few percent and cost half a minute of compilation each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from bolt.errors import ToolchainError
from bolt.report import Rejection

SMEM_BYTES = 227 << 10
"""Shared memory one thread block may use."""

_SHAPES = {
    "f16": "SM90_WGMMA_SHAPES_FP16_BF16_DENSE",
    "bf16": "SM90_WGMMA_SHAPES_FP16_BF16_DENSE",
    "tf32": "SM90_WGMMA_SHAPES_TF32_DENSE",
    "s8": "SM90_WGMMA_SHAPES_INT8_DENSE",
    "f8": "SM90_WGMMA_SHAPES_FP8_DENSE",
}

ELEMENT_BYTES = {"f16": 2, "bf16": 2, "tf32": 4, "s8": 1, "f8": 1}

_SUMS = {"f8": 2}
"""Accumulators a thread has for each element of its part of a tile. The instructions of 8-bit floats keep
fewer than 32 bits of a sum: after each step along k it is added to one in fp32 (`mma_promotion_interval` of
CUTLASS; its schedules called fast do without)."""

_MOST_SUMS = {"f8": 192}
"""Accumulator registers of a thread where they are not 128 at most: two sets, only one of which the epilogue
needs (compiled without spills)."""

_COLUMNS = (16, 32, 64, 96, 128, 192, 256)
_MULTIPLIER_LEVEL = 2
"""Of the generator's multipliers: 1, 2 and 4 instructions along m, 4 (128 bytes, a swizzle atom) along k."""
_CLUSTER_LEVEL = 2
"""Of the generator's clusters: one thread block, or two along either side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """How the thread blocks of a cluster compute their part of the output.

    Attributes:
        shape: rows, columns and depth of one thread block's tile.
        cluster: thread blocks along m and n that share what they load.
        schedule: "cooperative" (two warpgroups compute one tile) or "pingpong" (each computes its own, one's
            epilogue beside the other's main loop).
    """

    shape: tuple[int, int, int]
    cluster: tuple[int, int]
    schedule: str

    @property
    def name(self) -> str:
        """As CUTLASS names it, e.g. "128x128x64_2x1_pingpong"."""
        m, n, k = self.shape
        return f"{m}x{n}x{k}_{self.cluster[0]}x{self.cluster[1]}_{self.schedule}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """The tiles there are for a type, and why others are not used."""

    legal: tuple[Tile, ...]
    rejected: tuple[Rejection, ...]


@cache
def tiles(element: str) -> Tiles:
    """Tiles of the tensor cores for `element` ("f16", "bf16", "tf32", "s8"), in a deterministic order."""
    legal, rejected = [], []
    for tile in _products(element):
        reason = _obstacle(tile, element)
        if reason is None:
            legal.append(tile)
        else:
            rejected.append(Rejection(stage="candidates", subject=f"sm90 tile {tile.name}", reason=reason))
    return Tiles(legal=tuple(legal), rejected=tuple(rejected))


def stages(tile: Tile, element: str, epilogue_bytes: int) -> int:
    """How many tiles of both operands fit beside the epilogue's shared memory."""
    m, n, k = tile.shape
    barriers = 16
    return (SMEM_BYTES - epilogue_bytes) // ((m + n) * k * ELEMENT_BYTES[element] + barriers)


def epilogue_bytes(tile: Tile, out_bytes: int, source_bytes: int) -> int:
    """Shared memory of the epilogue: two output subtiles in flight, up to four of the source.

    The builder's subtile is 32 columns of 128 rows (cooperative) or 64 rows (pingpong); where source and
    output have the same size they share the buffers.
    """
    m, n, _ = tile.shape
    rows = min(m, 128 if tile.schedule == "cooperative" else 64)
    columns = 16 if n % 32 else 32
    parts = (m // rows) * (n // columns)
    subtile, stored = rows * columns, min(parts, 2)
    if not source_bytes:
        return stored * subtile * out_bytes
    loaded = min(parts, 4)
    if source_bytes == out_bytes:
        return max(loaded, stored + 1) * subtile * out_bytes
    return subtile * (loaded * source_bytes + stored * out_bytes)


def _products(element: str) -> Iterator[Tile]:
    data = shapes_of("sm90_shapes")
    multipliers = _up_to(data.SM90_MMA_MULTIPLIERS, _MULTIPLIER_LEVEL)
    clusters = _up_to(data.SM90_CLUSTER_SIZES, _CLUSTER_LEVEL)
    for m, n, k in sorted(getattr(data, _SHAPES[element])):
        if n not in _COLUMNS:
            continue
        for times in sorted(multipliers):
            shape = (m * times[0], n * times[1], k * times[2])
            for cluster in sorted(clusters):
                for schedule in ("pingpong", "cooperative"):
                    yield Tile(shape=shape, cluster=(cluster[0], cluster[1]), schedule=schedule)


def _up_to(levels: dict[Any, int], level: int) -> list[Any]:
    return [item for item, at in levels.items() if at <= level]


def _obstacle(tile: Tile, element: str) -> str | None:
    m, n, k = tile.shape
    if tile.schedule == "cooperative" and m % 128:
        return "two warpgroups of 64 rows need a multiple of 128 rows"
    warpgroups = 2 if tile.schedule == "cooperative" else 1
    registers = m * n // (128 * warpgroups) * _SUMS.get(element, 1)
    if registers > _MOST_SUMS.get(element, 128):
        return f"{registers} accumulator registers a thread; with the epilogue's the limit of 240 is passed"
    if element == "tf32" and n % k:
        return "columns of 32-bit operands must be a multiple of the depth"
    if stages(tile, element, epilogue_bytes(tile, 4, 4)) < 3:
        return "fewer than 3 stages fit in shared memory"
    return None


def shapes_of(module: str) -> Any:
    """A table of shapes of CUTLASS's generator.

    Raises:
        ToolchainError: the package is not installed.
    """
    try:
        return import_module(f"cutlass_library.{module}")
    except ImportError as error:
        raise ToolchainError(
            f"CUTLASS's tables can't be read ({error}): install them with pip install 'bolt-ep[cuda]'"
        ) from error
