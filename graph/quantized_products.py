"""Products of 8-bit integers: Conv, Gemm and MatMul between dequantized operands."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import attr, operand
from bolt.graph.quantization import Weights, dequantized, real_constant, weights
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, replace


class QuantizedProducts(ir.passes.InPlacePass):
    """Multiplies integers instead of the real numbers they stand for.

        conv((x - z) * sx, w * sw) + b  =  conv(x - z, w) * (sx * sw) + b

    `QuantizedConv` and `QuantizedMatMul` (bolt's domain) compute the right side: x is uint8 or int8, w
    constant int8, the scale is one number or one per output channel, the bias has one per output channel,
    and attribute `zero_point` is z. Results are float32.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, *_MATCHERS):
            found = _MATCHERS[node.op_type](node)
            if found is not None:
                replace(node, found)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _conv(node: ir.Node) -> ir.Value | None:
    x, w = dequantized(node.inputs[0]), weights(operand(node, 1), 0)
    bias = operand(node, 2)
    numbers = None if bias is None else real_constant(bias)
    if x is None or w is None or (bias is not None and numbers is None):
        return None
    if w.integers.ndim not in (3, 4) or (numbers is not None and numbers.shape != w.integers.shape[:1]):
        return None
    kept = {name: a for name, a in node.attributes.items() if name != "kernel_shape"}
    return _product(node, "QuantizedConv", x.integers, w, x.quantizer.scale, x.quantizer.zero, numbers, kept)


def _matmul(node: ir.Node) -> ir.Value | None:
    x, w = dequantized(node.inputs[0]), weights(operand(node, 1), -1)
    if x is None or w is None or w.integers.ndim != 2:
        return None
    return _product(node, "QuantizedMatMul", x.integers, w, x.quantizer.scale, x.quantizer.zero, None, {})


def _gemm(node: ir.Node) -> ir.Value | None:
    transposed = int(attr(node, "transB", 0))
    x, w = dequantized(node.inputs[0]), weights(operand(node, 1), 0 if transposed else 1)
    if x is None or w is None or attr(node, "transA", 0):
        return None
    third = operand(node, 2) if attr(node, "beta", 1.0) else None
    bias = None if third is None else real_constant(third)
    columns = w.integers.shape[0 if transposed else 1]
    if third is not None and (
        bias is None or bias.size not in (1, columns) or bias.shape[-1:] != (bias.size,)
    ):
        return None
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * np.float32(attr(node, "beta", 1.0)), (columns,))
    if transposed:
        w = Weights(np.ascontiguousarray(w.integers.T), w.scale)
    scale = x.quantizer.scale * float(attr(node, "alpha", 1.0))
    return _product(node, "QuantizedMatMul", x.integers, w, scale, x.quantizer.zero, bias, {})


def _product(
    node: ir.Node,
    op_type: str,
    x: ir.Value,
    w: Weights,
    scale: float,
    zero: int,
    bias: np.ndarray | None,
    attributes: dict[str, ir.Attr],
) -> ir.Value:
    graph = node.graph
    assert graph is not None
    stem = node.name or op_type
    inputs: list[ir.Value | None] = [x, add_constant(graph, w.integers, f"{stem}_weights")]
    total = (w.scale.astype(np.float64) * scale).astype(np.float32)
    inputs.append(add_constant(graph, total, f"{stem}_scale"))
    if bias is not None:
        inputs.append(add_constant(graph, np.array(bias, np.float32), f"{stem}_bias"))
    stated = {name: a.value for name, a in attributes.items()}
    return insert_before(node, op_type, inputs, {**stated, "zero_point": zero}, name=stem)


_MATCHERS: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
