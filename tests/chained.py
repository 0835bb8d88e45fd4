"""Small models whose steps make chains, and finding those chains however little they pay."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx_models import ModelBuilder

from bolt.graph import chains
from bolt.program import Program

L2_BYTES = 24 << 10
"""Of a cache so small that little images are worth keeping in a chain."""


def find(
    program: Program, monkeypatch: Any, *, l2_bytes: int = L2_BYTES, threads: int = 2, **sizes: int
) -> tuple[chains.Found, ...]:
    """Chains of small images: calls and rows computed twice cost nothing, and every image is large."""
    monkeypatch.setattr(chains, "CALL_BYTES", 0)
    monkeypatch.setattr(chains, "NEAR", 0.0)
    monkeypatch.setattr(chains, "WORTH", 0.0)
    monkeypatch.setattr(chains, "FLOPS_PER_BYTE", 1e9)
    return chains.find(program, l2_bytes, threads, sizes)


def conv(
    b: ModelBuilder, x: str, name: str, dims: tuple[int, ...], act: str = "Relu", **attributes: Any
) -> str:
    y = b.add("Conv", x, b.weights(f"w_{name}", dims), b.weights(f"b_{name}", dims[:1]), **attributes)
    return b.add(act, y) if act else y


def inverted(
    images: int | str = 1, height: int = 13, width: int = 9, *, kernel: int = 3, stride: int = 1,
    dilation: int = 1, channels: int = 5, wide: int = 20,
) -> Any:  # fmt: skip
    """Expand, depthwise, project: MobileNet's block, with its residual where dims allow."""
    b = ModelBuilder()
    x = b.input("x", [images, channels, height, width])
    x = conv(b, x, "in", (channels, channels, 1, 1))
    pad = (kernel - 1) * dilation // 2
    y = conv(b, x, "expand", (wide, channels, 1, 1))
    y = conv(
        b, y, "depthwise", (wide, 1, kernel, kernel), group=wide, pads=[pad] * 4, strides=[stride] * 2,
        dilations=[dilation] * 2,
    )  # fmt: skip
    y = conv(b, y, "project", (channels, wide, 1, 1), "")
    return b.output(b.add("Add", x, y) if stride == 1 else y).model()


def plain_convs(images: int | str = 1, height: int = 15, width: int = 8, *, channels: int = 6) -> Any:
    """Windows of several sizes, one after the other, then pooling."""
    b = ModelBuilder()
    y = b.input("x", [images, channels, height, width])
    y = conv(b, y, "a", (channels, channels, 3, 3), pads=[1] * 4)
    y = conv(b, y, "b", (channels, channels, 5, 1), pads=[3, 0, 1, 0])
    y = conv(b, y, "c", (channels, channels, 3, 3), pads=[1] * 4, strides=[2, 1])
    y = b.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    return b.output(y).model()


def patches(height: int = 24, width: int = 8, *, channels: int = 6) -> Any:
    """Windows that don't overlap, without a border; then one whose border is at its end."""
    b = ModelBuilder()
    y = b.input("x", [1, channels, height, width])
    y = conv(b, y, "a", (channels, channels, 1, 1))
    y = conv(b, y, "b", (channels, channels, 2, 2), strides=[2, 2])
    y = conv(b, y, "c", (channels, channels, 3, 3), strides=[2, 2], pads=[0, 0, 1, 1])
    return b.output(y).model()


def mlp(rows: int = 37, channels: int = 12, wide: int = 40) -> Any:
    """Normalization, two products with an activation between, and the residual."""
    b = ModelBuilder()
    x = b.input("x", [rows, channels])
    y = b.add("LayerNormalization", x, b.weights("scale", (channels,)), b.weights("shift", (channels,)))
    y = b.add("Relu", b.add("MatMul", y, b.weights("up", (channels, wide))))
    y = b.add("MatMul", y, b.weights("down", (wide, channels)))
    return b.output(b.add("Add", b.add("Mul", y, b.constant(0.5, np.float32)), x)).model()


def gated(images: int | str = 2, height: int = 7, width: int = 6, channels: int = 10) -> Any:
    """An expression on an image in front of a product, as in squeeze and excitation."""
    b = ModelBuilder()
    x = b.input("x", [images, channels, height, width])
    y = conv(b, x, "a", (channels, channels, 1, 1))
    gate = b.add("Sigmoid", b.add("GlobalAveragePool", y))
    y = conv(b, b.add("Mul", y, gate), "b", (channels, channels, 3, 3), pads=[1] * 4)
    return b.output(y).model()
