"""Guards against rows without a valid entry, where there is no such row."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import constant, operand
from bolt.graph.rewrite import forward, nodes_of, producer, remove_dead


class SoftmaxGuardElimination(ir.passes.InPlacePass):
    """Drops the zeros that exporters put in the place of rows whose every entry is masked by -inf.

        where(isnan(softmax(x + mask)), 0, softmax(x + mask))  =  softmax(x + mask)     for a finite mask

    A row of a softmax is NaN when its largest entry is -inf, or when an entry is +inf or NaN. A mask of
    finite numbers leaves only entries that were not finite before it; for those the two sides differ.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, "Where"):
            modified |= _drop(node)
        return ir.passes.PassResult(model, modified=modified)


def _drop(node: ir.Node) -> bool:
    check, zero, weights = (operand(node, i) for i in range(3))
    isnan, softmax, content = producer(check, "IsNaN"), producer(weights, "Softmax"), constant(zero)
    if isnan is None or softmax is None or weights is None or operand(isnan, 0) is not weights:
        return False
    if content is None or content.size != 1 or content.any() or not _is_finite(operand(softmax, 0)):
        return False
    if not forward(node.outputs[0], weights):
        return False
    remove_dead(node)
    return True


def _is_finite(scores: ir.Value | None) -> bool:
    """Whether `scores` is something with a mask of finite numbers added."""
    add = producer(scores, "Add")
    return add is not None and any(_is_finite_mask(v) for v in add.inputs)


def _is_finite_mask(value: ir.Value | None) -> bool:
    node = producer(value, "Where")
    leaves = [value] if node is None else [operand(node, 1), operand(node, 2)]
    contents = [constant(leaf) for leaf in leaves]
    return all(c is not None and np.isfinite(c).all() for c in contents)
