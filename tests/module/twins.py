"""Small twins of well-known models: their structure at a fraction of their size, built in code.

Extents are chosen to be awkward where the real models' are (3 input channels, an odd number of tokens), and
weights so that values stay near 1 through all layers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx_models import ModelBuilder

Extent = int | str

LOWEST = float(np.finfo(np.float32).min)
"""What masks of exported transformers add to scores that must not count."""


class Twin(ModelBuilder):
    """A model builder with the layers the twins are made of."""

    def matrix(self, rows: int, columns: int) -> str:
        """Weights that keep the size of values."""
        spread = float(np.sqrt(3 / rows))
        return self.weights(f"w{len(self.constants)}", (rows, columns), low=-spread, high=spread)

    def vector(self, length: int, *, around: float = 0.0) -> str:
        return self.weights(f"v{len(self.constants)}", (length,), low=around - 0.3, high=around + 0.3)

    def number(self, value: float) -> str:
        return self.constant(value, np.float32)

    def ints(self, *values: int) -> str:
        return self.constant(list(values), np.int64)

    def conv(
        self, x: str, channels: tuple[int, int], kernel: int, *, bias: bool = True, **attributes: Any
    ) -> str:
        """A convolution of `channels` (in, out), padded to keep the extents at stride 1."""
        reads = channels[0] // attributes.get("group", 1)
        spread = float(np.sqrt(3 / (reads * kernel**2)))
        shape = (channels[1], reads, kernel, kernel)
        w = self.weights(f"w{len(self.constants)}", shape, low=-spread, high=spread)
        rest = [self.vector(channels[1])] if bias else []
        return str(self.add("Conv", x, w, *rest, pads=[kernel // 2] * 4, **attributes))

    def normed(self, x: str, channels: tuple[int, int], kernel: int, **attributes: Any) -> str:
        """A convolution without bias and its BatchNormalization."""
        y = self.conv(x, channels, kernel, bias=False, **attributes)
        c = channels[1]
        rows = [self.vector(c, around=1.0), self.vector(c), self.vector(c), self.vector(c, around=1.0)]
        return str(self.add("BatchNormalization", y, *rows))

    def relu6(self, x: str) -> str:
        return str(self.add("Clip", x, self.number(0.0), self.number(6.0)))

    def silu(self, x: str) -> str:
        return str(self.add("Mul", x, self.add("Sigmoid", x)))

    def gelu(self, x: str) -> str:
        """As exporters spell it with Erf."""
        gate = self.add("Erf", self.add("Div", x, self.number(np.sqrt(2.0))))
        gate = self.add("Add", gate, self.number(1.0))
        return str(self.add("Mul", self.add("Mul", x, gate), self.number(0.5)))

    def gelu_tanh(self, x: str) -> str:
        """As exporters spell it with Pow and Tanh."""
        cubic = self.add("Mul", self.add("Pow", x, self.number(3.0)), self.number(0.044715))
        inner = self.add("Mul", self.add("Add", x, cubic), self.number(np.sqrt(2 / np.pi)))
        gate = self.add("Add", self.add("Tanh", inner), self.number(1.0))
        return str(self.add("Mul", self.add("Mul", x, self.number(0.5)), gate))

    def linear(self, x: str, rows: int, columns: int) -> str:
        """MatMul and bias."""
        y = self.add("MatMul", x, self.matrix(rows, columns))
        return str(self.add("Add", y, self.vector(columns)))

    def layer_norm(self, x: str, width: int) -> str:
        scale, shift = self.vector(width, around=1.0), self.vector(width)
        return str(self.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-5))

    def classifier(self, x: str, channels: int, classes: int) -> str:
        y = self.add("Flatten", self.add("GlobalAveragePool", x))
        spread = float(np.sqrt(3 / channels))
        w = self.weights(f"w{len(self.constants)}", (classes, channels), low=-spread, high=spread)
        return str(self.add("Gemm", y, w, self.vector(classes), transB=1))

    def split_heads(self, x: str, heads: int, width: int) -> str:
        y = self.add("Reshape", x, self.ints(0, 0, heads, width // heads))
        return str(self.add("Transpose", y, perm=[0, 2, 1, 3]))

    def attend(self, q: str, k: str, v: str, width: int, scale: float, mask: str | None = None) -> str:
        """Scaled scores, mask, softmax, mixed values with the heads joined."""
        scores = self.add("MatMul", q, self.add("Transpose", k, perm=[0, 1, 3, 2]))
        scores = self.add("Mul", scores, self.number(scale))
        scores = scores if mask is None else self.add("Add", scores, mask)
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), v)
        return str(
            self.add("Reshape", self.add("Transpose", mixed, perm=[0, 2, 1, 3]), self.ints(0, 0, width))
        )


def _beside(size: Extent) -> Extent:
    """The width of an image of this height."""
    return size if isinstance(size, int) else f"{size}2"


def resnet(batch: Extent = 1, size: Extent = 32) -> onnx.ModelProto:
    """7x7 stem of stride 2, max pool, bottlenecks with and without a convolution beside them, fc."""
    b = Twin(opset=13)
    x = b.input("x", [batch, 3, size, _beside(size)])
    y = b.add("Relu", b.normed(x, (3, 16), 7, strides=[2, 2]))
    y = b.add("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 16
    for inner, stride in ((8, 1), (8, 1), (16, 2)):
        z = b.add("Relu", b.normed(y, (channels, inner), 1))
        z = b.add("Relu", b.normed(z, (inner, inner), 3, strides=[stride] * 2))
        z = b.normed(z, (inner, 4 * inner), 1)
        if channels != 4 * inner:
            y = b.normed(y, (channels, 4 * inner), 1, strides=[stride] * 2)
        y, channels = b.add("Relu", b.add("Add", z, y)), 4 * inner
    return b.output(b.classifier(y, channels, 51), [batch, 51]).model()


def mobilenet_v2(batch: Extent = 1) -> onnx.ModelProto:
    """Inverted bottlenecks with channel counts that are no multiples of 8."""
    b = Twin(opset=13)
    y = b.relu6(b.normed(b.input("x", [batch, 3, 17, 17]), (3, 12), 3, strides=[2, 2]))
    channels = 12
    for width, stride in ((12, 1), (20, 2), (20, 1)):
        inner = 6 * channels if channels > 12 else 3 * channels
        z = b.relu6(b.normed(y, (channels, inner), 1))
        z = b.relu6(b.normed(z, (inner, inner), 3, strides=[stride] * 2, group=inner))
        z = b.normed(z, (inner, width), 1)
        y, channels = (b.add("Add", y, z) if width == channels and stride == 1 else z), width
    y = b.relu6(b.normed(y, (channels, 64), 1))
    return b.output(b.classifier(y, 64, 10), [batch, 10]).model()


def efficientnet(batch: Extent = 1) -> onnx.ModelProto:
    """MBConv blocks: depthwise 3x3 and 5x5, squeeze and excitation with 3 channels, SiLU."""
    b = Twin(opset=13)
    y = b.silu(b.normed(b.input("x", [batch, 3, 16, 16]), (3, 12), 3, strides=[2, 2]))
    for kernel in (3, 5):
        z = b.silu(b.normed(y, (12, 36), 1))
        z = b.silu(b.normed(z, (36, 36), kernel, group=36))
        s = b.add("ReduceMean", z, axes=[2, 3], keepdims=1)
        s = b.silu(b.conv(s, (36, 3), 1))
        z = b.add("Mul", z, b.add("Sigmoid", b.conv(s, (3, 36), 1)))
        y = b.add("Add", y, b.normed(z, (36, 12), 1))
    return b.output(b.classifier(b.silu(y), 12, 10), [batch, 10]).model()


def vgg(batch: Extent = 1) -> onnx.ModelProto:
    """Convolutions with bias, max pools, and a head that flattens an image in channel-first order."""
    b = Twin(opset=13)
    y = b.input("x", [batch, 3, 12, 12])
    for reads, writes in ((3, 10), (10, 12)):
        y = b.add("Relu", b.conv(y, (reads, writes), 3))
        y = b.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = b.add("Flatten", y, axis=1)
    for rows, columns in ((108, 40), (40, 24)):
        w = b.weights(f"fc{rows}", (columns, rows), low=-0.15, high=0.15)
        y = b.add("Relu", b.add("Gemm", y, w, b.vector(columns), transB=1))
    return b.output(b.add("Softmax", y, axis=-1), [batch, 24]).model()


def densenet(batch: Extent = 1, growth: int = 8) -> onnx.ModelProto:
    """Concatenations of concatenations, each normalized before its convolutions, and a transition."""
    b = Twin(opset=13)
    channels = 16
    y = b.add("Relu", b.normed(b.input("x", [batch, 3, 12, 12]), (3, channels), 3))
    for _ in range(3):
        z = b.add("Relu", _batch_norm(b, y, channels))
        z = b.add("Relu", b.normed(z, (channels, 2 * growth), 1))
        y = b.add("Concat", y, b.conv(z, (2 * growth, growth), 3, bias=False), axis=1)
        channels += growth
    y = b.conv(b.add("Relu", _batch_norm(b, y, channels)), (channels, 16), 1, bias=False)
    y = b.add("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2])
    return b.output(b.classifier(b.add("Relu", y), 16, 10), [batch, 10]).model()


def _batch_norm(b: Twin, x: str, channels: int) -> str:
    rows = [b.vector(channels, around=1.0), b.vector(channels), b.vector(channels)]
    return str(b.add("BatchNormalization", x, *rows, b.vector(channels, around=1.0)))


def unet(batch: Extent = 1, size: Extent = 16) -> onnx.ModelProto:
    """Down by max pool, up by a transposed convolution and by resizing, skips by Concat, an image out."""
    b = Twin(opset=13)
    x = b.input("x", [batch, 3, size, _beside(size)])
    one = b.add("Relu", b.conv(x, (3, 12), 3))
    two = b.add("Relu", b.conv(b.add("MaxPool", one, kernel_shape=[2, 2], strides=[2, 2]), (12, 16), 3))
    low = b.add("Relu", b.conv(b.add("MaxPool", two, kernel_shape=[2, 2], strides=[2, 2]), (16, 24), 3))
    w = b.weights("up", (24, 16, 2, 2), low=-0.2, high=0.2)
    up = b.add("ConvTranspose", low, w, b.vector(16), strides=[2, 2])
    y = b.add("Relu", b.conv(b.add("Concat", up, two, axis=1), (32, 16), 3))
    scales = b.constant([1, 1, 2, 2], np.float32)
    y = b.add("Resize", y, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    y = b.add("Relu", b.conv(b.add("Concat", one, y, axis=1), (28, 12), 3))
    return b.output(b.add("Sigmoid", b.conv(y, (12, 1), 1)), [batch, 1, size, _beside(size)]).model()


def yolo(batch: Extent = 1) -> onnx.ModelProto:
    """A block that splits and joins channels, two scales, and a head that decodes boxes."""
    b = Twin(opset=13)
    y = b.silu(b.conv(b.input("x", [batch, 3, 16, 16]), (3, 16), 3, strides=[2, 2]))
    first, second = b.add("Split", b.silu(b.conv(y, (16, 16), 1)), b.ints(8, 8), outputs=2, axis=1)
    inner = b.add("Add", second, b.silu(b.conv(b.silu(b.conv(second, (8, 8), 3)), (8, 8), 3)))
    y = b.silu(b.conv(b.add("Concat", first, second, inner, axis=1), (24, 16), 1))
    low = b.silu(b.conv(y, (16, 16), 3, strides=[2, 2]))
    up = b.add("Resize", low, "", b.constant([1, 1, 2, 2], np.float32), mode="nearest")
    high = b.silu(b.conv(b.add("Concat", up, y, axis=1), (32, 16), 1))
    levels = [
        b.add("Reshape", b.conv(level, (16, 9), 1), b.ints(0, 9, -1)) for level in (high, low)
    ]  # (n, 4 of the box and 5 classes, pixels)
    boxes, classes = b.add("Split", b.add("Concat", *levels, axis=2), b.ints(4, 5), outputs=2, axis=1)
    corners, sizes = b.add("Split", boxes, b.ints(2, 2), outputs=2, axis=1)
    grid = b.weights("grid", (1, 2, 80), low=0.0, high=8.0)
    corners = b.add("Mul", b.add("Add", b.add("Sigmoid", corners), grid), b.number(8.0))
    sizes = b.add("Exp", b.add("Mul", sizes, b.number(0.5)))
    decoded = b.add("Concat", corners, sizes, b.add("Sigmoid", classes), axis=1)
    return b.output(decoded, [batch, 9, 80]).model()


def bert(batch: Extent = 1, length: Extent = 7, width: int = 32, heads: int = 2) -> onnx.ModelProto:
    """Gathered embeddings, attention under a mask made of integers, Gelu by parts, two layer norms."""
    b = Twin(opset=17)
    ids = b.input("ids", [batch, length], np.int64)
    given = b.input("mask", [batch, length], np.int64)
    places = b.weights("places", (1, 16, width))
    count = b.add("Gather", b.add("Shape", ids), b.ints(1))
    places = b.add("Slice", places, b.ints(0), count, b.ints(1))
    x = b.add("Add", b.add("Gather", b.weights("words", (9, width)), ids), places)
    x = b.layer_norm(x, width)
    mask = b.add("Cast", b.add("Unsqueeze", given, b.ints(1, 2)), to=1)
    mask = b.add("Sub", b.number(1.0), mask)
    mask = b.add("Where", b.add("Cast", mask, to=9), b.number(LOWEST), mask)
    q, k, v = (b.split_heads(b.linear(x, width, width), heads, width) for _ in range(3))
    mixed = b.attend(q, k, v, width, (width / heads) ** -0.5, mask)
    x = b.layer_norm(b.add("Add", x, b.linear(mixed, width, width)), width)
    h = b.linear(b.gelu(b.linear(x, width, 2 * width)), 2 * width, width)
    x = b.layer_norm(b.add("Add", x, h), width)
    first = b.add("Gather", x, b.constant(0, np.int64), axis=1)
    pooled = b.add("Tanh", b.add("Gemm", first, b.matrix(width, width), b.vector(width)))
    return b.output(x, [batch, length, width]).output(pooled, [batch, width]).model()


def vit(batch: Extent = 1, width: int = 32, heads: int = 2) -> onnx.ModelProto:
    """Patches by a convolution, a class token before them, attention on split products, the token's head."""
    b = Twin(opset=17)
    x = b.input("x", [batch, 3, 12, 16])
    w = b.weights("patch", (width, 3, 4, 4), low=-0.2, high=0.2)
    y = b.add("Conv", x, w, b.vector(width), strides=[4, 4])
    y = b.add("Transpose", b.add("Reshape", y, b.ints(0, width, -1)), perm=[0, 2, 1])
    token = b.weights("token", (1, 1, width))
    if isinstance(batch, str):
        rows = b.add("Gather", b.add("Shape", x), b.ints(0))
        token = b.add("Expand", token, b.add("Concat", rows, b.ints(1, width), axis=0))
    else:
        token = b.add("Expand", token, b.ints(batch, 1, width))
    y = b.add("Add", b.add("Concat", token, y, axis=1), b.weights("places", (1, 13, width)))
    parts = b.linear(b.layer_norm(y, width), width, 3 * width)
    parts = b.add("Reshape", parts, b.ints(0, 0, 3, heads, width // heads))
    parts = b.add("Transpose", parts, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.add("Gather", parts, b.constant(i, np.int64), axis=0) for i in range(3))
    y = b.add("Add", y, b.linear(b.attend(q, k, v, width, (width / heads) ** -0.5), width, width))
    h = b.linear(b.gelu(b.linear(b.layer_norm(y, width), width, 64)), 64, width)
    y = b.layer_norm(b.add("Add", y, h), width)
    first = b.add("Gather", y, b.constant(0, np.int64), axis=1)
    return b.output(b.linear(first, width, 10), [batch, 10]).model()


def gpt2(batch: Extent = 1, length: Extent = 7, width: int = 32, heads: int = 2) -> onnx.ModelProto:
    """Products of flattened rows (Conv1D), a causal mask cut out of a constant triangle, tanh Gelu."""
    b = Twin(opset=17)
    ids = b.input("ids", [batch, length], np.int64)
    x = b.add("Gather", b.weights("words", (9, width)), ids)
    parts = _conv1d(b, b.layer_norm(x, width), x, width, 3 * width)
    q, k, v = (
        b.split_heads(p, heads, width)
        for p in b.add("Split", parts, b.ints(width, width, width), outputs=3, axis=2)
    )
    count = b.add("Gather", b.add("Shape", ids), b.ints(1))
    triangle = b.constant(np.tril(np.ones((1, 1, 16, 16), bool)), bool)
    triangle = b.add("Slice", triangle, b.ints(0), count, b.ints(2))
    triangle = b.add("Slice", triangle, b.ints(0), count, b.ints(3))
    mask = b.add("Where", triangle, b.number(0.0), b.number(LOWEST))
    mixed = b.attend(q, k, v, width, (width / heads) ** -0.5, mask)
    x = b.add("Add", x, _conv1d(b, mixed, x, width, width))
    h = b.gelu_tanh(_conv1d(b, b.layer_norm(x, width), x, width, 2 * width))
    x = b.add("Add", x, _conv1d(b, h, x, 2 * width, width))
    x = b.layer_norm(x, width)
    return b.output(b.add("MatMul", x, b.matrix(width, 11)), [batch, length, 11]).model()


def _conv1d(b: Twin, x: str, like: str, rows: int, columns: int) -> str:
    """Rows flattened, Gemm, and back to the leading extents of `like`."""
    y = b.add("Gemm", b.add("Reshape", x, b.ints(-1, rows)), b.matrix(rows, columns), b.vector(columns))
    leading = b.add("Slice", b.add("Shape", like), b.ints(0), b.ints(2), b.ints(0))
    return str(b.add("Reshape", y, b.add("Concat", leading, b.ints(columns), axis=0)))


def llama(batch: Extent = 1, length: Extent = 7) -> onnx.ModelProto:
    """RMS norms, rotated halves, two heads of queries for one of keys, a gate by SiLU."""
    b, width, heads, groups, inner = Twin(opset=17), 32, 4, 2, 40
    depth = width // heads
    ids = b.input("ids", [batch, length], np.int64)
    x = b.add("Gather", b.weights("words", (9, width)), ids)
    count = b.add("Gather", b.add("Shape", ids), b.ints(1))
    angles = np.outer(np.arange(16), 1.0 / 100.0 ** (np.arange(depth // 2) * 2 / depth))
    angles = np.concatenate([angles, angles], axis=1)[None, None]
    turns = [b.constant(f(angles), np.float32) for f in (np.cos, np.sin)]
    cos, sin = (b.add("Slice", t, b.ints(0), count, b.ints(2)) for t in turns)
    y = _rms_norm(b, x, width)
    q = _rotated(b, b.split_heads(b.add("MatMul", y, b.matrix(width, width)), heads, width), cos, sin, depth)
    few = depth * groups
    k = _rotated(b, b.split_heads(b.add("MatMul", y, b.matrix(width, few)), groups, few), cos, sin, depth)
    v = b.split_heads(b.add("MatMul", y, b.matrix(width, few)), groups, few)
    k, v = (_repeated(b, part, ids, heads // groups, depth, heads) for part in (k, v))
    triangle = b.constant(np.triu(np.full((1, 1, 16, 16), LOWEST), 1), np.float32)
    mask = b.add("Slice", b.add("Slice", triangle, b.ints(0), count, b.ints(2)), b.ints(0), count, b.ints(3))
    x = b.add(
        "Add",
        x,
        b.add("MatMul", b.attend(q, k, v, width, depth**-0.5, mask), b.matrix(width, width)),
    )
    y = _rms_norm(b, x, width)
    gate = b.silu(b.add("MatMul", y, b.matrix(width, inner)))
    y = b.add("Mul", gate, b.add("MatMul", y, b.matrix(width, inner)))
    x = b.add("Add", x, b.add("MatMul", y, b.matrix(inner, width)))
    y = b.add("MatMul", _rms_norm(b, x, width), b.matrix(width, 11))
    return b.output(y, [batch, length, 11]).model()


def _rms_norm(b: Twin, x: str, width: int) -> str:
    mean = b.add("ReduceMean", b.add("Pow", x, b.number(2.0)), axes=[-1], keepdims=1)
    root = b.add("Sqrt", b.add("Add", mean, b.number(1e-6)))
    return str(b.add("Mul", b.vector(width, around=1.0), b.add("Div", x, root)))


def _rotated(b: Twin, x: str, cos: str, sin: str, depth: int) -> str:
    half, far = b.ints(depth // 2), b.ints(np.iinfo(np.int64).max)
    low = b.add("Slice", x, b.ints(0), half, b.ints(3))
    high = b.add("Slice", x, half, far, b.ints(3))
    turned = b.add("Concat", b.add("Neg", high), low, axis=3)
    return str(b.add("Add", b.add("Mul", x, cos), b.add("Mul", turned, sin)))


def _repeated(b: Twin, x: str, ids: str, times: int, depth: int, heads: int) -> str:
    """Each head `times` times, as exporters spell it: a new extent, Expand, Reshape."""
    extents = b.add("Shape", ids)
    n, s = (b.add("Gather", extents, b.ints(i)) for i in (0, 1))
    y = b.add("Unsqueeze", x, b.ints(2))
    y = b.add("Expand", y, b.add("Concat", n, b.ints(heads // times, times), s, b.ints(depth), axis=0))
    return str(b.add("Reshape", y, b.add("Concat", n, b.ints(heads), s, b.ints(depth), axis=0)))
