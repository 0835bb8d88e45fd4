"""Pooling and resizing of channels-last images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec(Spec):
    """Max or average pooling over windows; elements outside the input do not exist (no halo is read).

    Operands:
        0 output (n, p, q, c)   innermost stride 1
        1 input  (n, h, w, c)   innermost stride 1
        2.. epilogue inputs (n, p, q, c)

    Attributes:
        kind: "max" or "avg".
        kernel, stride, dilation: (h, w).
        pad: rows and columns before the input (top, left).
        pad_end: rows and columns after it (only matters for `count_include_pad`).
        count_include_pad: average divides by the window's extent within the padded input instead of the
            number of existing elements.
    """

    op: ClassVar[str] = "pool"

    kind: str = "max"
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    pad_end: tuple[int, int] = (0, 0)
    count_include_pad: bool = False

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x = np.asarray(arrays[0], np.float64)
        n, p, q, c = self.out.dims
        assert n is not None and p is not None and q is not None and c is not None
        _, h, w, _ = x.shape
        acc = np.zeros((n, p, q, c))
        for i in range(p):
            rows = range(
                i * self.stride[0] - self.pad[0],
                i * self.stride[0] - self.pad[0] + self.kernel[0] * self.dilation[0],
                self.dilation[0],
            )
            for j in range(q):
                cols = range(
                    j * self.stride[1] - self.pad[1],
                    j * self.stride[1] - self.pad[1] + self.kernel[1] * self.dilation[1],
                    self.dilation[1],
                )
                ys = [y for y in rows if 0 <= y < h]
                xs = [z for z in cols if 0 <= z < w]
                window = x[:, ys][:, :, xs]
                if self.kind == "max":
                    acc[:, i, j] = window.max(axis=(1, 2), initial=-np.inf)
                else:
                    count = len(ys) * len(xs)
                    if self.count_include_pad:
                        count = len([y for y in rows if y < h + self.pad_end[0]]) * len(
                            [z for z in cols if z < w + self.pad_end[1]]
                        )
                    acc[:, i, j] = window.sum(axis=(1, 2)) / max(1, count)
        return (self.epilogue.evaluate(acc, arrays[1:]),)

    def flops(self) -> int:
        return int(np.prod([d or 1 for d in self.out.dims])) * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeSpec(Spec):
    """ONNX Resize over h and w, channels-last.

    Operands:
        0 output (n, p, q, c)   innermost stride 1
        1 input  (n, h, w, c)   innermost stride 1
        2.. epilogue inputs (n, p, q, c)

    Attributes:
        mode: "nearest", "linear" or "cubic".
        coordinate: ONNX `coordinate_transformation_mode`: half_pixel, pytorch_half_pixel, align_corners,
            asymmetric.
        nearest: ONNX `nearest_mode`: round_prefer_floor, round_prefer_ceil, floor, ceil.
        scales: (h, w) output / input as the model gives them; 0 means: the ratio of the dims.
        cubic: coefficient of cubic convolution (ONNX `cubic_coeff_a`).
    """

    op: ClassVar[str] = "resize"

    mode: str = "nearest"
    coordinate: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    scales: tuple[float, float] = (0.0, 0.0)
    cubic: float = -0.75

    def source(self, axis: int, out_dim: int, in_dim: int) -> np.ndarray:
        """Source coordinate of each output index along `axis` (0 = h, 1 = w), float64."""
        i = np.arange(out_dim, dtype=np.float64)
        scale = self.scales[axis] or out_dim / in_dim
        if self.coordinate == "align_corners":
            return i * (in_dim - 1) / (out_dim - 1) if out_dim > 1 else np.zeros(1)
        if self.coordinate == "asymmetric":
            return i / scale
        if self.coordinate == "pytorch_half_pixel" and out_dim == 1:
            return np.zeros(1)
        return (i + 0.5) / scale - 0.5

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x = np.asarray(arrays[0], np.float64)
        for axis in (0, 1):
            out_dim = self.out.dims[axis + 1]
            assert out_dim is not None
            size = x.shape[axis + 1]
            shape = [1] * 4
            shape[axis + 1] = out_dim
            x = sum(
                np.take(x, index.clip(0, size - 1).astype(int), axis=axis + 1) * weight.reshape(shape)
                for index, weight in self._taps(self.source(axis, out_dim, size), size)
            )
        return (self.epilogue.evaluate(x, arrays[1:]),)

    def _taps(self, at: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The input indices (beyond the border: its pixel) at source coordinates `at`, and their weights."""
        if self.mode == "nearest":
            rounded = {
                "round_prefer_floor": np.ceil(at - 0.5),
                "round_prefer_ceil": np.floor(at + 0.5),
                "floor": np.floor(at),
                "ceil": np.ceil(at),
            }[self.nearest]
            return [(rounded, np.ones_like(at))]
        if self.mode == "linear":
            at = at.clip(0, size - 1)
        low = np.floor(at)
        t = at - low
        if self.mode == "linear":
            return [(low, 1 - t), (low + 1, t)]
        near = [_cubic(distance, self.cubic) for distance in (t, 1 - t)]
        far = [self.cubic * t * (1 - t) ** 2, self.cubic * (1 - t) * t**2]
        return [(low - 1, far[0]), (low, near[0]), (low + 1, near[1]), (low + 2, far[1])]


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Weight of cubic convolution with coefficient `a` up to a distance of 1."""
    return np.asarray(((a + 2) * distance - (a + 3)) * distance**2 + 1)
