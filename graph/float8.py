"""Products of 8-bit floats: MatMul and Gemm of values quantized to FLOAT8E4M3FN or FLOAT8E5M2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, is_op, operand
from bolt.graph.quantization import DEQUANTIZE, QUANTIZE, along, lies_along, real_constant
from bolt.graph.raise_quantize import raise_above
from bolt.graph.rewrite import add_constant, become_constants, insert_before, nodes_of, producer, replace
from bolt.report import Rejection
from bolt.types import EIGHT_BIT_FLOATS, DType, convert, from_numpy, from_onnx

DEPTH, COLUMNS = 16, 8
"""What the extents of the weights have to be multiples of: rows of operands start every 16 bytes."""

_REASON = "bolt.float8"
"""Key of a node's `meta`: why it is not computed with 8-bit floats though its input is quantized to them."""

_RENAMES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Moves of nothing: results have the elements of the first input in their order."""


class Float8Constants(ir.passes.InPlacePass):
    """Quantizes constants to 8-bit floats, as models do whose exporter keeps their weights in fp32."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        return ir.passes.PassResult(model, modified=become_constants(model, QUANTIZE, _quantized))


def _quantized(node: ir.Node) -> np.ndarray | None:
    """What QuantizeLinear makes of a constant, if that is 8-bit floats."""
    kind, real, scale = _stored_type(node.outputs[0]), constant(node.inputs[0]), constant(operand(node, 1))
    if kind is None or real is None or scale is None or not _is_zero(node):
        return None
    if attr(node, "block_size", 0) or not attr(node, "saturate", 1) or not scale.all():
        return None
    if {real.dtype, scale.dtype} != {np.dtype(np.float32)} or not lies_along(
        scale, attr(node, "axis", 1), real
    ):
        return None
    return convert(real / along(scale, attr(node, "axis", 1), real.ndim), kind)


class Float8Products(ir.passes.InPlacePass):
    """Multiplies 8-bit floats instead of the real numbers they stand for.

        matmul(x * sx, w * sw) + b  =  matmul(x, w) * (sx * sw) + b

    `QuantizedMatMul` (bolt's domain) computes the right side: x and the constant w are 8-bit floats, the
    scale is one number or one per column of w, the bias has one per column. Results are float32. A product
    that keeps its form has the reason in its `meta`, see `kept_wide`.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, "MatMul", "Gemm"):
            x = _activations(node.inputs[0])
            if x is None:
                continue
            found = _product(node, x)
            if isinstance(found, str):
                node.meta.setdefault(_REASON, found)
                continue
            replace(node, _rewritten(node, found))
            modified = True
        return ir.passes.PassResult(model, modified=modified)


class Float8Raising(ir.passes.InPlacePass):
    """Quantizes what 8-bit products read before its dims are renamed: right where it is computed."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, QUANTIZE):
            users = [use.node for use in node.outputs[0].uses()]
            if users and _stored_type(node.outputs[0]) and all(u.op_type in _TAKERS for u in users):
                modified |= raise_above(node, *_RENAMES)
        return ir.passes.PassResult(model, modified=modified)


_TAKERS = ("QuantizedMatMul", *_RENAMES)


def kept_wide(model: ir.Model) -> Iterator[Rejection]:
    """Why operators whose inputs a model quantizes to 8-bit floats are computed in wider ones."""
    for node in model.graph:
        reason = node.meta.get(_REASON)
        if reason is None and is_op(node, *_WIDE) and _activations(node.inputs[0]) is not None:
            reason = f"{node.op_type} has no kernel for 8-bit floats"
        if reason is not None:
            yield Rejection(
                stage="graph", subject=node.name or node.op_type, reason=f"computed wider: {reason}"
            )


