"""Operators on 8-bit integers in the words of all other quantized models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand
from bolt.graph.quantization import DEQUANTIZE, QUANTIZE, signed_weights
from bolt.graph.rewrite import add_constant, forward, insert_before, remove_dead

_VENDOR = "com.microsoft"


@dataclass(frozen=True, slots=True)
class _Linear:
    """An operator on integers with a scale and a zero point each.

    Attributes:
        op_type: the same operator on real numbers.
        inputs: position of each tensor; its scale and zero point follow it.
        step: position of the result's scale; its zero point follows it.
        bias: position of an int32 bias in steps of the product of the first two scales.
        axis: of input 1, along which its scales lie.
    """

    op_type: str
    inputs: tuple[int, ...]
    step: int
    bias: int | None = None
    axis: int = 0


_LINEAR: Mapping[tuple[str, str], _Linear] = {
    ("", "QLinearConv"): _Linear("Conv", (0, 3), 6, bias=8),
    ("", "QLinearMatMul"): _Linear("MatMul", (0, 3), 6, axis=-1),
    (_VENDOR, "QGemm"): _Linear("Gemm", (0, 3), 7, bias=6, axis=-1),
    (_VENDOR, "QLinearAdd"): _Linear("Add", (0, 3), 6),
    (_VENDOR, "QLinearMul"): _Linear("Mul", (0, 3), 6),
    (_VENDOR, "QLinearSigmoid"): _Linear("Sigmoid", (0,), 3),
    (_VENDOR, "QLinearLeakyRelu"): _Linear("LeakyRelu", (0,), 3),
    (_VENDOR, "QLinearGlobalAveragePool"): _Linear("GlobalAveragePool", (0,), 3),
    (_VENDOR, "QLinearAveragePool"): _Linear("AveragePool", (0,), 3),
}


class QuantizedSpelling(ir.passes.InPlacePass):
    """Spells an operator on integers as the operator between dequantization and quantization.

        QLinearConv(x, sx, zx, w, sw, zw, sy, zy)  =  quantize(Conv(dequantize(x), dequantize(w)), sy, zy)

    Dynamic quantization becomes the arithmetic that finds the scale, and MatMulInteger (like ConvInteger) a
    product of integers without their zero points:

        (x - z) @ w  =  x @ w - z * sum(w)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            spell = _SPELLINGS.get((node.domain, node.op_type))
            if node.graph is not None and spell is not None:
                modified |= spell(node)
        return ir.passes.PassResult(model, modified=modified)


def _linear(node: ir.Node) -> bool:
    row = _LINEAR[node.domain, node.op_type]
    step, zero = operand(node, row.step), operand(node, row.step + 1)
    if attr(node, "channels_last", 0) or step is None:
        return False
    has_bias = row.bias is not None and operand(node, row.bias) is not None
    bias = _bias(node, row) if has_bias else None
    if has_bias and bias is None:
        return False
    values = [_dequantize(node, index, row.axis) for index in row.inputs]
    if bias is not None:
        assert node.graph is not None
        values.append(add_constant(node.graph, bias, f"{node.name or node.op_type}_bias"))
    stated = {name: a.value for name, a in node.attributes.items() if name != "channels_last"}
    real = insert_before(node, row.op_type, values, stated, name=node.name)
    real.type = ir.TensorType(ir.DataType.FLOAT)
    _replace(node, insert_before(node, QUANTIZE, [real, step, zero], name=f"{node.name}_quantized"))
    return True


def _dequantize(node: ir.Node, index: int, axis: int) -> ir.Value:
    value, scale, zero = (operand(node, index + i) for i in range(3))
    numbers = constant(scale)
    rank = None if value is None or value.shape is None else len(value.shape)
    attributes = {}
    if numbers is not None and numbers.size > 1 and rank is not None:
        attributes["axis"] = axis % rank
    elif numbers is not None and numbers.ndim == 1 and node.graph is not None:
        # One number in a vector would need an axis too.
        scale = add_constant(node.graph, numbers.reshape(()), "scale")
        zeros = constant(zero)
        zero = zero if zeros is None else add_constant(node.graph, zeros.reshape(-1)[:1].reshape(()), "zero")
    found = insert_before(node, DEQUANTIZE, [value, scale, zero], attributes, name=f"{node.name}_real")
    found.type = ir.TensorType(ir.DataType.FLOAT)
    return found


