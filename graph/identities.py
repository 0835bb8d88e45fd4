"""Identities: nodes that hand their input on unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bolt.graph import bounds
from bolt.graph.attributes import attr, constant, ints, is_op, operand
from bolt.graph.rewrite import forward, remove_dead
from bolt.graph.shapes import Shapes, infer

Check = Callable[[ir.Node, Shapes], ir.Value | None]
"""The input a node equals, or None."""


class IdentityElimination(ir.passes.InPlacePass):
    """Removes nodes whose output equals one of their inputs (`ROWS` says when).

    The result is a view of the same numbers: same type, same extents. Nothing is removed where a graph input
    or a constant would have to become a graph output.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in list(model.graph):
            check = ROWS.get(node.op_type) if is_op(node, node.op_type) else None
            source = check(node, shapes) if check is not None else None
            if source is not None and not any(_is_read(o) for o in node.outputs[1:]):
                if forward(node.outputs[0], source):
                    remove_dead(node)
                    modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def same_extents(a: ir.Value | None, b: ir.Value | None, shapes: Shapes) -> bool:
    """Whether both have provably equal extents."""
    left, right = shapes.dims(a), shapes.dims(b)
    if left is None or right is None or len(left) != len(right):
        return False
    return all(bounds.equal(x, y) for x, y in zip(left, right, strict=True))


def _always(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    return operand(node, 0)


def _same_extents(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    return operand(node, 0) if same_extents(operand(node, 0), node.outputs[0], shapes) else None


def _dropout(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    training = constant(operand(node, 2))
    is_inference = operand(node, 2) is None or (training is not None and not training.any())
    return operand(node, 0) if is_inference else None


def _cast(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    source = operand(node, 0)
    known = shapes.onnx_dtype(source) if source is not None else None
    return source if known is not None and int(known) == int(attr(node, "to")) else None


def _pad(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    pads = ints(node, shapes, 1, "pads")
    return operand(node, 0) if pads is not None and not any(pads) else None


def _transpose(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    order = attr(node, "perm")
    return operand(node, 0) if order is not None and list(order) == sorted(order) else None


def _slice(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    steps = ints(node, shapes, 4, None, default=())
    return None if steps is None or any(s != 1 for s in steps) else _same_extents(node, shapes)


def _resize(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    """Equal extents and no fractional scale: every output pixel sits on an input pixel."""
    if attr(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    scales = constant(operand(node, 2 if node.op_type == "Resize" and len(node.inputs) > 2 else 1))
    given = attr(node, "scales") if scales is None or not scales.size else scales
    if given is not None and not np.all(np.asarray(given) == 1):
        return None
    return _same_extents(node, shapes)


def _single(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    return operand(node, 0) if len(node.inputs) == 1 else None


def _neutral(number: float, *, commutes: bool) -> Check:
    """x op number == x, as long as the constant does not widen x."""

    def check(node: ir.Node, shapes: Shapes) -> ir.Value | None:
        for index in (1, 0) if commutes else (1,):
            content = constant(operand(node, index))
            if content is None or not content.size or content.dtype.kind not in "fiu":
                continue
            source = operand(node, 1 - index)
            if np.all(content == number) and same_extents(source, node.outputs[0], shapes):
                return source
        return None

    return check


ROWS: dict[str, Check] = {
    "Identity": _always,
    "Dropout": _dropout,
    "Cast": _cast,
    "Pad": _pad,
    "Reshape": _same_extents,
    "Flatten": _same_extents,
    "Squeeze": _same_extents,
    "Unsqueeze": _same_extents,
    "Expand": _same_extents,
    "Tile": _same_extents,
    "Slice": _slice,
    "Split": _same_extents,
    "Transpose": _transpose,
    "Resize": _resize,
    "Upsample": _resize,
    **dict.fromkeys(("Concat", "Sum", "Max", "Min", "Mean"), _single),
    "Add": _neutral(0, commutes=True),
    "Sub": _neutral(0, commutes=False),
    "Mul": _neutral(1, commutes=True),
    "Div": _neutral(1, commutes=False),
    "Pow": _neutral(1, commutes=False),
}
"""op type -> when (and with which input) it is an identity."""
