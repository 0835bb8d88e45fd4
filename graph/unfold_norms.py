"""Unfolded normalizations: per-image statistics as reductions and pointwise operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, replace
from bolt.graph.shapes import infer


class NormUnfolding(ir.passes.InPlacePass):
    """Spells InstanceNormalization by parts, so that it fuses with its neighbours (float32 only).

        d = x - mean(x)
        instance_norm(x) = d / sqrt(mean(d^2) + epsilon) * scale + bias

    Means are over the spatial axes. A scale of ones and a bias of zeros (GroupNormalization as exporters
    write it) leave no trace.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "InstanceNormalization"):
            extents, scale, bias = shapes.dims(node.inputs[0]), *(constant(operand(node, i)) for i in (1, 2))
            is_float = shapes.onnx_dtype(node.outputs[0]) == ir.DataType.FLOAT
            if extents is None or len(extents) < 3 or scale is None or bias is None or not is_float:
                continue
            _unfold(node, range(2, len(extents)), scale, bias)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _unfold(node: ir.Node, axes: Sequence[int], scale: np.ndarray, bias: np.ndarray) -> None:
    graph, x = node.graph, node.inputs[0]
    assert graph is not None
    stem = node.name or "InstanceNorm"
    centered = insert_before(node, "Sub", [x, _mean(node, x, axes)], name=f"{stem}_center")
    square = insert_before(node, "Mul", [centered, centered], name=f"{stem}_square")
    epsilon = add_constant(graph, np.array(attr(node, "epsilon", 1e-5), np.float32), f"{stem}_epsilon")
    variance = insert_before(node, "Add", [_mean(node, square, axes), epsilon], name=f"{stem}_variance")
    deviation = insert_before(node, "Sqrt", [variance], name=f"{stem}_deviation")
    result = insert_before(node, "Div", [centered, deviation], name=f"{stem}_quotient")
    for op_type, parameter, neutral in (("Mul", scale, 1), ("Add", bias, 0)):
        if not np.all(parameter == neutral):
            along = add_constant(
                graph, parameter.reshape(-1, *(1 for _ in axes)), f"{stem}_{op_type.lower()}"
            )
            result = insert_before(node, op_type, [result, along], name=f"{stem}_{op_type.lower()}")
    replace(node, result)


def _mean(node: ir.Node, value: ir.Value | None, axes: Sequence[int]) -> ir.Value:
    """ReduceMean as the model's opset spells it: axes are an input from 18 on."""
    graph = node.graph
    assert graph is not None
    stem = f"{node.name or 'InstanceNorm'}_mean"
    if graph.opset_imports.get("", 1) < 18:
        return insert_before(node, "ReduceMean", [value], {"axes": list(axes), "keepdims": 1}, name=stem)
    axes_input = add_constant(graph, np.array(axes, np.int64), f"{stem}_axes")
    return insert_before(node, "ReduceMean", [value, axes_input], {"keepdims": 1}, name=stem)
