"""Chains of regions that are one gated product: a wide product, cut in half, its halves combined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.graph.anchors_matrix import merged_rows
from bolt.graph.attention import Supports
from bolt.graph.attributes import attr, constant, operand
from bolt.graph.draft import Expression, unit_inner, weight_view
from bolt.graph.lower import Lowering
from bolt.graph.region import Region
from bolt.graph.shapes import Shapes
from bolt.ops.dual_gemm import DualGemmSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """f(first half, second half) of x @ weights (+ bias) as three regions, each read by the next alone.

    Attributes:
        product: the MatMul and the bias added to it.
        split: along the last axis, into two equal parts.
        combination: the pointwise f.
        bias: one number per column, None for none.
    """

    product: Region
    split: Region
    combination: Region
    bias: np.ndarray | None

    @property
    def regions(self) -> tuple[Region, Region, Region]:
        return self.product, self.split, self.combination

    @property
    def last(self) -> Region:
        return self.combination


def gated_products(
    regions: Sequence[Region], outputs: frozenset[ir.Value], shapes: Shapes
) -> Iterator[Gated]:
    """The chains among `regions`.

    Args:
        outputs: values of the partition that are read outside it.
    """
    made = {region.output: region for region in regions}
    for region in regions:
        split = _halves(region, outputs, shapes)
        whole = made.get(split.inputs[0]) if split is not None and split.inputs[0] is not None else None
        if split is None or whole is None or whole.anchor is None or whole.anchor.op_type != "MatMul":
            continue
        weights = constant(operand(whole.anchor, 1))
        has_one_reader = whole.output not in outputs and len(list(whole.output.uses())) == 1
        bias = _bias(whole)
        if (
            weights is not None
            and weights.ndim == 2
            and has_one_reader
            and (bias is not None or not whole.pointwise)
        ):
            yield Gated(product=whole, split=made[split.outputs[0]], combination=region, bias=bias)


def lower_gated(low: Lowering, chain: Gated, supports: Supports) -> bool:
    """Emit the chain as one step, if there is a kernel for it."""
    anchor, split, value = chain.product.anchor, chain.split.anchor, chain.combination.output
    assert anchor is not None and split is not None and anchor.inputs[0] is not None
    expression = Expression(low, low.dims(value))
    build = expression.builder
    known = {split.outputs[0]: build.acc(), split.outputs[1]: build.input(0)}
    epilogue = build.finish(low.expression(expression, chain.combination, known))
    constants = _constants(chain)
    dtype = low.stored(value)
    out = low.place(value, low.last_innermost(value))
    a = low.matrix(low.view(anchor.inputs[0]), dtype)
    rows = merged_rows([a, out], 1, anchor)
    stand_ins = [weight_view(array, dtype) for array in constants.values()]
    views = [unit_inner(rows[1]), unit_inner(rows[0]), *stand_ins]
    make = partial(DualGemmSpec, has_bias=chain.bias is not None)
    operands = tuple(v.operand(aligned=True) for v in views)
    spec = make(operands=operands, epilogue=epilogue, constants=tuple(constants))
    if expression.views or supports(spec) is not None:
        return False
    nodes = [node for region in chain.regions for node in region.nodes]
    low.emit(make, views, epilogue=epilogue, constants=constants, nodes=nodes)
    low.settle(value, out)
    return True


def _constants(chain: Gated) -> dict[int, np.ndarray]:
    assert chain.product.anchor is not None
    weights = constant(operand(chain.product.anchor, 1))
    assert weights is not None
    halves = [np.ascontiguousarray(half)[None, None] for half in np.split(weights, 2, axis=1)]
    if chain.bias is not None:
        halves += [half.reshape(1, 1, 1, -1) for half in np.split(chain.bias, 2)]
    return dict(enumerate(halves, start=2))


def _halves(region: Region, outputs: frozenset[ir.Value], shapes: Shapes) -> ir.Node | None:
    """The Split whose two equal parts along the last axis are all the tensors that the expression reads."""
    if region.anchor is not None:
        return None
    made = {o for n in region.pointwise for o in n.outputs}
    read = {v for n in region.pointwise for v in n.inputs if v is not None and v not in made}
    tensors = [v for v in read if (array := constant(v)) is None or array.size != 1]
    split = tensors[0].producer() if tensors else None
    if split is None or split.op_type != "Split" or set(tensors) != set(split.outputs) or len(tensors) != 2:
        return None
    dims = [shapes.dims(v) for v in split.outputs]
    if dims[0] is None or dims[1] is None or not D.equal(dims[0][-1], dims[1][-1]):
        return None
    is_private = all(
        v not in outputs and all(use.node in region.pointwise for use in v.uses()) for v in split.outputs
    )
    return split if is_private and attr(split, "axis", 0) % len(dims[0]) == len(dims[0]) - 1 else None


def _bias(product: Region) -> np.ndarray | None:
    """What the region adds to each row, if it does nothing else."""
    if len(product.pointwise) != 1 or product.pointwise[0].op_type != "Add":
        return None
    found = [a for v in product.pointwise[0].inputs if (a := constant(v)) is not None]
    return found[0] if len(found) == 1 and found[0].ndim == 1 and found[0].size > 1 else None
