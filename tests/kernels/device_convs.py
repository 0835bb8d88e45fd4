"""Convolutions as a CUDA target sees them: no halo, stored types, stated alignments."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from kernels.conv_specs import Conv, unknown_outer
from kernels.harness import ints_of

from bolt.epilogue import IDENTITY, Epilogue
from bolt.ops.conv import ConvSpec, ConvTransposeSpec
from bolt.ops.spec import Operand
from bolt.types import F16, F32, DType

ALIGNED = 16

S = TypeVar("S", ConvSpec, ConvTransposeSpec)


def image(
    dtype: DType, dims: tuple[int, int, int, int], *, wide: int = 0, alignment: int = ALIGNED
) -> Operand:
    """A channels-last image whose pixels are `wide` (or just its channels) elements apart."""
    n, h, w, c = dims
    pixel = wide or c
    strides = (h * w * pixel, w * pixel, pixel, 1)
    return Operand(dtype=dtype, dims=(n, h, w, c), strides=strides, alignment=alignment)


def on_device(
    conv: Conv, dtype: DType = F16, *, out: DType | None = None, alignment: int = ALIGNED, math: str = "f32"
) -> ConvSpec:
    """The convolution with activations and weights in `dtype` and the result in `out`; vectors stay f32."""
    spec = conv.spec()
    x = image(dtype, spec.operands[1].dims, wide=conv.c_wide, alignment=alignment)  # type: ignore[arg-type]
    y = replace(spec.out, dtype=out or dtype, alignment=alignment)
    weights = replace(spec.operands[2], dtype=dtype)
    extras = [replace(e, dtype=dtype if e.strides[2] else F32, alignment=alignment) for e in spec.extras]
    return replace(spec, operands=(y, x, weights, *extras), has_halo=False, math=math)


def run_time(spec: S) -> tuple[S, tuple[int, ...]]:
    """The spec with images, rows and columns known at run time only, and the `d` array."""
    operands = tuple(
        o if i == 2 else replace(unknown_outer(o), alignment=o.alignment) for i, o in enumerate(spec.operands)
    )
    unknown = replace(spec, operands=operands)
    return unknown, ints_of(unknown, spec.operands)


def transposed(
    sizes: tuple[int, int, int, int],
    k: int,
    kernel: tuple[int, int],
    *,
    dtype: DType = F16,
    stride: tuple[int, int] = (2, 2),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] = (0, 0),
    more: tuple[int, int] = (0, 0),
    groups: int = 1,
    epilogue: Epilogue = IDENTITY,
    extras: tuple[DType, ...] = (),
) -> ConvTransposeSpec:
    """A transposed convolution of an (n, h, w, c) image; `more` rows and columns of output than usual.

    Epilogue inputs are full tensors of the given types.
    """
    n, h, w, c = sizes
    p = (h - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1 - 2 * pad[0] + more[0]
    q = (w - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1 - 2 * pad[1] + more[1]
    return ConvTransposeSpec(
        operands=(
            image(dtype, (n, p, q, k)),
            image(dtype, sizes),
            Operand.dense(dtype, (c, k // groups, *kernel)),
            *(image(e, (n, p, q, k)) for e in extras),
        ),
        epilogue=epilogue,
        constants=(2,),
        stride=stride,
        dilation=dilation,
        pad=pad,
        groups=groups,
    )
