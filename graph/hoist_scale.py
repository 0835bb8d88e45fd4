"""Scale hoisting: a number that multiplies an operand of a product multiplies the product instead."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import constant, operand
from bolt.graph.rewrite import add_constant, insert_before, is_private, nodes_of, producer, replace
from bolt.graph.shapes import Shapes, infer


class ScaleHoisting(ir.passes.InPlacePass):
    """Moves scalar factors of a MatMul's operands behind it, where they cost no pass over memory.

        (a * s) @ (b * t)  =  (a @ b) * (s * t)

    So do attentions that scale queries and keys by the root of the factor. A product with a constant matrix
    stays: what multiplies its operand is part of an activation as a rule. Float32 only.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "MatMul"):
            modified |= _hoist(node, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _hoist(node: ir.Node, shapes: Shapes) -> bool:
    if shapes.onnx_dtype(node.outputs[0]) != ir.DataType.FLOAT or node.graph is None:
        return False
    found = [_scaled(value) for value in node.inputs]
    if not any(found) or any(constant(value) is not None for value in node.inputs):
        return False
    factor = np.prod([scale for _, scale in filter(None, found)])
    inputs = [pair[0] if pair else value for pair, value in zip(found, node.inputs, strict=True)]
    product = insert_before(node, "MatMul", inputs, name=node.name)
    scale = add_constant(node.graph, np.asarray(factor, np.float32), "scale")
    shapes.alias(product, node.outputs[0])
    replace(node, insert_before(node, "Mul", [product, scale], name=node.name))
    return True


def _scaled(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """(x, s) when `value` is x * s or x / (1 / s) with a number s, and only read once."""
    node = producer(value, "Mul", "Div")
    if value is None or node is None or not is_private(value):
        return None
    for index in (0, 1) if node.op_type == "Mul" else (0,):
        x, number = operand(node, index), constant(operand(node, 1 - index))
        # A number with more dims than x would give the operand more: only scalars are sure not to.
        if x is None or number is None or number.size != 1 or number.ndim > 1:
            continue
        factor = float(number.reshape(()))
        if np.isfinite(factor) and factor != 0.0:
            return x, factor if node.op_type == "Mul" else 1.0 / factor
    return None
