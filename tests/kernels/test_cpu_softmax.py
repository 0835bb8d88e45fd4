"""`cpu_softmax` and `cpu_norm` against float64."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.ops.rows import NormSpec, SoftmaxSpec
from bolt.types import S64

SOFTMAX, NORM = CpuSoftmax(), CpuNorm()
DIMS = [(1, 1, 1, 1), (2, 3, 5, 37), (1, 1, 7, 64), (1, 2, 3, 300)]

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def scale_and_bias() -> Epilogue:
    b = Builder()
    return b.finish(b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1)))


def operands(dims):
    """A wider output view, a dense input."""
    out = h.f32(dims, (dims[1] * dims[2] * (dims[3] + 3), dims[2] * (dims[3] + 3), dims[3] + 3, 1))
    return out, h.f32(dims)


@each_target
@pytest.mark.parametrize("log", (False, True))
@pytest.mark.parametrize("dims", DIMS)
def test_softmax(dims, log, target):
    spec = SoftmaxSpec(operands=operands(dims), log=log)
    for parts in (1, 3):
        h.check(SOFTMAX, spec, target=target, parts=parts, exact=False, page_end=(0, 1))


@each_target
def test_softmax_is_stable_for_large_inputs_and_masks(target):
    x = np.random.default_rng(1).standard_normal((1, 1, 4, 53)).astype(np.float32) * 30 + 1000
    x[0, 0, 1, ::2] = -np.inf
    x[0, 0, 2, 1:] = -np.inf
    x[0, 0, 3, 5] = np.nan
    out = h.f32(x.shape)
    for log in (False, True):
        h.check(SOFTMAX, SoftmaxSpec(operands=(out, out), log=log), target=target, exact=False, values={1: x})


@each_target
@pytest.mark.parametrize("log", (False, True))
def test_softmax_with_epilogue(log, target):
    out, source = operands((2, 2, 3, 45))
    extras = (h.like(out, (0, 0, 1, 0)), h.like(out, (45 * 6, 45 * 3, 45, 1)))
    spec = SoftmaxSpec(operands=(out, source, *extras), epilogue=scale_and_bias(), log=log)
    h.check(SOFTMAX, spec, target=target, parts=3, exact=False)


@each_target
@pytest.mark.parametrize("family, make", [(SOFTMAX, SoftmaxSpec), (NORM, NormSpec)], ids=("softmax", "norm"))
def test_run_time_dims(family, make, target):
    out = h.f32((None, None, None, None), (None, None, None, 1))
    spec = make(operands=(out, out))
    for dims in [(2, 1, 3, 41), (1, 2, 1, 16), (1, 1, 1, 1)]:
        bound = operands(dims)
        h.check(family, spec, h.ints_of(spec, bound), target=target, parts=3, exact=False)


@each_target
@pytest.mark.parametrize("rms", (False, True))
@pytest.mark.parametrize("dims", DIMS)
def test_norm(dims, rms, target):
    spec = NormSpec(operands=operands(dims), rms=rms, epsilon=1e-3)
    for parts in (1, 3):
        h.check(NORM, spec, target=target, parts=parts, exact=False, page_end=(0, 1))


@each_target
def test_norm_with_scale_bias_and_a_large_mean(target):
    out, source = operands((1, 2, 5, 768))
    spec = NormSpec(operands=(out, source, h.per_channel(out), h.per_channel(out)), epilogue=scale_and_bias())
    x = (np.random.default_rng(2).standard_normal(source.dims) + 100).astype(np.float32)
    h.check(NORM, spec, target=target, exact=False)
    h.check(NORM, spec, target=target, exact=False, values={1: x}, tolerance=6e-5)


def test_rejections_name_the_reason():
    target, out = h.CPU_TARGETS[0], h.f32((1, 1, 4, 8))
    strided = h.f32((1, 1, 4, 8), (64, 64, 16, 2))
    assert "innermost stride" in SOFTMAX.supports(SoftmaxSpec(operands=(out, strided)), target).reason
    assert "innermost stride" in NORM.supports(NormSpec(operands=(strided, out)), target).reason
    integers = h.operand(S64, (1, 1, 4, 8))
    assert "f32" in SOFTMAX.supports(SoftmaxSpec(operands=(out, integers)), target).reason
