"""Reading QuantizeLinear and DequantizeLinear: scales, zero points, and the 8-bit constants behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand
from bolt.graph.rewrite import fresh_name, producer

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

QUANTIZED = frozenset({QUANTIZE, DEQUANTIZE, "QuantizedConv", "QuantizedMatMul"})
"""Operators of quantized models."""

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "DepthToSpace", "SpaceToDepth")
"""Operators whose result has the elements of their first input."""

_INTEGERS = (np.dtype(np.uint8), np.dtype(np.int8))


@dataclass(frozen=True, slots=True)
class Quantizer:
    """real = (integer - zero) * scale, for a whole tensor.

    Attributes:
        scale: positive.
        zero: the integer that stands for 0.
        dtype: of the integers.
    """

    scale: float
    zero: int
    dtype: np.dtype


def quantizer(node: ir.Node | None) -> Quantizer | None:
    """Of a QuantizeLinear or DequantizeLinear with one constant scale; None for anything else."""
    if node is None or node.op_type not in (QUANTIZE, DEQUANTIZE) or attr(node, "block_size", 0):
        return None
    scale, zero = constant(operand(node, 1)), zero_point(node)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1 or zero.dtype not in _INTEGERS:
        return None
    if scale.dtype != np.float32 or not 0 < float(scale.reshape(())) < np.inf:
        return None
    return Quantizer(float(scale.reshape(())), int(zero.reshape(())), zero.dtype)


def zero_point(node: ir.Node) -> np.ndarray | None:
    """The constant zero points, 0 where left out; None when they are computed or of an unknown type."""
    if operand(node, 2) is not None:
        return constant(operand(node, 2))
    kind: type | None
    if node.op_type == QUANTIZE:
        kind = _KINDS.get(attr(node, "output_dtype", 0))
    else:
        kind = _kind(node.inputs[0])
    return None if kind is None else np.zeros((), kind)


_KINDS: dict[int, type] = {0: np.uint8, int(ir.DataType.UINT8): np.uint8, int(ir.DataType.INT8): np.int8}
"""Types by the attribute that states one where there is no zero point."""


def _kind(value: ir.Value | None) -> type | None:
    """The type of the integers a node dequantizes."""
    if value is None:
        return None
    if value.dtype is not None:
        return _KINDS.get(int(value.dtype))
    source = producer(value, QUANTIZE)
    zero = None if source is None else zero_point(source)
    return None if zero is None else zero.dtype.type


@dataclass(frozen=True, slots=True)
class Dequantized:
    """A value that is (integers - zero) * scale.

    Attributes:
        node: the DequantizeLinear.
        integers: its input.
        quantizer: scale and zero point.
    """

    node: ir.Node
    integers: ir.Value
    quantizer: Quantizer


def dequantized(value: ir.Value | None, *, fixed: bool = False) -> Dequantized | None:
    """What `value` stands for when it is dequantized; None otherwise.

    Args:
        fixed: whether the integers are to be constants or computed.
    """
    node = producer(value, DEQUANTIZE)
    found = quantizer(node)
    if node is None or found is None or node.inputs[0] is None:
        return None
    is_constant = constant(node.inputs[0]) is not None
    return Dequantized(node, node.inputs[0], found) if is_constant is fixed else None


def duplicate(
    node: ir.Node, value: ir.Value, *, before: ir.Node | None = None, after: ir.Node | None = None
) -> ir.Value:
    """What `node` makes of its first input made of `value`, by a node at the given place."""
    graph = node.graph
    assert graph is not None
    name = fresh_name(graph, f"{value.name}_{node.op_type}")
    attributes = {a.name: a.value for a in node.attributes.values()}
    copy = ir.node(node.op_type, [value, *node.inputs[1:]], attributes, name=name)
    out = copy.outputs[0]
    out.name, out.type, out.shape = name, node.outputs[0].type, value.shape
    if before is not None:
        graph.insert_before(before, copy)
    else:
        assert after is not None
        graph.insert_after(after, copy)
    return out


def real_constant(value: ir.Value | None) -> np.ndarray | None:
    """The content of a float constant, or of DequantizeLinear of a constant."""
    node = producer(value, DEQUANTIZE)
    if node is None:
        found = constant(value)
        return found if found is not None and found.dtype == np.float32 else None
    integers, scale, zero = (constant(operand(node, i)) for i in range(3))
    if operand(node, 2) is None:
        zero = np.zeros((), np.int32)
    if integers is None or scale is None or zero is None or attr(node, "block_size", 0):
        return None
    axis = attr(node, "axis", 1)
    if scale.dtype != np.float32 or not (
        lies_along(scale, axis, integers) and lies_along(zero, axis, integers)
    ):
        return None
    # float64 holds 32-bit integers and 8-bit floats alike
    wide = integers.astype(np.float64) - along(zero.astype(np.float64), axis, integers.ndim)
    real: np.ndarray = wide.astype(np.float32) * along(scale, axis, integers.ndim)
    return real


@dataclass(frozen=True, slots=True)
class Weights:
    """Constant weights: real = integers * scale, with one scale per slice along `axis` (or one for all).

    Attributes:
        integers: int8.
        scale: one float32, or as many as there are slices.
    """

    integers: np.ndarray
    scale: np.ndarray


def weights(value: ir.Value | None, axis: int) -> Weights | None:
    """`value` as symmetrically quantized 8-bit weights, scaled along `axis`; None when it is not."""
    node = producer(value, DEQUANTIZE)
    if node is None or attr(node, "block_size", 0):
        return None
    integers, scale, zero = constant(node.inputs[0]), constant(operand(node, 1)), zero_point(node)
    signed = signed_weights(integers, zero)
    if integers is None or signed is None or scale is None or integers.ndim < 2:
        return None
    per_slice = attr(node, "axis", 1) % integers.ndim == axis % integers.ndim
    if (
        scale.dtype != np.float32
        or not lies_along(scale, axis, integers)
        or not (scale.size == 1 or per_slice)
    ):
        return None
    return Weights(signed, scale.reshape(-1))


def signed_weights(integers: np.ndarray | None, zero: np.ndarray | None) -> np.ndarray | None:
    """int8 whose zero points are 0; unsigned weights around 128 are the same shifted. None for all others."""
    if integers is None or zero is None or integers.dtype not in _INTEGERS:
        return None
    middle = 128 if integers.dtype == np.uint8 else 0
    if (zero.astype(np.int64) != middle).any():
        return None
    return (integers.astype(np.int16) - middle).astype(np.int8)


def lies_along(numbers: np.ndarray, axis: int, array: np.ndarray) -> bool:
    """Whether there is one number, or one for each slice of `array` along `axis`."""
    return numbers.size == 1 or (array.ndim > 0 and numbers.shape == (array.shape[axis % array.ndim],))


def along(numbers: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One number for all, or numbers that lie along `axis` of a tensor of this rank."""
    if numbers.size == 1:
        return numbers.reshape((1,) * rank)
    return numbers.reshape(tuple(-1 if a == axis % rank else 1 for a in range(rank)))
