"""Anchors between 8-bit integers: what the passes of quantized models leave of Conv, Gemm and MatMul.

Kernels multiply the integers as they are in memory, zero points included, and sum in 32 bits. With z the
zero point of x (the halo holds z too, which stands for the zeros of the padding),

    sum((x - z) * w) * s + b  =  sum(x * w) * s + (b - s * z * sum(w))

so that a result takes one multiply-add per element.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bolt.graph.anchors_matrix import product
from bolt.graph.anchors_spatial import convolution, spatial_input
from bolt.graph.attributes import attr, operand
from bolt.graph.draft import Draft, Expression, need
from bolt.graph.layouts import row_major
from bolt.graph.lower import Lowering
from bolt.program import Halo, View, divides
from bolt.types import EIGHT_BIT_FLOATS, from_numpy

ROW_BYTES = 16
"""What the distance between rows of 8-bit floats is a multiple of."""


def quantized_conv(low: Lowering, node: ir.Node) -> Draft:
    weights = _weights(low, node)
    sums = weights.astype(np.int64).sum(axis=tuple(range(1, weights.ndim)))
    prologue = _rescale(low, node, sums, weights.ndim - 2)
    return convolution(low, node, weights, _conv_input, prologue)


def quantized_matmul(low: Lowering, node: ir.Node) -> Draft:
    a, floats = operand(node, 0), low.array(operand(node, 1))
    assert a is not None
    if floats is not None and from_numpy(floats.dtype) in EIGHT_BIT_FLOATS:
        return _float8_matmul(low, node, a, floats)
    weights = _weights(low, node)
    need(node, len(low.dims(a)) >= 2, "vector operands have no kernel")
    prologue = _rescale(low, node, weights.astype(np.int64).sum(axis=0), 0)
    left = low.view(a)
    need(node, left.dims[-1] == weights.shape[0], "the weights do not fit")
    left = left if left.strides[-1] == 1 else low.dense(left)
    return product(low, node, left, low.const(weights), weights, prologue)


def _float8_matmul(low: Lowering, node: ir.Node, a: ir.Value, weights: np.ndarray) -> Draft:
    """Floats have no zero point; both operands' rows are contiguous and aligned."""
    need(node, len(low.dims(a)) >= 2, "vector operands have no kernel")
    left = low.view(a)
    need(node, left.dtype in EIGHT_BIT_FLOATS, f"{left.dtype} times 8-bit floats has no kernel")
    need(node, left.dims[-1] == weights.shape[0], "the weights do not fit")
    if not _is_aligned(left):
        left = low.relaid(left, row_major(len(left.dims)))
    prologue = _rescale(low, node, np.zeros(weights.shape[1]), 0)
    return product(low, node, left, low.const(weights), weights, prologue)


def _is_aligned(view: View) -> bool:
    """Whether the rows of 8-bit elements start at multiples of 16 bytes."""
    *outer, inner = view.strides
    return inner == 1 and view.alignment() == ROW_BYTES and all(divides(ROW_BYTES, s) for s in outer)


def _weights(low: Lowering, node: ir.Node) -> np.ndarray:
    weights = low.array(operand(node, 1))
    need(node, weights is not None and weights.dtype == np.int8, "the weights are not constant int8")
    assert weights is not None
    return weights


def _rescale(
    low: Lowering, node: ir.Node, sums: np.ndarray, trailing: int
) -> Callable[[Expression, int], int]:
    """A prologue that makes real numbers of the integer sums; `trailing` dims follow that of the channels."""
    scale, bias = low.array(operand(node, 2)), low.array(operand(node, 3))
    need(node, scale is not None, "the scale is only known at run time")
    assert scale is not None
    wide = np.broadcast_to(scale.astype(np.float64).reshape(-1), sums.shape)
    offset = -wide * sums * int(attr(node, "zero_point", 0))
    if bias is not None:
        offset = offset + bias.astype(np.float64)

    def channel(numbers: np.ndarray) -> View:
        return low.const(numbers.astype(np.float32).reshape(-1, *(1,) * trailing))

    def prologue(expression: Expression, acc: int) -> int:
        build = expression.builder
        factor = build.const(float(scale[0])) if scale.size == 1 else expression.input(channel(wide))
        acc = build.op("mul", acc, factor)
        return build.op("add", acc, expression.input(channel(offset))) if offset.any() else acc

    return prologue


def _conv_input(low: Lowering, node: ir.Node, halo: Halo, *, turned: bool, groups: int) -> View:
    """Input 0 of a convolution with the zero point around it."""
    return spatial_input(low, node, halo, turned=turned, border=int(attr(node, "zero_point", 0)))
