"""Which memory order, and how much zero border, the readers of a value would like it to have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from bolt.graph.attributes import attr
from bolt.graph.shapes import Shapes
from bolt.program import Halo

Order = tuple[int, ...]
"""Axes of a value from the outermost to the innermost in memory."""

SPATIAL = frozenset(
    "Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool Resize Upsample".split()
)
"""Operations that read their first input channels-last."""

RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
"""Operations that reinterpret a row-major value."""


def channels_last(rank: int) -> Order:
    """(N, C, spatial...) stored as (N, spatial..., C)."""
    return (0, *range(2, rank), 1)


def row_major(rank: int) -> Order:
    return tuple(range(rank))


class Layouts:
    """Wishes of one partition, found by looking from each value at its readers."""

    def __init__(
        self,
        nodes: Sequence[ir.Node],
        outputs: frozenset[ir.Value],
        shapes: Shapes,
        conv_pads: Callable[[ir.Node], Halo | None],
    ) -> None:
        self.members = frozenset(nodes)
        self.outputs = outputs
        self.shapes = shapes
        self.conv_pads = conv_pads
        self._orders: dict[ir.Value, Order | None] = {}
        self._halos: dict[ir.Value, Halo] = {}

    def rank(self, value: ir.Value) -> int:
        dims = self.shapes.dims(value)
        assert dims is not None
        return len(dims)

    def order(self, value: ir.Value) -> Order | None:
        """The order the readers would like; None when they do not care."""
        if value not in self._orders:
            self._orders[value] = None
            wishes = [w for w in (self._reader_order(value, u.node, u.idx) for u in value.uses()) if w]
            if value in self.outputs:
                wishes.append(row_major(self.rank(value)))
            self._orders[value] = wishes[0] if wishes else None
        return self._orders[value]

    def _reader_order(self, value: ir.Value, node: ir.Node, index: int) -> Order | None:
        rank = self.rank(value)
        if node not in self.members:
            return None
        if node.op_type in SPATIAL:
            return channels_last(rank) if index == 0 and rank >= 3 else None
        if node.op_type in RESHAPES:
            return row_major(rank)
        if node.op_type == "Transpose":
            perm = attr(node, "perm", tuple(reversed(range(rank))))
            order = self.order(node.outputs[0]) or row_major(rank)
            return tuple(perm[axis] for axis in order)
        if node.op_type in ("MatMul", "Gemm"):
            return None
        out = node.outputs[0]
        return self.order(out) if self.shapes.dims(out) is not None and self.rank(out) == rank else None

    def halo(self, value: ir.Value) -> Halo:
        """Zeros the padded convolutions among the readers want around each dim."""
        if value not in self._halos:
            rank = self.rank(value)
            halo = [(0, 0)] * rank
            self._halos[value] = tuple(halo)
            for use in value.uses():
                for axis, want in enumerate(self._reader_halo(use.node, use.idx, rank)):
                    halo[axis] = (max(halo[axis][0], want[0]), max(halo[axis][1], want[1]))
            self._halos[value] = tuple(halo)
        return self._halos[value]

    def _reader_halo(self, node: ir.Node, index: int, rank: int) -> Halo:
        none = ((0, 0),) * rank
        if node not in self.members:
            return none
        if node.op_type == "Conv" and index == 0:
            return self.conv_pads(node) or none
        if node.op_type == "Concat" and attr(node, "axis", 0) % rank == 1:
            return self.halo(node.outputs[0])
        return none
