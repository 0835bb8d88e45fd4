"""Convolution specs as tests write them: sizes in, operands with halo and wide pixels out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.harness import ints_of, like, operand, per_channel

from bolt.epilogue import IDENTITY, Builder, Epilogue
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Operand
from bolt.types import F32, DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution by its sizes.

    Attributes:
        n, h, w, c, k: images, input rows, columns and channels, output channels.
        kernel, stride, dilation, pad, pad_end: (rows, columns); `pad_end` defaults to `pad`.
        groups: channel groups.
        c_wide, k_wide: pixel strides of input and output (0: c and k).
        a, b, out: types of input, weights and output (and of what has its shape).
        epilogue: "none", "bias_relu", "residual" (bias, residual, relu) or "gate" (sigmoid, per-image gate).
    """

    h: int
    w: int
    c: int
    k: int
    n: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    pad_end: tuple[int, int] | None = None
    groups: int = 1
    c_wide: int = 0
    k_wide: int = 0
    a: DType = F32
    b: DType = F32
    out: DType = F32
    epilogue: str = "residual"

    def _out(self, axis: int, extent: int) -> int:
        end = (self.pad_end or self.pad)[axis]
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (extent + self.pad[axis] + end - reach) // self.stride[axis] + 1

    def spec(self) -> ConvSpec:
        """The spec with all dims known."""
        end = self.pad_end or self.pad
        p, q = self._out(0, self.h), self._out(1, self.w)
        x = self.c_wide or self.c
        row = x * (self.pad[1] + self.w + end[1])
        image = row * (self.pad[0] + self.h + end[0])
        y = self.k_wide or self.k
        out = operand(self.out, (self.n, p, q, self.k), (p * q * y, q * y, y, 1))
        expression, extras = epilogue_of(self.epilogue, out)
        operands = (
            out,
            operand(self.a, (self.n, self.h, self.w, self.c), (image, row, x, 1)),
            operand(self.b, (self.k, self.c // self.groups, *self.kernel)),
            *extras,
        )
        return ConvSpec(
            operands=operands,
            epilogue=expression,
            constants=(2,),
            stride=self.stride,
            dilation=self.dilation,
            pad=self.pad,
            pad_end=end,
            groups=self.groups,
        )

    def dynamic(self) -> tuple[ConvSpec, tuple[int, ...]]:
        """The spec with images, rows and columns known at run time only, and the `d` array."""
        static = self.spec()
        operands = tuple(o if i == 2 else unknown_outer(o) for i, o in enumerate(static.operands))
        spec = replace(static, operands=operands)
        return spec, ints_of(spec, static.operands)


def unknown_outer(operand: Operand) -> Operand:
    """A 4-D `operand` with outer dims, and strides that follow from them, known at run time only."""
    dims = (None, None, None, operand.dims[3])
    strides = (*(None if s else 0 for s in operand.strides[:2]), *operand.strides[2:])
    return Operand(dtype=operand.dtype, dims=dims, strides=strides)


def epilogue_of(kind: str, out: Operand) -> tuple[Epilogue, tuple[Operand, ...]]:
    """An epilogue by name, and its operands."""
    b = Builder()
    if kind == "none":
        return IDENTITY, ()
    biased = b.op("add", b.acc(), b.input(0))
    if kind == "bias_relu":
        return b.finish(b.op("relu", biased)), (per_channel(out),)
    if kind == "residual":
        total = b.op("add", biased, b.input(1))
        return b.finish(b.op("relu", total)), (per_channel(out), out)
    assert kind == "gate", kind
    gated = b.op("mul", b.op("sigmoid", biased), b.input(1))
    return b.finish(gated), (per_channel(out), like(out, (1, 0, 0, 0)))
