"""Pointwise kernels over images of few channels run over long rows."""

from __future__ import annotations

from typing import Any

import pytest
from lowered import check
from onnx_models import ModelBuilder

from bolt.graph.short_rows import SHORT
from bolt.ops.pointwise import PointwiseSpec
from bolt.program import Step


def rows_of(found: Any) -> list[tuple[int, ...]]:
    """Dims of the pointwise kernels."""
    steps = [s for p in found.programs for s in p.steps if isinstance(s, Step)]
    return [s.spec.out.dims for s in steps if isinstance(s.spec, PointwiseSpec)]


def gated(channels: int, size: int, *, batch: int = 1, computed: bool = True) -> Any:
    """tanh(conv(x)) scaled by one number per channel: of each image when `computed`, else a constant."""
    b = ModelBuilder(opset=13)
    y = b.add("Conv", b.input("x", [batch, 3, size, size]), b.weights("w", (channels, 3, 1, 1)))
    mean = b.add("GlobalAveragePool", y)
    scaled = b.add("Mul", b.add("Tanh", y), mean if computed else b.weights("s", (channels, 1, 1)))
    b.output(b.add("MaxPool", b.add("Add", scaled, y), kernel_shape=[2, 2]))
    return b.output(mean).model()


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize(("channels", "size", "batch"), [(8, 64, 1), (5, 60, 2), (3, 96, 1)])
def test_short_rows_are_joined(channels: int, size: int, batch: int, computed: bool) -> None:
    dims = rows_of(check(gated(channels, size, batch=batch, computed=computed)))
    assert dims
    assert all(d[-1] > 16 * channels and d[-1] % channels == 0 for d in dims)


@pytest.mark.parametrize(("channels", "size"), [(8, 8), (SHORT, 64)])
def test_small_images_and_whole_vectors_stay(channels: int, size: int) -> None:
    dims = rows_of(check(gated(channels, size)))
    assert dims
    assert all(d[-1] == channels for d in dims)
