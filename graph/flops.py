"""Floating-point operations of ONNX nodes: what share of a model's work bolt takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.graph.shapes import Shapes

_PRODUCTS = frozenset("Conv ConvTranspose MatMul Gemm QuantizedConv QuantizedMatMul".split())


def flops(node: ir.Node, shapes: Shapes, bindings: Mapping[str, int]) -> int:
    """2 per multiply-add of a matrix product or convolution; 0 for everything else and for unknown shapes."""
    if node.op_type not in _PRODUCTS:
        return 0
    sizes = [_sizes(v, shapes, bindings) for v in (*node.inputs[:2], node.outputs[0])]
    if any(s is None for s in sizes):
        return 0
    a, b, out = sizes
    assert a is not None and b is not None and out is not None
    if node.op_type in ("Conv", "QuantizedConv"):
        return 2 * int(np.prod(out)) * int(np.prod(b[1:]))
    if node.op_type == "ConvTranspose":
        return 2 * int(np.prod(a)) * int(np.prod(b[1:]))
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0)
    return 2 * int(np.prod(out)) * (a[0] if transposed else a[-1])


def _sizes(value: ir.Value | None, shapes: Shapes, bindings: Mapping[str, int]) -> tuple[int, ...] | None:
    dims = shapes.dims(value)
    if not dims or not set(D.symbols(dims)) <= set(bindings):
        return None
    return tuple(D.evaluate(d, bindings) for d in dims)
