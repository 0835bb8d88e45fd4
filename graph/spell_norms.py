"""Canonical normalizations: LayerNormalization and RMSNormalization written by parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.graph.attributes import attr, constant, ints, operand, scalar
from bolt.graph.match import constant_power, near, plus, unary
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, only_use, producer, replace
from bolt.graph.shapes import Shapes, infer


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalized:
    """(x - mean) / sqrt(variance + epsilon) over the last `count` axes; without the mean when `rms`.

    Attributes:
        last: the node that computes it.
        scale, bias: per-element parameters already part of it.
    """

    last: ir.Node
    x: ir.Value
    count: int
    epsilon: float
    rms: bool
    scale: ir.Value | None = None
    bias: ir.Value | None = None


class NormSpelling(ir.passes.InPlacePass):
    """Replaces normalizations written by parts with one operator each (float32 only).

        d = x - mean(x)
        layer_norm(x) = d / sqrt(mean(d^2) + epsilon) * scale + bias
        rms_norm(x)   = x / sqrt(mean(x^2) + epsilon) * scale

    Squares may be Pow or Mul, the quotient Div or Mul by a Reciprocal (or Pow -0.5), and TensorFlow's
    x * r + (bias - mean * r) with r = scale / sqrt(variance + epsilon) is known. Axes are the last ones.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "Div", "Mul", "Add"):
            found = _regrouped(node, shapes) if node.op_type == "Add" else _core(node, shapes)
            if found is not None and shapes.onnx_dtype(found.x) == ir.DataType.FLOAT:
                modified |= _rewrite(found, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _mean(value: ir.Value | None, shapes: Shapes) -> tuple[ir.Value, int] | None:
    """(x, count) where value is the mean of x over its last `count` axes, kept as 1."""
    node = producer(value, "ReduceMean")
    if node is None or not attr(node, "keepdims", 1) or node.inputs[0] is None:
        return None
    extents, axes = shapes.dims(node.inputs[0]), ints(node, shapes, 1, "axes")
    if extents is None or not axes:
        return None
    back = sorted(a if a < 0 else a - len(extents) for a in axes)
    return (node.inputs[0], len(back)) if back == list(range(-len(back), 0)) else None


def _centered(value: ir.Value | None, shapes: Shapes) -> tuple[ir.Value, int] | None:
    """(x, count) where value = x - mean(x)."""
    node = producer(value, "Sub")
    found = None if node is None else _mean(operand(node, 1), shapes)
    return found if node is not None and found is not None and found[0] is operand(node, 0) else None


def _deviation(value: ir.Value | None, shapes: Shapes) -> tuple[ir.Value, int, float] | None:
    """(d, count, epsilon) where value = sqrt(mean(d^2) + epsilon)."""
    shifted = plus(unary(value, "Sqrt"))
    return None if shifted is None else _mean_square(*shifted, shapes)


def _inverse_deviation(value: ir.Value | None, shapes: Shapes) -> tuple[ir.Value, int, float] | None:
    """The same for value = 1 / sqrt(mean(d^2) + epsilon)."""
    root = unary(value, "Reciprocal")
    division = producer(value, "Div")
    if root is None and division is not None and near(scalar(operand(division, 0)), 1.0):
        root = operand(division, 1)
    if root is not None:
        return _deviation(root, shapes)
    shifted = plus(constant_power(value, -0.5))
    return None if shifted is None else _mean_square(*shifted, shapes)


def _mean_square(mean: ir.Value, epsilon: float, shapes: Shapes) -> tuple[ir.Value, int, float] | None:
    found = _mean(mean, shapes)
    root = None if found is None else constant_power(found[0], 2)
    return None if root is None or found is None or epsilon < 0 else (root, found[1], epsilon)


def _core(node: ir.Node, shapes: Shapes) -> Normalized | None:
    """The quotient: Div by the deviation, or Mul by its inverse."""
    pairs = [(0, 1)] if node.op_type == "Div" else [(0, 1), (1, 0)]
    spread = _deviation if node.op_type == "Div" else _inverse_deviation
    for top, bottom in pairs:
        found = spread(operand(node, bottom), shapes)
        numerator = operand(node, top)
        if found is None or numerator is None:
            continue
        squared, count, epsilon = found
        # Paddle computes x - mean(x) twice, once for each use.
        center, twin = _centered(numerator, shapes), _centered(squared, shapes)
        if center is not None and center == twin and center[1] == count:
            return Normalized(last=node, x=center[0], count=count, epsilon=epsilon, rms=False)
        if squared is numerator:
            return Normalized(last=node, x=numerator, count=count, epsilon=epsilon, rms=True)
    return None


def _regrouped(node: ir.Node, shapes: Shapes) -> Normalized | None:
    """x * r + (bias - mean(x) * r) with r = scale / sqrt(variance + epsilon)."""
    for left, right in ((0, 1), (1, 0)):
        product, rest = producer(operand(node, left), "Mul"), producer(operand(node, right), "Sub")
        shift = producer(operand(rest, 1), "Mul") if rest is not None else None
        if product is None or rest is None or shift is None or constant(operand(rest, 0)) is None:
            continue
        for x, factor in (product.inputs, product.inputs[::-1]):
            found = _scaled_inverse(factor, shapes)
            mean = next((v for v in shift.inputs if v is not factor), None)
            if found is None or factor not in shift.inputs or x is None:
                continue
            center = _mean(mean, shapes)
            (squared, count, epsilon), scale = found
            if center == (x, count) and _centered(squared, shapes) == center:
                return Normalized(
                    last=node, x=x, count=count, epsilon=epsilon, rms=False, scale=scale, bias=rest.inputs[0]
                )
    return None


def _scaled_inverse(
    value: ir.Value | None, shapes: Shapes
) -> tuple[tuple[ir.Value, int, float], ir.Value | None] | None:
    """The inverse deviation in value = inverse, or value = inverse * scale."""
    plain = _inverse_deviation(value, shapes)
    if plain is not None:
        return plain, None
    node = producer(value, "Mul")
    for a, b in (node.inputs, node.inputs[::-1]) if node is not None else ():
        found = _inverse_deviation(a, shapes)
        if found is not None and constant(b) is not None:
            return found, b
    return None


def _rewrite(found: Normalized, shapes: Shapes) -> bool:
    extents = shapes.dims(found.x)
    if extents is None or not dims.is_static(*extents[-found.count :]):
        return False
    inner = tuple(int(d) for d in extents[-found.count :])
    last, scale, bias = found.last, found.scale, found.bias
    if scale is None and bias is None:
        last, scale = _absorbed(last, "Mul", inner)
        if not found.rms:
            last, bias = _absorbed(last, "Add", inner)
    parameters = [_parameter(v, inner, filler) for v, filler in ((scale, 1.0), (bias, 0.0))]
    if any(p is None for p in parameters):
        return False
    graph = last.graph
    assert graph is not None
    op_type, stem = ("RMSNormalization", "RMSNorm") if found.rms else ("LayerNormalization", "LayerNorm")
    inputs = [found.x, add_constant(graph, parameters[0], f"{last.name or stem}_scale")]  # type: ignore[arg-type]
    if bias is not None:
        inputs.append(add_constant(graph, parameters[1], f"{last.name or stem}_bias"))  # type: ignore[arg-type]
    attributes = {"axis": -found.count, "epsilon": found.epsilon}
    replace(last, insert_before(last, op_type, inputs, attributes, name=last.name or stem))
    return True


def _absorbed(last: ir.Node, op_type: str, inner: tuple[int, ...]) -> tuple[ir.Node, ir.Value | None]:
    """The next node and its constant, when it is `op_type` with a constant of the normalized extents."""
    user = only_use(last.outputs[0])
    if producer(user.outputs[0] if user is not None else None, op_type) is None:
        return last, None
    assert user is not None
    other = next((v for v in user.inputs if v is not last.outputs[0]), None)
    return (user, other) if _parameter(other, inner, 0.0) is not None and other is not None else (last, None)


def _parameter(value: ir.Value | None, inner: tuple[int, ...], filler: float) -> np.ndarray | None:
    """A scale or bias with exactly the normalized extents; None when it has others."""
    if value is None:
        return np.full(inner, filler, np.float32)
    content = constant(value)
    if content is None or content.dtype != np.float32:
        return None
    trimmed = content.reshape(
        [d for i, d in enumerate(content.shape) if d != 1 or i >= content.ndim - len(inner)]
    )
    if trimmed.ndim > len(inner) or np.broadcast_shapes(trimmed.shape, inner) != inner:
        return None
    return np.broadcast_to(trimmed, inner)