def _bias(node: ir.Node, row: _Linear) -> np.ndarray | None:
    """The real numbers behind an int32 bias in steps of both scales' product; None if not constant."""
    assert row.bias is not None
    integers = constant(operand(node, row.bias))
    scales = [constant(operand(node, index + 1)) for index in row.inputs]
    known = [scale.reshape(-1).astype(np.float64) for scale in scales if scale is not None]
    if integers is None or len(known) < len(scales):
        return None
    return (integers * known[0] * known[1]).astype(np.float32)


def _dynamic_quantize(node: ir.Node) -> bool:
    """The integers, the scale and the zero point of a tensor by its smallest and largest element."""
    x, graph = node.inputs[0], node.graph
    if x is None or graph is None or any(out.is_graph_output() for out in node.outputs):
        return False
    real = ir.TensorType(ir.DataType.FLOAT)

    def add(op_type: str, *inputs: ir.Value | float, **attributes: object) -> ir.Value:
        values = [
            i if isinstance(i, ir.Value) else add_constant(graph, np.array(i, np.float32), "number")
            for i in inputs
        ]
        out = insert_before(node, op_type, values, attributes, name=node.name)
        out.type = real
        return out

    def reduce(op_type: str) -> ir.Value:
        # Rows first: kernels share the work among threads by rows.
        rows: ir.Value = x
        if x.shape is not None and len(x.shape) > 1:
            rows = _reduce_last(node, op_type, x)
            rows.type = real
        return add(op_type, rows, keepdims=0)

    high, low = add("Max", reduce("ReduceMax"), 0.0), add("Min", reduce("ReduceMin"), 0.0)
    extent = add("Sub", high, low)
    empty = add("Equal", extent, 0.0)
    empty.type = ir.TensorType(ir.DataType.BOOL)
    scale = add("Where", empty, 1.0, add("Mul", extent, 1 / 255))
    inverse = add("Reciprocal", scale)
    zero = add("Clip", add("Round", add("Neg", add("Mul", low, inverse))), 0.0, 255.0)
    integers = add("Clip", add("Round", add("Add", add("Mul", x, inverse), zero)), 0.0, 255.0)
    results = (_byte(node, integers), scale, _byte(node, zero))
    results[0].shape, results[1].shape, results[2].shape = x.shape, ir.Shape(()), ir.Shape(())
    for old, new in zip(node.outputs, results, strict=False):
        forward(old, new)
    remove_dead(node)
    return True


def _reduce_last(node: ir.Node, op_type: str, x: ir.Value) -> ir.Value:
    """`x` reduced along its last axis."""
    graph = node.graph
    assert graph is not None
    if graph.opset_imports.get("", 1) < 18:
        return insert_before(node, op_type, [x], {"axes": [-1], "keepdims": 0}, name=node.name)
    axes = add_constant(graph, np.array([-1], np.int64), "axes")
    return insert_before(node, op_type, [x, axes], {"keepdims": 0}, name=node.name)


def _byte(node: ir.Node, value: ir.Value) -> ir.Value:
    out = insert_before(node, "Cast", [value], {"to": int(ir.DataType.UINT8)}, name=node.name)
    out.type = ir.TensorType(ir.DataType.UINT8)
    return out


def _integer_product(node: ir.Node) -> bool:
    """Casts to float of the integer product become the product without zero points."""
    integers, zero = constant(operand(node, 1)), operand(node, 3)
    zeros = np.zeros((), np.int8) if zero is None else constant(zero)
    weights = signed_weights(integers, zeros)
    users = [use.node for use in node.outputs[0].uses()]
    if weights is None or node.outputs[0].is_graph_output() or not _is_one(operand(node, 2)):
        return False
    if not users or not all(_casts_to_float(user) for user in users) or not _fits(node, weights):
        return False
    product = _sums(node, weights)
    for user in dict.fromkeys(users):
        _replace(user, product)
    return True


