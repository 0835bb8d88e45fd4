"""Anchors that are matrix products: MatMul and Gemm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, operand
from bolt.graph.draft import Draft, Expression, need, unit_inner, weight_view
from bolt.graph.lower import Lowering
from bolt.graph.memory import collapse
from bolt.ops.gemm import GemmSpec
from bolt.program import View
from bolt.types import BF16, EIGHT_BIT_FLOATS, F32, S8, from_numpy


def matmul(low: Lowering, node: ir.Node) -> Draft:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    need(node, low.dtype(a) is F32 and low.dtype(b) is F32, "only fp32 matrices have a kernel")
    need(node, len(low.dims(a)) >= 2 and len(low.dims(b)) >= 2, "vector operands have no kernel")
    return product(low, node, low.view(a), low.view(b), low.array(b), lambda expression, acc: acc)


def gemm(low: Lowering, node: ir.Node) -> Draft:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    need(node, low.dtype(a) is F32 and low.dtype(b) is F32, "only fp32 matrices have a kernel")
    left, right, constant = low.view(a), low.view(b), low.array(b)
    if attr(node, "transA", 0):
        left = left.permute((1, 0))
    if attr(node, "transB", 0):
        right = right.permute((1, 0))
        constant = None if constant is None else constant.T
    alpha, beta = attr(node, "alpha", 1.0), attr(node, "beta", 1.0)
    third = operand(node, 2)

    def prologue(expression: Expression, acc: int) -> int:
        build = expression.builder
        if alpha != 1.0:
            acc = build.op("mul", acc, build.const(alpha))
        if third is None or beta == 0.0:
            return acc
        addend = expression.input(low.view(third))
        if beta != 1.0:
            addend = build.op("mul", addend, build.const(beta))
        return build.op("add", acc, addend)

    return product(low, node, left, right, constant, prologue)


def product(
    low: Lowering,
    node: ir.Node,
    a: View,
    b: View,
    constant: np.ndarray | None,
    prologue: Callable[[Expression, int], int],
) -> Draft:
    """a @ b, whose value is `constant` where it is known."""
    dims = low.dims(node.outputs[0])
    *batch, m, n = dims
    k = a.dims[-1]
    shared = all(d == 1 for d in b.dims[:-2])
    packed = constant is not None and shared and isinstance(k, int) and isinstance(n, int)
    dtype = low.stored(node.outputs[0])
    kind = None if constant is None else from_numpy(constant.dtype)
    left = low.matrix(a, a.dtype if kind in EIGHT_BIT_FLOATS else dtype)
    if packed and left.dtype is BF16 and left.strides[-1] != 1:
        left = low.dense(left)  # pairs of numbers are multiplied: they must be neighbours
    left = low.broadcast(left, (*batch, m, k))
    right = low.broadcast(b if packed else low.matrix(b, dtype), (*batch, k, n))

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        rank = len(dims)
        joined = [out, *extras]
        if shared:
            # Rows of every batch are one long m as far as the strides of all operands allow. The last dim
            # rides along untouched.
            rows = merged_rows([left, *joined], 1, node)
            lefts, outs = rows[0], rows[1:]
            rights = right.permute((rank - 2, rank - 1)).insert(0).insert(0)
        else:
            batches = _batches([left, right, *joined], node)
            lefts, rights, outs = batches[0], batches[1], batches[2:]
        return [unit_inner(outs[0]), unit_inner(lefts), rights, *outs[1:]]

    constants = {}
    if packed:
        assert constant is not None
        constants = {2: np.ascontiguousarray(constant.reshape(1, 1, *constant.shape[-2:]))}
        packed_as = kind if kind is S8 or kind in EIGHT_BIT_FLOATS else dtype
        right = replace(weight_view(constants[2], packed_as), strides=(0, 0, n, 1)).permute((2, 3))
        right = low.broadcast(right, (*batch, k, n))
    return Draft(
        dims=dims,
        order=None,
        make=partial(GemmSpec, math=low.math(node.outputs[0])),
        arrange=arrange,
        constants=constants,
        prologue=prologue,
    )


def merged_rows(views: list[View], keep: int, node: ir.Node) -> list[View]:
    """All dims but the last `keep` merged into (b0, b1, rows)."""
    outer = [v.permute(range(len(v.dims) - keep)) for v in views]
    merged = collapse(outer)
    need(node, len(merged[0].dims) <= 3, "the operands' memory orders need more than three loops")
    return [_pad_left(m, v, keep, 3) for m, v in zip(merged, views, strict=True)]


def _batches(views: list[View], node: ir.Node) -> list[View]:
    """All dims but the last two merged into (b0, b1)."""
    outer = [v.permute(range(len(v.dims) - 2)) for v in views]
    merged = collapse(outer) if outer[0].dims else outer
    need(node, len(merged[0].dims) <= 2, "the operands' memory orders need more than two batch loops")
    return [_pad_left(m, v, 2, 2) for m, v in zip(merged, views, strict=True)]


def _pad_left(outer: View, whole: View, keep: int, rank: int) -> View:
    """`outer` (merged leading dims) widened to `rank` dims, followed by the last `keep` dims of `whole`."""
    while len(outer.dims) < rank:
        outer = outer.insert(0)
    return replace(
        outer,
        dims=(*outer.dims, *whole.dims[-keep:]),
        strides=(*outer.strides, *whole.strides[-keep:]),
        halo=(),
    )
