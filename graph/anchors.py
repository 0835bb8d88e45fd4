"""The table of anchors: ONNX operators with a kernel of their own, and how each becomes a spec.

Each function takes the lowering state and a node and returns a `Draft`. What a kernel can't do raises
`CannotLower` with the reason the report shows.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bolt.graph.anchors_matrix import gemm, matmul
from bolt.graph.anchors_quantized import quantized_conv, quantized_matmul
from bolt.graph.anchors_rows import REDUCTIONS, layer_norm, reduce, softmax
from bolt.graph.anchors_spatial import conv, conv_transpose, pool, resize
from bolt.graph.draft import Draft
from bolt.graph.lower import Lowering

ANCHORS: dict[str, Callable[[Lowering, ir.Node], Draft]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool,
    "AveragePool": pool,
    "Resize": resize,
    "Upsample": resize,
    "MatMul": matmul,
    "Gemm": gemm,
    "QuantizedConv": quantized_conv,
    "QuantizedMatMul": quantized_matmul,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    **dict.fromkeys(REDUCTIONS, reduce),
}
"""ONNX operator -> how it is lowered. The kernel of each takes an epilogue."""
