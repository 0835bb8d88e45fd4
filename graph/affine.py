"""Anchors absorb a per-channel affine map of their output into weights and bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand
from bolt.graph.rewrite import add_constant, fresh_name

Array = npt.NDArray[np.float64]

ANCHORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """y = x * scale + shift along the output channel; float64, one element per channel."""

    scale: Array
    shift: Array


def channels(anchor: ir.Node) -> int | None:
    """Output channels of an anchor with constant weights (and bias); None for any other."""
    weights, bias = constant(operand(anchor, 1)), operand(anchor, 2)
    if weights is None or weights.dtype.kind != "f" or (bias is not None and constant(bias) is None):
        return None
    if weights.ndim < 2 or (anchor.op_type == "MatMul" and weights.ndim != 2):
        return None
    is_row_major = anchor.op_type == "Conv" or (anchor.op_type == "Gemm" and attr(anchor, "transB", 0))
    groups = int(attr(anchor, "group", 1)) if anchor.op_type == "ConvTranspose" else 1
    return int(weights.shape[0 if is_row_major else 1]) * groups


def absorb(anchor: ir.Node, affine: Affine) -> ir.Value:
    """A copy of the anchor, in front of it, that computes anchor(x) * scale + shift.

        conv(x, W) + b            ->  conv(x, W * s) + (b * s + t)
        alpha A B + beta C        ->  alpha A (B * s) + 1 * (beta C * s + t)
        A B                       ->  alpha A (B * s) + t        (as Gemm; rank-2 A only) or
                                      A (B * s)                  when t is zero

    Computed in float64 and rounded once. The anchor's own weights may be shared and stay as they are.

    Returns:
        The output of the new node.
    """
    graph, weights = anchor.graph, constant(operand(anchor, 1))
    assert graph is not None and weights is not None
    scaled = _scaled(anchor, weights.astype(np.float64), affine.scale).astype(weights.dtype)
    inputs: list[ir.Value | None] = [
        anchor.inputs[0],
        add_constant(graph, scaled, f"{_stem(anchor)}_weights"),
    ]
    shift = _shifted(anchor, affine)
    attributes = dict(anchor.attributes)
    if anchor.op_type != "MatMul" or shift.any():
        inputs.append(add_constant(graph, shift.astype(weights.dtype), f"{_stem(anchor)}_bias"))
        attributes.pop("beta", None)
    op_type = "Gemm" if anchor.op_type == "MatMul" and len(inputs) == 3 else anchor.op_type
    unique = fresh_name(graph, _stem(anchor))
    node = ir.Node("", op_type, inputs, attributes, name=unique)
    node.outputs[0].name = unique
    node.outputs[0].type = anchor.outputs[0].type
    graph.insert_before(anchor, node)
    return node.outputs[0]


def _stem(anchor: ir.Node) -> str:
    return str(anchor.name or anchor.outputs[0].name or anchor.op_type)


def _scaled(anchor: ir.Node, weights: Array, scale: Array) -> Array:
    """`weights` with every output channel multiplied by its scale."""
    if anchor.op_type == "ConvTranspose":
        groups, (inside, per_group, *taps) = int(attr(anchor, "group", 1)), weights.shape
        split = weights.reshape(groups, inside // groups, per_group, *taps)
        by_channel = scale.reshape(groups, 1, per_group, *(1 for _ in taps))
        return (split * by_channel).reshape(weights.shape)
    is_row_major = anchor.op_type == "Conv" or (anchor.op_type == "Gemm" and attr(anchor, "transB", 0))
    return weights * scale.reshape(-1, *(1,) * (weights.ndim - 1)) if is_row_major else weights * scale


def _shifted(anchor: ir.Node, affine: Affine) -> Array:
    """The new bias; keeps the extents of a Gemm's C that has rows."""
    old = constant(operand(anchor, 2))
    if old is None:
        return affine.shift
    beta = float(attr(anchor, "beta", 1.0)) if anchor.op_type == "Gemm" else 1.0
    return old.astype(np.float64) * beta * affine.scale + affine.shift
