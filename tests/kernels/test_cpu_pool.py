"""`cpu_pool` against float64: windows, borders, views, epilogues, run-time dims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernels import harness as h

from bolt.epilogue import Builder
from bolt.kernels.cpu_pool import CpuPool
from bolt.ops.spatial import PoolSpec

FAMILY = CpuPool()

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)
WINDOWS = [
    pytest.param((2, 9, 8, 37), dict(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pad_end=(1, 1)), id="3x3-s2"),
    pytest.param((1, 7, 9, 16), dict(kernel=(2, 2), stride=(2, 2)), id="2x2-s2"),
    pytest.param((1, 7, 7, 40), dict(kernel=(5, 5), pad=(2, 2), pad_end=(2, 2)), id="5x5-same"),
    pytest.param(
        (1, 8, 9, 5), dict(kernel=(3, 2), dilation=(2, 3), pad=(1, 0), pad_end=(2, 1)), id="dilated"
    ),
    pytest.param((2, 5, 6, 33), dict(kernel=(5, 6)), id="global"),
    pytest.param((1, 1, 1, 1), dict(kernel=(3, 3), pad=(1, 1), pad_end=(1, 1)), id="one-element"),
    pytest.param(
        (1, 5, 4, 8), dict(kernel=(3, 3), stride=(2, 2), pad=(0, 0), pad_end=(1, 1)), id="ceil-mode"
    ),
]


def out_dims(dims, window) -> tuple[int, ...]:
    spatial = []
    for axis in (0, 1):
        step, dilation = window.get("stride", (1, 1))[axis], window.get("dilation", (1, 1))[axis]
        padded = dims[axis + 1] + window.get("pad", (0, 0))[axis] + window.get("pad_end", (0, 0))[axis]
        spatial.append((padded - (window["kernel"][axis] - 1) * dilation - 1) // step + 1)
    return (dims[0], *spatial, dims[3])


def pool(dims, window: dict[str, Any], kind: str, **more: Any) -> PoolSpec:
    return PoolSpec(operands=(h.f32(out_dims(dims, window)), h.f32(dims)), kind=kind, **window, **more)


@each_target
@pytest.mark.parametrize("dims, window", WINDOWS)
def test_max(dims, window, target):
    for parts in (1, 3):
        h.check(FAMILY, pool(dims, window, "max"), target=target, parts=parts)
        h.check(FAMILY, pool(dims, window, "max"), target=target, parts=parts, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("include", (False, True))
@pytest.mark.parametrize("dims, window", WINDOWS)
def test_average(dims, window, include, target):
    spec = pool(dims, window, "avg", count_include_pad=include)
    h.check(FAMILY, spec, target=target, parts=3, exact=False)


@each_target
def test_views_and_epilogue(target):
    b = Builder()
    epilogue = b.finish(b.op("relu", b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1))))
    dims, window = (2, 6, 6, 21), dict(kernel=(3, 3), stride=(2, 2))
    out = h.f32(out_dims(dims, window), (2 * 2 * 30, 2 * 30, 30, 1))
    source = h.f32(dims, (6 * 8 * 24, 8 * 24, 24, 1))
    spec = PoolSpec(
        operands=(out, source, h.per_channel(out), h.like(out, (0, 2, 1, 0))), epilogue=epilogue, **window
    )
    h.check(FAMILY, spec, target=target, parts=3)


@each_target
@pytest.mark.parametrize("kind", ("max", "avg"))
def test_run_time_dims(kind, target):
    window = dict(kernel=(3, 3), stride=(2, 2), pad=(1, 1), pad_end=(1, 1))
    image = h.f32((None, None, None, 20), (None, None, 20, 1))
    spec = PoolSpec(operands=(image, image), kind=kind, **window)
    for dims in [(1, 11, 6, 20), (2, 1, 1, 20)]:
        bound = pool(dims, window, kind)
        h.check(FAMILY, spec, h.ints_of(spec, bound.operands), target=target, parts=3, exact=False)


@each_target
def test_max_of_negative_values_ignores_padding(target):
    dims, window = (1, 3, 3, 18), dict(kernel=(3, 3), pad=(1, 1), pad_end=(1, 1))
    x = -np.random.default_rng(4).uniform(1, 2, dims).astype(np.float32)
    got = h.check(FAMILY, pool(dims, window, "max"), target=target, values={1: x})
    assert (got < 0).all()
