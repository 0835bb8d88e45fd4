"""Legal tiles of datacenter Blackwell's warp-specialized kernels, as data.

A tile is an instruction shape times 4 steps along k, from the tables of CUTLASS's own kernel generator
(`cutlass_library.sm100_shapes`), of which those are kept whose columns are 64, 128, 192 or 256.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from bolt.kernels.cutlass_tiles_sm90 import ELEMENT_BYTES, SMEM_BYTES, Tile, Tiles, shapes_of
from bolt.report import Rejection

_SHAPES = {"f16": "16b", "bf16": "16b", "tf32": "TF32"}
_COLUMNS = (64, 128, 192, 256)
_STEPS = 4


@cache
def tiles(element: str) -> Tiles:
    """Tiles of the tensor cores for `element` ("f16", "bf16", "tf32"), in a deterministic order.

    `Tile.schedule` is "1sm", or "2sm" where two thread blocks' multiprocessors multiply as one.
    """
    legal, rejected = [], []
    for tile in _products(element) if element in _SHAPES else ():
        reason = _obstacle(tile, element)
        if reason is None:
            legal.append(tile)
        else:
            rejected.append(Rejection(stage="candidates", subject=f"sm100 tile {tile.name}", reason=reason))
    return Tiles(legal=tuple(legal), rejected=tuple(rejected))


def _products(element: str) -> Iterator[Tile]:
    data = shapes_of("sm100_shapes")
    for schedule, sharers in (("1sm", 1), ("2sm", 2)):
        for m, n, k in sorted(getattr(data, f"SM100_MMA_SHAPES_{_SHAPES[element]}_DENSE_{schedule.upper()}")):
            if n in _COLUMNS:
                shape = (m // sharers, n, k * _STEPS)
                yield Tile(shape=shape, cluster=(sharers, 1), schedule=schedule)


def _obstacle(tile: Tile, element: str) -> str | None:
    m, n, k = tile.shape
    if m != 128:
        return "half of the tensor memory's 128 lanes would be idle"
    stage = (m + n) * k * ELEMENT_BYTES[element]
    if 4 * stage > SMEM_BYTES:
        return "fewer than 4 stages fit in shared memory"
    return None