_WIDE = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A value that is 8-bit floats times a scale.

    Attributes:
        floats: the 8-bit floats.
        scale: one number.
    """

    floats: ir.Value
    scale: float


@dataclass(frozen=True, slots=True)
class _Weights:
    """Constant weights (depth, columns): 8-bit floats times one number, or times one for each column."""

    floats: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True, slots=True)
class _Product:
    x: _Scaled
    weights: _Weights
    factor: float = 1.0
    bias: np.ndarray | None = None


def _stored_type(value: ir.Value | None) -> DType | None:
    """The 8-bit float type that `value` is stored in, or None."""
    if value is None:
        return None
    source = value.producer()
    code = _code(value)
    if code is None and is_op(source, QUANTIZE):
        assert source is not None
        zero = operand(source, 2)
        code = int(attr(source, "output_dtype", 0)) or (None if zero is None else _code(zero))
    found = None if code is None else from_onnx(code)
    return found if found in EIGHT_BIT_FLOATS else None


def _code(value: ir.Value) -> int | None:
    return None if value.dtype is None else int(value.dtype)


def _activations(value: ir.Value | None) -> _Scaled | None:
    """`value` as computed 8-bit floats times one constant; None when it is something else."""
    node = producer(value, DEQUANTIZE)
    if node is None or constant(node.inputs[0]) is not None or attr(node, "block_size", 0):
        return None
    kind, scale = _stored_type(node.inputs[0]), constant(operand(node, 1))
    if kind is None and (zero := operand(node, 2)) is not None:
        kind = _stored_type(zero)
    if kind is None or scale is None or scale.size != 1 or scale.dtype != np.float32 or not _is_zero(node):
        return None
    number, floats = float(scale.reshape(())), node.inputs[0]
    return _Scaled(floats, number) if floats is not None and 0 < number < np.inf else None


def _is_zero(node: ir.Node) -> bool:
    """Whether the zero point is left out or 0, the only one there is for floats."""
    zero = constant(operand(node, 2))
    return operand(node, 2) is None or (zero is not None and not zero.astype(np.float32).any())


def _product(node: ir.Node, x: _Scaled) -> _Product | str:
    """What the node computes of 8-bit floats, or why it can't."""
    source = producer(x.floats, QUANTIZE)
    if source is not None and not attr(source, "saturate", 1):
        return "its input is quantized without saturation"
    is_gemm = node.op_type == "Gemm"
    if is_gemm and attr(node, "transA", 0):
        return "its first operand is transposed"
    weights = _weights(operand(node, 1), transposed=is_gemm and bool(attr(node, "transB", 0)))
    if isinstance(weights, str):
        return weights
    depth, columns = weights.floats.shape
    if depth % DEPTH or columns % COLUMNS:
        return f"weights of {depth} x {columns} are not multiples of {DEPTH} x {COLUMNS}"
    if not is_gemm:
        return _Product(x, weights)
    beta, third = float(attr(node, "beta", 1.0)), operand(node, 2)
    if third is None or beta == 0.0:
        return _Product(x, weights, float(attr(node, "alpha", 1.0)))
    bias = real_constant(third)
    if bias is None or bias.size not in (1, columns) or bias.shape[-1:] != (bias.size,):
        return "what it adds is not one constant for each column"
    numbers = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (columns,))
    return _Product(x, weights, float(attr(node, "alpha", 1.0)), np.ascontiguousarray(numbers))


def _weights(value: ir.Value | None, *, transposed: bool) -> _Weights | str:
    """`value` as constant 8-bit floats with scales, or why it is not."""
    turn = producer(value, "Transpose")
    if turn is not None:
        value = turn.inputs[0]
        transposed = not transposed
        if attr(turn, "perm") not in (None, [1, 0], (1, 0)):
            return "its weights are not a matrix"
    node = producer(value, DEQUANTIZE)
    if node is None:
        return "its weights are not 8-bit floats"
    floats, scale = constant(node.inputs[0]), constant(operand(node, 1))
    if floats is None or scale is None or attr(node, "block_size", 0) or not _is_zero(node):
        return "its weights are not constant 8-bit floats with constant scales"
    if from_numpy(floats.dtype) not in EIGHT_BIT_FLOATS:
        return "its weights are not 8-bit floats"
    if floats.ndim != 2 or scale.dtype != np.float32 or not (np.isfinite(scale) & (scale > 0)).all():
        return "its weights are not a matrix with positive scales"
    axis = int(attr(node, "axis", 1)) % 2
    if transposed:
        floats, axis = np.ascontiguousarray(floats.T), 1 - axis
    if scale.size != 1 and (axis != 1 or scale.shape != floats.shape[1:]):
        return "its weights have scales along the depth of the product"
    return _Weights(floats, scale.reshape(-1))


def _rewritten(node: ir.Node, found: _Product) -> ir.Value:
    graph, stem = node.graph, node.name or "QuantizedMatMul"
    assert graph is not None
    total = found.weights.scale.astype(np.float64) * found.x.scale * found.factor
    inputs: list[ir.Value | None] = [
        found.x.floats,
        add_constant(graph, found.weights.floats, f"{stem}_weights"),
        add_constant(graph, total.astype(np.float32), f"{stem}_scale"),
    ]
    if found.bias is not None:
        inputs.append(add_constant(graph, found.bias, f"{stem}_bias"))
    return insert_before(node, "QuantizedMatMul", inputs, {"zero_point": 0}, name=stem)
