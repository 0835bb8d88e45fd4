"""Canonical Softmax and LogSoftmax written by parts."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.attributes import attr, ints, operand
from bolt.graph.match import unary
from bolt.graph.rewrite import insert_before, nodes_of, producer, replace
from bolt.graph.shapes import Shapes, infer


class SoftmaxSpelling(ir.passes.InPlacePass):
    """Replaces a softmax along the last axis written by parts with one operator (float32 only).

        z = x - max(x)      softmax(x) = exp z / sum(exp z)      log_softmax(x) = z - log(sum(exp z))

    The maximum may be missing: subtracting it changes nothing but the range of the exponential. The quotient
    may be a product with the Reciprocal of the sum.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "Div", "Mul", "Sub"):
            if shapes.onnx_dtype(node.outputs[0]) != ir.DataType.FLOAT:
                continue
            op_type = "LogSoftmax" if node.op_type == "Sub" else "Softmax"
            x = _logarithm(node, shapes) if node.op_type == "Sub" else _quotient(node, shapes)
            extents = shapes.dims(x)
            if x is not None and extents is not None and extents == shapes.dims(node.outputs[0]):
                axis = {"axis": len(extents) - 1}
                replace(node, insert_before(node, op_type, [x], axis, name=node.name))
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _quotient(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    """x where node = exp(z) / sum(exp(z))."""
    for top, bottom in ((0, 1), (1, 0)) if node.op_type == "Mul" else ((0, 1),):
        numerator, denominator = operand(node, top), operand(node, bottom)
        if node.op_type == "Mul":
            denominator = unary(denominator, "Reciprocal")
        exponent = unary(numerator, "Exp")
        if exponent is not None and _reduced(denominator, "ReduceSum", shapes) is numerator:
            return _without_maximum(exponent, shapes)
    return None


def _logarithm(node: ir.Node, shapes: Shapes) -> ir.Value | None:
    """x where node = z - log(sum(exp(z)))."""
    total = _reduced(unary(operand(node, 1), "Log"), "ReduceSum", shapes)
    z = unary(total, "Exp")
    return _without_maximum(z, shapes) if z is not None and z is operand(node, 0) else None


def _without_maximum(z: ir.Value, shapes: Shapes) -> ir.Value:
    """x where z = x - max(x); z itself otherwise."""
    node = producer(z, "Sub")
    x = None if node is None else operand(node, 0)
    is_shifted = node is not None and x is not None and _reduced(operand(node, 1), "ReduceMax", shapes) is x
    return x if is_shifted and x is not None else z


def _reduced(value: ir.Value | None, op_type: str, shapes: Shapes) -> ir.Value | None:
    """x where value reduces the last axis of x and keeps it as 1."""
    node = producer(value, op_type)
    extents = None if node is None else shapes.dims(operand(node, 0))
    if node is None or extents is None or not attr(node, "keepdims", 1):
        return None
    axes = ints(node, shapes, 1, "axes")
    return (
        operand(node, 0)
        if axes is not None and len(axes) == 1 and axes[0] in (-1, len(extents) - 1)
        else None
    )
