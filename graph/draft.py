"""An anchor between its node and its kernel call: `Draft`, and the words anchors share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from bolt.dims import Dim
from bolt.epilogue import Builder
from bolt.graph.layouts import Order
from bolt.graph.memory import Memory
from bolt.ops.spec import Spec
from bolt.program import Buffer, View, dense_strides
from bolt.types import F32, DType


class CannotLower(Exception):
    """A node turned out not to fit any kernel: the driver leaves it to ONNX Runtime."""

    def __init__(self, node: ir.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One kernel call: as the fields of `Draft`, with every operand's view."""

    make: Callable[..., Spec]
    views: Sequence[View]
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An anchor before its epilogue and output are attached.

    Attributes:
        dims: dims of the anchor's ONNX output.
        order: memory order the kernel writes; None: any with the last dim innermost.
        make: (epilogue, constants) -> spec without operands, i.e. the spec class with its attributes.
        arrange: (output view, epilogue-input views), all with the ONNX output's dims -> every operand's view
            in the kernel's own dims.
        constants: arrays of constant operands.
        prologue: what happens to the accumulator before the region's pointwise nodes (bias, alpha).
        widen: the same kernel over more channels, and what its accumulator holds in the further ones; None
            when it can't tell. Of kernels over images (N, C, spatial...).
        calls: from what `arrange` gets to several kernel calls that do the work instead; None where these
            views do not allow them.
    """

    dims: tuple[Dim, ...]
    order: Order | None
    make: Callable[..., Spec]
    arrange: Callable[[View, Sequence[View]], Sequence[View]]
    constants: Mapping[int, np.ndarray] = field(default_factory=dict)
    prologue: Callable[[Expression, int], int] = lambda expression, acc: acc
    widen: Callable[[int], tuple[Draft, float] | None] = lambda channels: None
    calls: Callable[[View, Sequence[View]], Sequence[Call] | None] = lambda out, extras: None

    def called(self, out: View, extras: Sequence[View]) -> Sequence[Call]:
        """The kernel calls that compute `out`."""
        found = self.calls(out, extras)
        if found is not None:
            return found
        return (Call(make=self.make, views=self.arrange(out, extras), constants=self.constants),)


class Expression:
    """An epilogue being built, with the views of its inputs."""

    def __init__(self, low: Memory, dims: tuple[Dim, ...]) -> None:
        self.low = low
        self.dims = dims
        self.builder = Builder()
        self.views: list[View] = []

    def input(self, view: View) -> int:
        """The node that reads `view` (broadcast to the expression's dims)."""
        wide = self.low.broadcast(view, self.dims)
        if wide not in self.views:
            self.views.append(wide)
        return self.builder.input(self.views.index(wide))


def need(node: ir.Node, condition: bool, reason: str) -> None:
    """Raise `CannotLower` unless `condition`."""
    if not condition:
        raise CannotLower(node, reason)


def is_used(value: ir.Value) -> bool:
    """Whether anything reads `value`, the model's caller included."""
    return bool(list(value.uses())) or value.is_graph_output()


def need_first_only(node: ir.Node) -> None:
    """Raise `CannotLower` when anything but the first output is used."""
    need(node, not any(is_used(o) for o in node.outputs[1:]), "only the first output has a kernel")


def unit_inner(view: View) -> View:
    """With stride 1 spelled for an innermost dim of 1, whose stride means nothing."""
    return replace(view, strides=(*view.strides[:-1], 1)) if view.dims[-1] == 1 else view


def weight_view(weights: np.ndarray, dtype: DType = F32) -> View:
    """A stand-in view for a constant operand the family packs as `dtype`: dims, dense strides, no memory."""
    buffer = Buffer(name="packed", dtype=dtype, elements=int(weights.size), kind="packed")
    return View(buffer=buffer, dims=weights.shape, strides=dense_strides(weights.shape))
