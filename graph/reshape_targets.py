"""Reshape targets: computed shapes that a constant can say."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.dims import Dim
from bolt.graph import bounds
from bolt.graph.attributes import constant, operand
from bolt.graph.rewrite import add_constant, nodes_of, remove_dead
from bolt.graph.shapes import infer


class ReshapeTargets(ir.passes.InPlacePass):
    """Gives Reshape a constant target where its result's extents allow one.

        reshape(x, [shape(x)[0], shape(x)[1], 12, 32])  =  reshape(x, [0, 0, 12, 32])

    An extent equal to the input's on the same axis is written 0, and one other dynamic extent -1. The shape
    arithmetic that led there is dead afterwards.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "Reshape"):
            before, after = shapes.dims(node.inputs[0]), shapes.dims(node.outputs[0])
            if constant(operand(node, 1)) is not None or before is None or after is None:
                continue
            target = _target(before, after)
            if target is None:
                continue
            old = node.inputs[1].producer() if node.inputs[1] is not None else None
            value = add_constant(model.graph, np.array(target, np.int64), f"{node.name or 'Reshape'}_shape")
            node.replace_input_with(1, value)
            node.attributes.pop("allowzero", None)
            if old is not None:
                remove_dead(old)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _target(before: tuple[Dim, ...], after: tuple[Dim, ...]) -> list[int] | None:
    if 0 in after or 0 in before:
        return None
    target: list[int | None] = [d if isinstance(d, int) else None for d in after]
    for axis, extent in enumerate(after):
        if not dims.is_static(extent) and axis < len(before) and bounds.equal(before[axis], extent):
            target[axis] = 0
    if target.count(None) > 1:
        return None
    return [-1 if d is None else d for d in target]
