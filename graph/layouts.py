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
    """Conv QuantizedConv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool Resize
    Upsample""".split()
)
"""Operations that read their first input channels-last."""

_CONVOLUTIONS = ("Conv", "QuantizedConv")

RESHAPES = frozenset("Reshape Flatten Squeeze Unsqueeze".split())
"""Operations that reinterpret a row-major value."""


def channels_last(rank: int) -> Order:
    """(N, C, spatial...) stored as (N, spatial..., C); the depth of (N, C, D, H, W) goes next to C."""
    return (0, 3, 4, 2, 1) if rank == 5 else (0, *range(2, rank), 1)


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
        self._borders: dict[ir.Value, int] = {}
        # Readers before what they read: asked in another order, long chains of nodes recurse too deep.
        for value in (v for node in reversed(nodes) for v in node.outputs if shapes.dims(v) is not None):
            self.order(value)

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
        if node.op_type in ("MatMul", "Gemm", "QuantizedMatMul"):
            return None
        out = node.outputs[0]
        return self.order(out) if self.shapes.dims(out) is not None and self.rank(out) == rank else None

    def halo(self, value: ir.Value) -> Halo:
        """Zeros the padded convolutions that read this memory want around each dim.

        The parts of a concatenation along the channels share its memory, so they share the widest wish.
        """
        if value not in self._halos:
            self._halos[value] = ((0, 0),) * self.rank(value)
            halo = self._direct_halo(value)
            producer = value.producer()
            if producer is not None and self._joins_channels(producer):
                for part in producer.inputs:
                    halo = halo if part is None else widest(halo, self._direct_halo(part))
            for use in value.uses():
                if self._joins_channels(use.node):
                    halo = widest(halo, self.halo(use.node.outputs[0]))
            self._halos[value] = halo
        return self._halos[value]

    def border(self, value: ir.Value) -> int:
        """The number those convolutions want in the halo: what stands for zero."""
        if value not in self._borders:
            wishes = [self._reader_border(use.node, use.idx) for use in value.uses()]
            self._borders[value] = next((w for w in wishes if w is not None), 0)
        return self._borders[value]

    def _reader_border(self, node: ir.Node, index: int) -> int | None:
        if node not in self.members:
            return None
        if node.op_type == "QuantizedConv" and index == 0:
            return int(attr(node, "zero_point", 0))
        if self._joins_channels(node) or node.op_type == "Split":
            wishes = (self.border(out) for out in node.outputs)
            return next((w for w in wishes if w), None)
        return None

    def _joins_channels(self, node: ir.Node) -> bool:
        if node not in self.members or node.op_type != "Concat":
            return False
        rank = self.rank(node.outputs[0])
        return rank >= 3 and attr(node, "axis", 0) % rank == 1

    def _direct_halo(self, value: ir.Value) -> Halo:
        """What convolutions want that read `value`, or some of its channels."""
        rank = self.rank(value)
        halo: Halo = ((0, 0),) * rank
        for use in value.uses():
            if use.node not in self.members or use.idx != 0:
                continue
            if use.node.op_type in _CONVOLUTIONS:
                halo = widest(halo, self.conv_pads(use.node) or halo)
            elif use.node.op_type == "Split" and rank >= 3 and attr(use.node, "axis", 0) % rank == 1:
                for part in use.node.outputs:
                    halo = widest(halo, self._direct_halo(part))
        return halo


def widest(a: Halo, b: Halo) -> Halo:
    """The larger border on each side."""
    return tuple((max(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b, strict=True))
