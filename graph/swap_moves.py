"""A Transpose and a Reshape change places where that brings equal moves together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr
from bolt.graph.merge_moves import RESHAPES
from bolt.graph.rewrite import add_constant, insert_before, is_read_by, nodes_of, only_use, producer, replace
from bolt.graph.shapes import Shapes, infer


class MoveSwapping(ir.passes.InPlacePass):
    """Splits of axes move in front of transposes, joins of axes behind them.

        reshape(transpose(x, p), s)  =  transpose(reshape(x, s'), p')    s splits axes; x is a reshape,
                                                                         or a transpose follows
        transpose(reshape(x, s), p)  =  reshape(transpose(x, p'), s')    s joins axes, x is a transpose

    The moves that meet then merge. Heads that an attention joins with the batch and splits again become
    views this way.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, *RESHAPES):
            modified |= _hoist_split(node, shapes)
        for node in nodes_of(model, "Transpose"):
            modified |= _sink_join(node, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _hoist_split(node: ir.Node, shapes: Shapes) -> bool:
    transpose = producer(node.inputs[0], "Transpose")
    perm = None if transpose is None else attr(transpose, "perm")
    if transpose is None or perm is None or not is_read_by(transpose.outputs[0], node):
        return False
    x = transpose.inputs[0]
    coarse, fine = shapes.dims(node.inputs[0]), shapes.dims(node.outputs[0])
    following = only_use(node.outputs[0])
    meets = producer(x, *RESHAPES) is not None or (following is not None and following.op_type == "Transpose")
    if not meets or coarse is None or fine is None:
        return False
    groups = _groups(fine, coarse)
    if groups is None:
        return False
    sources = {int(axis): group for axis, group in zip(perm, groups, strict=True)}
    order = [i for axis in range(len(perm)) for i in sources[axis]]
    split = _reshape(node, x, [fine[i] for i in order])
    if split is None:
        return False
    moved = [order.index(i) for i in range(len(fine))]
    replace(node, insert_before(node, "Transpose", [split], {"perm": moved}, name=node.name))
    return True


def _sink_join(node: ir.Node, shapes: Shapes) -> bool:
    join = producer(node.inputs[0], *RESHAPES)
    perm = attr(node, "perm")
    if join is None or perm is None or not is_read_by(join.outputs[0], node):
        return False
    x = join.inputs[0]
    fine, coarse, result = shapes.dims(x), shapes.dims(join.outputs[0]), shapes.dims(node.outputs[0])
    if producer(x, "Transpose") is None or fine is None or coarse is None or result is None:
        return False
    groups = _groups(fine, coarse)
    if groups is None or _target(result) is None:
        return False
    moved = [i for axis in perm for i in groups[int(axis)]]
    transposed = insert_before(node, "Transpose", [x], {"perm": moved}, name=node.name)
    out = _reshape(node, transposed, result)
    assert out is not None
    replace(node, out)
    return True


def _groups(fine: Sequence[Dim], coarse: Sequence[Dim]) -> list[list[int]] | None:
    """Which neighbouring axes of `fine` each axis of `coarse` consists of; None when they don't match."""
    groups: list[list[int]] = []
    at = 0
    for extent in coarse:
        group: list[int] = []
        size: Dim = 1
        while not group or not D.equal(size, extent):
            if at == len(fine) or (group and not (isinstance(size, int) and isinstance(extent, int))):
                return None
            size = size * fine[at]
            group.append(at)
            at += 1
            if isinstance(size, int) and isinstance(extent, int) and size > extent:
                return None
        groups.append(group)
    if not groups or any(fine[i] != 1 for i in range(at, len(fine))):
        return None
    groups[-1] += range(at, len(fine))
    return groups


def _target(extents: Sequence[Dim]) -> np.ndarray | None:
    """The constant second input of a Reshape to these extents, if there can be one."""
    target = [d if isinstance(d, int) else -1 for d in extents]
    return None if target.count(-1) > 1 or 0 in target else np.array(target, np.int64)


def _reshape(node: ir.Node, x: ir.Value | None, extents: Sequence[Dim]) -> ir.Value | None:
    target = _target(extents)
    if target is None or node.graph is None:
        return None
    shape = add_constant(node.graph, target, f"{node.name or node.op_type}_shape")
    return insert_before(node, "Reshape", [x, shape], name=node.name)
