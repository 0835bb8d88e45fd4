"""Convolution: implicit GEMM over channels-last activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvSpec(Spec):
    """2-D convolution (1-D is h = 1), cross-correlation as ONNX Conv.

    Operands:
        0 output  (n, p, q, k)     channels-last; innermost stride 1
        1 input   (n, h, w, c)     innermost stride 1; a halo of `halo()` zeros around h and w when `has_halo`
        2 weights (k, c / groups, r, s)   constant, packed by the family
        3.. epilogue inputs (n, p, q, k)  bias is one of them, with strides (0, 0, 0, 1)

    c, k, r, s and the pixel strides (w of input, q of output) are always static.
    Output pixel (p, q) reads input rows p * stride[0] - pad[0] + r * dilation[0] and likewise columns.

    Attributes:
        stride: (h, w) steps.
        dilation: (h, w) distance between taps.
        pad: zeros before the first row and column (top, left).
        pad_end: zeros after the last row and column (bottom, right).
        groups: channel groups; k and c are multiples of it.
        has_halo: the padding's zeros are in memory, around the input; else the kernel supplies them and reads
            nothing outside the input's dims (CUDA).
        math: as `GemmSpec.math`.
    """

    op: ClassVar[str] = "conv"
    extra_base: ClassVar[int] = 3
    is_product: ClassVar[bool] = True

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    pad_end: tuple[int, int] = (0, 0)
    groups: int = 1
    has_halo: bool = True
    math: str = "f32"

    @property
    def kernel(self) -> tuple[int, int]:
        """(r, s)."""
        return self.operands[2].dims[2], self.operands[2].dims[3]  # type: ignore[return-value]

    @property
    def is_depthwise(self) -> bool:
        """One input channel per group and one output channel per group."""
        return self.groups > 1 and self.operands[1].dims[3] == self.groups == self.out.dims[3]

    def halo(self) -> dict[int, tuple[tuple[int, int], ...]]:
        if not self.has_halo:
            return {}
        return {1: ((0, 0), (self.pad[0], self.pad_end[0]), (self.pad[1], self.pad_end[1]), (0, 0))}

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x, w = (np.asarray(a, np.float64) for a in arrays[:2])
        (n, p, q, k), (r, s), g = self.out.dims, self.kernel, self.groups
        assert n is not None and p is not None and q is not None and k is not None
        x = np.pad(x, ((0, 0), (self.pad[0], self.pad_end[0]), (self.pad[1], self.pad_end[1]), (0, 0)))
        acc = np.zeros((n, p, q, k))
        xg, cg, kg = x.reshape(*x.shape[:3], g, -1), w.shape[1], k // g
        wg = w.reshape(g, kg, cg, r, s)
        for i in range(r):
            for j in range(s):
                y0, x0 = i * self.dilation[0], j * self.dilation[1]
                tap = xg[:, y0 : y0 + (p - 1) * self.stride[0] + 1 : self.stride[0]]
                tap = tap[:, :, x0 : x0 + (q - 1) * self.stride[1] + 1 : self.stride[1]]
                acc += np.einsum("npqgc,gkc->npqgk", tap, wg[..., i, j], optimize=True).reshape(acc.shape)
        return (self.epilogue.evaluate(acc, arrays[2:]),)

    def flops(self) -> int:
        n, p, q, k = (d or 1 for d in self.out.dims)
        _, cg, r, s = (d or 1 for d in self.operands[2].dims)
        return 2 * n * p * q * k * cg * r * s


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTransposeSpec(Spec):
    """2-D transposed convolution (ONNX ConvTranspose), channels-last.

    Operands:
        0 output  (n, p, q, k)
        1 input   (n, h, w, c)
        2 weights (c, k / groups, r, s)   constant, packed by the family
        3.. epilogue inputs (n, p, q, k)

    Input pixel (h, w) adds to output rows h * stride[0] - pad[0] + r * dilation[0], likewise columns,
    where those lie inside the output.
    """

    op: ClassVar[str] = "conv_transpose"
    extra_base: ClassVar[int] = 3
    is_product: ClassVar[bool] = True

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    groups: int = 1

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x, w = (np.asarray(a, np.float64) for a in arrays[:2])
        n, p, q, k = self.out.dims
        assert n is not None and p is not None and q is not None and k is not None
        g, (c, kg, r, s) = self.groups, w.shape
        rows, cols = x.shape[1], x.shape[2]
        full = np.zeros(
            (
                n,
                max((rows - 1) * self.stride[0] + (r - 1) * self.dilation[0] + 1, self.pad[0] + p),
                max((cols - 1) * self.stride[1] + (s - 1) * self.dilation[1] + 1, self.pad[1] + q),
                k,
            )
        )
        xg, wg = x.reshape(n, rows, cols, g, c // g), w.reshape(g, c // g, kg, r, s)
        for i in range(r):
            for j in range(s):
                tap = np.einsum("nhwgc,gck->nhwgk", xg, wg[..., i, j], optimize=True).reshape(
                    n, rows, cols, k
                )
                y0, x0 = i * self.dilation[0], j * self.dilation[1]
                full[
                    :,
                    y0 : y0 + (rows - 1) * self.stride[0] + 1 : self.stride[0],
                    x0 : x0 + (cols - 1) * self.stride[1] + 1 : self.stride[1],
                ] += tap
        acc = full[:, self.pad[0] : self.pad[0] + p, self.pad[1] : self.pad[1] + q]
        return (self.epilogue.evaluate(acc, arrays[2:]),)

    def flops(self) -> int:
        n, h, w, c = (d or 1 for d in self.operands[1].dims)
        _, kg, r, s = (d or 1 for d in self.operands[2].dims)
        return 2 * n * h * w * c * kg * r * s