def _fits(node: ir.Node, weights: np.ndarray) -> bool:
    """Whether there is a product of these dims. Padding needs to know what stands for zero."""
    if node.op_type == "MatMulInteger":
        return weights.ndim == 2
    padded = any(attr(node, "pads", ())) or attr(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    computed = operand(node, 2) is not None and constant(operand(node, 2)) is None
    return weights.ndim in (3, 4) and not (padded and computed)


def _is_one(value: ir.Value | None) -> bool:
    """Whether a zero point is left out or stands for the whole tensor."""
    fixed = constant(value)
    if value is None or fixed is not None:
        return fixed is None or fixed.size == 1
    return value.shape is not None and all(d == 1 for d in value.shape)


def _sums(node: ir.Node, weights: np.ndarray) -> ir.Value:
    graph, stem, zero = node.graph, node.name or node.op_type, operand(node, 2)
    assert graph is not None
    is_conv = node.op_type == "ConvInteger"
    real = ir.TensorType(ir.DataType.FLOAT)
    fixed = constant(zero)
    scale = add_constant(graph, np.ones(1, np.float32), f"{stem}_scale")
    packed = add_constant(graph, weights, f"{stem}_weights")
    stated = {a.name: a.value for a in node.attributes.values() if a.name != "kernel_shape"}
    stated["zero_point"] = int(fixed.reshape(-1)[0]) if fixed is not None else 0
    op_type = "QuantizedConv" if is_conv else "QuantizedMatMul"
    out = insert_before(node, op_type, [node.inputs[0], packed, scale], stated, name=stem)
    out.type = real
    if zero is None or fixed is not None:
        return out
    per_channel = weights.astype(np.float32).sum(axis=tuple(range(1, weights.ndim)) if is_conv else 0)
    if is_conv:
        per_channel = per_channel.reshape(-1, *(1,) * (weights.ndim - 2))
    sums = add_constant(graph, per_channel, f"{stem}_sums")
    number = insert_before(node, "Cast", [zero], {"to": int(ir.DataType.FLOAT)}, name=stem)
    shift = insert_before(node, "Mul", [number, sums], name=stem)
    rest = insert_before(node, "Sub", [out, shift], name=stem)
    number.type = shift.type = rest.type = real
    return rest


def _casts_to_float(node: ir.Node) -> bool:
    return node.op_type == "Cast" and bool(attr(node, "to") == ir.DataType.FLOAT)


def _dynamic_matmul(node: ir.Node) -> bool:
    """DynamicQuantizeMatMul(a, b, scale, zero, bias) in ONNX's own words."""
    a, b, scale, zero, bias = (operand(node, i) for i in range(5))
    graph = node.graph
    assert graph is not None
    quantize = ir.node("DynamicQuantizeLinear", [a], {}, num_outputs=3)
    stem = node.name or node.op_type
    for index, kind in enumerate((ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)):
        quantize.outputs[index].name = f"{stem}_quantized{index}"
        quantize.outputs[index].type = ir.TensorType(kind)
    graph.insert_before(node, quantize)
    integers, step, point = quantize.outputs
    product = insert_before(node, "MatMulInteger", [integers, b, point, zero], name=stem)
    product.type = ir.TensorType(ir.DataType.INT32)
    real = insert_before(node, "Cast", [product], {"to": int(ir.DataType.FLOAT)}, name=stem)
    scaled = insert_before(
        node, "Mul", [real, insert_before(node, "Mul", [step, scale], name=stem)], name=stem
    )
    _replace(node, scaled if bias is None else insert_before(node, "Add", [scaled, bias], name=stem))
    return True


def _replace(node: ir.Node, new: ir.Value) -> None:
    forward(node.outputs[0], new)
    remove_dead(node)


_SPELLINGS: Mapping[tuple[str, str], Callable[[ir.Node], bool]] = {
    **dict.fromkeys(_LINEAR, _linear),
    ("", "DynamicQuantizeLinear"): _dynamic_quantize,
    **dict.fromkeys((("", "MatMulInteger"), ("", "ConvInteger")), _integer_product),
    (_VENDOR, "DynamicQuantizeMatMul"): _dynamic_matmul,
}
