"""Quantized models built node by node, the way ONNX Runtime's quantizer writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ml_dtypes  # noqa: F401  (makes the 8-bit floats known to NumPy)
import numpy as np
from onnx_models import ModelBuilder

from bolt.graph.conventions import CPU

E4M3, E5M2 = np.dtype("float8_e4m3fn"), np.dtype("float8_e5m2")

INT8 = replace(CPU, has_int8=True)
"""The conventions of a CPU target that multiplies 8-bit integers."""


class QuantizedBuilder(ModelBuilder):
    """A `ModelBuilder` with the words of quantized models."""

    def quantized(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
        """The integers of x."""
        parameters = self.constant(scale, np.float32), self.constant(zero, dtype)
        return str(self.add("QuantizeLinear", x, *parameters))

    def real(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
        """What integers stand for."""
        parameters = self.constant(scale, np.float32), self.constant(zero, dtype)
        return str(self.add("DequantizeLinear", x, *parameters))

    def fake(self, x: str, scale: float, zero: int, dtype: Any = np.uint8) -> str:
        """x quantized and dequantized."""
        return self.real(self.quantized(x, scale, zero, dtype), scale, zero, dtype)

    def quantized_weights(
        self, shape: Sequence[int], *, axis: int = 0, per_slice: bool = True, unsigned: bool = False
    ) -> str:
        """Dequantized random weights with one scale per slice along `axis`, or one for all."""
        middle, dtype = (128, np.uint8) if unsigned else (0, np.int8)
        integers = (self.random.integers(-127, 128, tuple(shape)) + middle).astype(dtype)
        count = (shape[axis],) if per_slice else ()
        scale = self.random.uniform(0.5, 2, count) / (60 * np.sqrt(integers[0].size))
        self.steps = np.float32(scale)
        inputs = self.constant(integers), self.constant(scale, np.float32)
        zero = self.constant(np.full(count, middle), dtype)
        return str(self.add("DequantizeLinear", *inputs, zero, axis=axis))

    def float8_weights(
        self,
        shape: Sequence[int],
        *,
        axis: int = 1,
        per_slice: bool = True,
        dtype: Any = E4M3,
        stored: bool = True,
    ) -> str:
        """Dequantized random 8-bit floats; quantized in the model instead where they are not `stored`."""
        floats = self.random.uniform(-8, 8, tuple(shape)).astype(dtype)
        count = (shape[axis],) if per_slice else ()
        scale = np.float32(2.0 ** self.random.integers(-6, -3, count) / np.sqrt(shape[1 - axis]))
        parameters = self.constant(scale), self.constant(np.zeros(count), dtype)
        if stored:
            return str(self.add("DequantizeLinear", self.constant(floats), *parameters, axis=axis))
        steps = scale.reshape([-1 if a == axis else 1 for a in range(2)])
        real = self.constant(floats.astype(np.float32) * steps)
        integers = self.add("QuantizeLinear", real, *parameters, axis=axis)
        return str(self.add("DequantizeLinear", integers, *parameters, axis=axis))

    def quantized_bias(self, count: int, step: float) -> str:
        """A dequantized int32 bias in steps of the input times those of the weights made last."""
        integers = self.constant(self.random.integers(-900, 900, count), np.int32)
        scale = self.constant(np.broadcast_to(self.steps * np.float32(step), (count,)))
        return str(
            self.add("DequantizeLinear", integers, scale, self.constant(np.zeros(count), np.int32), axis=0)
        )


def residual_net() -> Any:
    """Stem, pooling, a residual block, an average and a classifier."""
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 3, 17, 17]), 4 / 255, 128)
    stem = b.add("Conv", x, b.quantized_weights((8, 3, 3, 3)), b.quantized_bias(8, 4 / 255), pads=[1] * 4)
    stem = b.fake(b.add("Relu", stem), 0.03, 0)
    stem = b.fake(b.add("MaxPool", stem, kernel_shape=[2, 2], strides=[2, 2]), 0.03, 0)
    y = b.add("Conv", stem, b.quantized_weights((8, 8, 3, 3)), b.quantized_bias(8, 0.03), pads=[1] * 4)
    y = b.fake(y, 0.02, 121)
    y = b.fake(b.add("Relu", b.add("Add", y, stem)), 0.05, 0)
    y = b.fake(b.add("GlobalAveragePool", y), 0.05, 0)
    y = b.fake(b.add("Flatten", y), 0.05, 0)
    y = b.add("Gemm", y, b.quantized_weights((5, 8)), b.quantized_bias(5, 0.05), transB=1)
    return b.output(b.fake(y, 0.07, 99)).model()


def feed_forward(b: QuantizedBuilder, x: str, activation: str = "Relu", scale: float = 2.0**-6) -> str:
    """Two products of 8-bit floats, the result of the first quantized for the second."""
    y = b.add("Add", b.add("MatMul", x, b.float8_weights((32, 64))), b.weights("b0", (64,)))
    y = b.fake(b.add(activation, y), scale, 0, E4M3)
    return str(b.add("Add", b.add("MatMul", y, b.float8_weights((64, 32))), b.weights("b1", (32,))))


def float8_net() -> Any:
    """A normalization, two products of 8-bit floats, and a residual."""
    b = QuantizedBuilder(opset=19)
    x = b.input("x", [2, 5, 32])
    h = b.add("LayerNormalization", x, b.weights("s", (32,)), b.weights("t", (32,)), axis=-1)
    return b.output(b.add("Add", feed_forward(b, b.fake(h, 2.0**-4, 0, E4M3)), x)).model()


def dynamic_net(*, opset: int = 17, shape: Sequence[int | str] = (2, 5, 8)) -> Any:
    """Two dynamically quantized products of one value, the way ONNX Runtime's quantizer writes them."""
    b = QuantizedBuilder(opset=opset)
    x = b.add("Tanh", b.input("x", list(shape)))
    integers, scale, zero = b.add("DynamicQuantizeLinear", x, outputs=3)
    results = []
    for count, per_slice in ((6, True), (4, False)):
        weights = b.constant(b.random.integers(-127, 128, (8, count)), np.int8)
        sizes = (count,) if per_slice else ()
        step = b.constant(b.random.uniform(0.005, 0.01, sizes), np.float32)
        point = b.constant(np.zeros(sizes), np.int8)
        product = b.add("Cast", b.add("MatMulInteger", integers, weights, zero, point), to=1)
        product = b.add("Mul", product, b.add("Mul", scale, step))
        results.append(b.add("Add", product, b.weights(f"b{count}", (count,))))
    return b.output(b.add("Concat", *results, axis=2)).model()


def two_branches() -> Any:
    """A sum of two convolutions, each quantized on its own, that a third one reads."""
    b = QuantizedBuilder()
    x = b.fake(b.input("x", [1, 4, 7, 7]), 4 / 255, 128)
    parts = [
        b.fake(b.add("Conv", x, b.quantized_weights((8, 4, 1, 1))), scale, zero)
        for scale, zero in ((0.0213, 121), (0.0307, 99))
    ]
    y = b.fake(b.add("Relu", b.add("Add", *parts)), 0.02, 0)
    y = b.add("Conv", y, b.quantized_weights((4, 8, 3, 3)), pads=[1] * 4)
    return b.output(b.fake(y, 0.05, 128)).model()
