"""Scale folding: per-channel constants after an anchor become part of its weights and bias."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bolt.graph.affine import ANCHORS, Affine, absorb, channels
from bolt.graph.attributes import constant, operand
from bolt.graph.rewrite import is_private, nodes_of, producer, replace
from bolt.graph.shapes import Shapes, infer

_ROWS: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "Mul": lambda c: (c, np.zeros_like(c)),
    "Div": lambda c: (1 / c, np.zeros_like(c)),
    "Add": lambda c: (np.ones_like(c), c),
    "Sub": lambda c: (np.ones_like(c), -c),
}
"""op type -> (scale, shift) of x op c."""

_COMMUTES = ("Mul", "Add")


class ScaleFolding(ir.passes.InPlacePass):
    """Folds Mul, Div, Add, Sub by a constant into the anchor before it.

        (conv(x, W) + b) * s  =  conv(x, W * s) + b * s          (conv(x, W) + b) + t  =  conv(x, W) + (b + t)

    The constant is a scalar or has one element per output channel, and the anchor is read by this node alone.
    A constant that broadcasts the anchor's output to something larger is left alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        shapes = infer(model)
        for node in nodes_of(model, *_ROWS):
            modified |= _fold(node, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _fold(node: ir.Node, shapes: Shapes) -> bool:
    for index in (0, 1) if node.op_type in _COMMUTES else (0,):
        value, content = operand(node, index), constant(operand(node, 1 - index))
        anchor = producer(value, *ANCHORS)
        if anchor is None or value is None or content is None or not is_private(value):
            continue
        affine = _affine(node, anchor, content, shapes)
        if affine is not None:
            folded = absorb(anchor, affine)
            shapes.alias(folded, node.outputs[0])
            replace(node, folded)
            return True
    return False


def _affine(node: ir.Node, anchor: ir.Node, content: np.ndarray, shapes: Shapes) -> Affine | None:
    count, extents = channels(anchor), shapes.dims(anchor.outputs[0])
    if count is None or extents is None or content.dtype.kind != "f":
        return None
    is_product = anchor.op_type in ("Gemm", "MatMul")
    per_channel = _per_channel(content, count, axis=len(extents) - 1 if is_product else 1, rank=len(extents))
    if per_channel is None or (node.op_type == "Div" and not per_channel.all()):
        return None
    scale, shift = _ROWS[node.op_type](per_channel)
    # A MatMul has no bias; its Add becomes an epilogue later, which costs nothing.
    if anchor.op_type == "MatMul" and shift.any():
        return None
    return Affine(scale=scale, shift=shift)


def _per_channel(content: np.ndarray, count: int, *, axis: int, rank: int) -> np.ndarray | None:
    """`content` as one float64 per channel; None when it varies along, or adds, another axis."""
    if content.ndim > rank:
        return None
    full = content.reshape((1,) * (rank - content.ndim) + content.shape)
    if any(d != 1 for i, d in enumerate(full.shape) if i != axis) or full.shape[axis] not in (1, count):
        return None
    return np.broadcast_to(full.reshape(-1).astype(np.float64), (count,))
