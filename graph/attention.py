"""Chains of regions that are one attention kernel: product with keys, softmax, product with values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt.dims import Dim
from bolt.graph.attributes import attr, constant
from bolt.graph.lower import Lowering
from bolt.graph.region import Region
from bolt.graph.shapes import Shapes
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Spec
from bolt.program import View
from bolt.report import Rejection

HIDDEN = -1e4
"""A bias from which on a key's weight is 0 beside that of any key without a bias."""

Supports = Callable[[Spec], Rejection | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """softmax(scale * q k^T + bias) v as three regions, in this order, the first two read by the next alone.

    A constant bias that does nothing but hide later keys is `causal` instead.

    Attributes:
        scores: the product with the transposed keys, its scale and its mask.
        softmax: over the keys.
        product: with the values.
        scale: factor of the scores.
        bias: added to them, None for none.
        causal: query i sees keys 0 .. i only.
    """

    scores: Region
    softmax: Region
    product: Region
    scale: float
    bias: ir.Value | None
    causal: bool = False

    @property
    def regions(self) -> tuple[Region, Region, Region]:
        return self.scores, self.softmax, self.product

    @property
    def last(self) -> Region:
        return self.product


def attentions(
    regions: Sequence[Region], outputs: frozenset[ir.Value], shapes: Shapes, *, opset: int
) -> Iterator[Attention]:
    """The chains among `regions`.

    Args:
        outputs: values of the partition that are read outside it.
    """
    made = {region.output: region for region in regions}

    def only_reader(region: Region, reader: Region) -> bool:
        uses = list(region.output.uses())
        return region.output not in outputs and len(uses) == 1 and uses[0].node is reader.anchor

    for product in regions:
        softmax = _read(product, "MatMul", made)
        scores = None if softmax is None else _read(softmax, "Softmax", made)
        if softmax is None or scores is None or softmax.pointwise or product.pointwise:
            continue
        if (
            scores.anchor is None
            or scores.anchor.op_type != "MatMul"
            or not _is_last_axis(softmax, shapes, opset)
        ):
            continue
        affine = _affine(scores)
        if affine and only_reader(scores, softmax) and only_reader(softmax, product):
            scale, bias = affine
            causal = bias is not None and _is_causal(bias, shapes.dims(scores.output))
            yield Attention(
                scores=scores,
                softmax=softmax,
                product=product,
                scale=scale,
                bias=None if causal else bias,
                causal=causal,
            )


def lower_attention(low: Lowering, chain: Attention, supports: Supports) -> bool:
    """Emit the chain as one step, if there is a kernel for it."""
    take_back = low.attempt()
    views = _operands(low, chain)
    if views is None:
        take_back()
        return False
    value = chain.product.output
    out = low.place(value, low.last_innermost(value))
    make = partial(AttentionSpec, scale=chain.scale, has_bias=chain.bias is not None, causal=chain.causal)
    operands = [_batched(v) for v in (out, *views)]
    spec = make(operands=tuple(v.operand(aligned=True) for v in operands))
    if supports(spec) is not None:
        take_back()
        return False
    nodes = [node for region in chain.regions for node in region.nodes]
    low.emit(make, operands, nodes=nodes)
    low.settle(value, out)
    return True


def _operands(low: Lowering, chain: Attention) -> list[View] | None:
    """q, k, v and the bias as (..., rows, columns), rows contiguous, in the type the output is stored in.

    Kernels of a CPU add a bias of another float type as it is.
    """
    assert chain.scores.anchor is not None and chain.product.anchor is not None
    queries, keys = (low.view(v) for v in chain.scores.anchor.inputs if v is not None)
    values = low.view(chain.product.anchor.inputs[1])  # type: ignore[arg-type]
    dims = low.dims(chain.scores.output)
    rank, dtype = len(dims), low.stored(chain.product.output)
    if rank not in (3, 4) or any(len(v.dims) != rank for v in (queries, keys, values)):
        return None
    keys = keys.permute((*range(rank - 2), rank - 1, rank - 2))
    views = [_rows(low, low.as_type(v, dtype)) for v in (queries, keys, values)]
    batch = dims[:-2]
    views = [low.broadcast(v, (*batch, *v.dims[-2:])) for v in views]
    if chain.bias is not None:
        bias = low.view(chain.bias)
        if low.conventions.is_device or not bias.dtype.is_float:
            bias = low.as_type(bias, dtype)
        if not bias.dims or bias.strides[-1] != 1:
            return None
        views.append(low.broadcast(bias, dims))
    return views


def _rows(low: Lowering, view: View) -> View:
    return view if view.strides[-1] == 1 else low.dense(view)


def _batched(view: View) -> View:
    """With two batch dims."""
    return view if len(view.dims) == 4 else view.insert(0)


def _read(region: Region, op_type: str, made: dict[ir.Value, Region]) -> Region | None:
    """The region whose output is the first input of `region`'s anchor, an `op_type`."""
    anchor = region.anchor
    if anchor is None or anchor.op_type != op_type or anchor.inputs[0] is None:
        return None
    return made.get(anchor.inputs[0])


def _is_last_axis(softmax: Region, shapes: Shapes, opset: int) -> bool:
    assert softmax.anchor is not None
    dims = shapes.dims(softmax.output)
    if dims is None:
        return False
    return bool(attr(softmax.anchor, "axis", 1 if opset < 13 else -1) % len(dims) == len(dims) - 1)


def _is_causal(bias: ir.Value, dims: Sequence[Dim] | None) -> bool:
    """Whether a constant bias is 0 for keys up to the query's own and, after exp, 0 for later ones."""
    mask = constant(bias)
    if mask is None or dims is None or mask.ndim < 2 or mask.shape[-2:] != tuple(dims[-2:]):
        return False
    seen = np.tri(*mask.shape[-2:]) > 0
    return bool(np.all(np.where(seen, mask == 0, mask <= HIDDEN)))


def _affine(scores: Region) -> tuple[float, ir.Value | None] | None:
    """(scale, bias) when the region's expression is scale * product + bias."""
    assert scores.anchor is not None
    value, scale, bias = scores.anchor.outputs[0], 1.0, None
    for node in scores.pointwise:
        if len(node.inputs) != 2 or value not in node.inputs:
            return None
        first = node.inputs[0] is value
        other = node.inputs[1] if first else node.inputs[0]
        number = constant(other)
        is_number = number is not None and number.size == 1
        if node.op_type == "Add" and bias is None and not is_number:
            bias = other
        elif node.op_type == "Mul" and bias is None and is_number:
            scale *= float(number.reshape(()))  # type: ignore[union-attr]
        elif node.op_type == "Div" and bias is None and is_number and first:
            scale /= float(number.reshape(()))  # type: ignore[union-attr]
        else:
            return None
        value = node.outputs[0]
    return scale, bias
