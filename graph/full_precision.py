"""Values that keep fp32 where a partition stores its other values in 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from bolt import dims as D
from bolt.graph.attributes import constant
from bolt.graph.movers import MOVERS
from bolt.graph.shapes import Shapes
from bolt.types import F32

SUMS = frozenset("ReduceSum ReduceSumSquare ReduceProd ReduceL1 ReduceL2".split())
"""Reductions whose results outgrow their inputs, by more than 16 bits hold; they are few."""


def full_precision(
    nodes: Sequence[ir.Node], shapes: Shapes, is_pointwise: Callable[[ir.Node], bool]
) -> frozenset[ir.Value]:
    """Sums, and fp32 values computed from integers (and sums) alone.

    The latter are positions, counts, angles and masks: 16 bits can't tell position 4097 from 4096, and the
    largest negative number of a mask is beyond F16.

    Args:
        nodes: of one partition, in topological order.
    """
    found: set[ir.Value] = set()
    for node in nodes:
        if node.op_type in SUMS or (_passes_on(node, shapes, is_pointwise) and _counts(node, shapes, found)):
            found |= {v for v in node.outputs if shapes.dtype(v) is F32}
    return frozenset(found)


def _passes_on(node: ir.Node, shapes: Shapes, is_pointwise: Callable[[ir.Node], bool]) -> bool:
    """Whether the results are what the inputs are. A table that integers look up is not."""
    if node.op_type == "MatMul":
        extents = shapes.dims(node.inputs[0])
        return extents is not None and D.equal(extents[-1], 1)  # frequencies times positions
    return node.op_type != "Gather" and (node.op_type in MOVERS or is_pointwise(node))


def _counts(node: ir.Node, shapes: Shapes, found: set[ir.Value]) -> bool:
    inputs = [v for v in node.inputs if v is not None]
    numbers = [v for v in inputs if constant(v) is None]
    return bool(numbers) and all(v in found or _is_integer(v, shapes) for v in numbers)


def _is_integer(value: ir.Value, shapes: Shapes) -> bool:
    dtype = shapes.dtype(value)
    return dtype is not None and not dtype.is_float
