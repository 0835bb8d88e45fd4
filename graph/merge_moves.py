"""Merging of moves: a Transpose after a Transpose, a Reshape after a Reshape."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.graph.attributes import attr
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, only_use, producer, replace
from bolt.graph.shapes import Shapes, infer

RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class MoveMerging(ir.passes.InPlacePass):
    """Two moves in a row become one.

        transpose(transpose(x, p), q)  =  transpose(x, [p[i] for i in q])
        reshape(reshape(x, s), t)      =  reshape(x, t)         also for Flatten, Squeeze, Unsqueeze

    Reshapes merge where the result has at most one dynamic extent, so that a constant target can say it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, "Transpose"):
            modified |= _merge_transposes(node)
        shapes = infer(model)
        for node in nodes_of(model, *RESHAPES):
            modified |= _merge_reshapes(node, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _merge_transposes(node: ir.Node) -> bool:
    first = producer(node.inputs[0], "Transpose")
    inner, outer = (attr(first, "perm") if first is not None else None), attr(node, "perm")
    if first is None or inner is None or outer is None:
        return False
    if not sorted(inner) == sorted(outer) == list(range(len(inner))):
        return False
    order = [int(inner[i]) for i in outer]
    replace(node, insert_before(node, "Transpose", [first.inputs[0]], {"perm": order}, name=node.name))
    return True


def _merge_reshapes(node: ir.Node, shapes: Shapes) -> bool:
    first = producer(node.inputs[0], *RESHAPES)
    extents = shapes.dims(node.outputs[0])
    if first is None or extents is None or only_use(first.outputs[0]) is None:
        return False
    if 0 in extents or sum(not dims.is_static(d) for d in extents) > 1:
        return False
    graph = node.graph
    assert graph is not None
    target = np.array([d if isinstance(d, int) else -1 for d in extents], np.int64)
    shape = add_constant(graph, target, f"{node.name or node.op_type}_shape")
    replace(node, insert_before(node, "Reshape", [first.inputs[0], shape], name=node.name))
    return True
