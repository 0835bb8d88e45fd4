"""Kernels whose output may be their input: the memory planner lets a row-wise result replace its operand."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.epilogue import Builder
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.rows import NormSpec, SoftmaxSpec

OUT = h.f32((1, 2, 9, 83))


def silu_of_sum() -> PointwiseSpec:
    b = Builder()
    epilogue = b.finish(b.op("silu", b.op("add", b.input(0), b.input(1))))
    return PointwiseSpec(operands=(OUT, OUT, OUT), epilogue=epilogue)


def added(make):
    b = Builder()
    epilogue = b.finish(b.op("add", b.acc(), b.input(0)))
    return make(operands=(OUT, OUT, OUT), epilogue=epilogue)


CASES = [
    pytest.param(CpuPointwise(), silu_of_sum(), 1, id="pointwise-first"),
    pytest.param(CpuPointwise(), silu_of_sum(), 2, id="pointwise-second"),
    pytest.param(CpuSoftmax(), SoftmaxSpec(operands=(OUT, OUT)), 1, id="softmax"),
    pytest.param(CpuSoftmax(), SoftmaxSpec(operands=(OUT, OUT), log=True), 1, id="log-softmax"),
    pytest.param(CpuSoftmax(), added(SoftmaxSpec), 2, id="softmax-into-its-residual"),
    pytest.param(CpuNorm(), NormSpec(operands=(OUT, OUT)), 1, id="norm"),
    pytest.param(CpuNorm(), added(NormSpec), 2, id="norm-into-its-residual"),
]


@pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("family, spec, shared", CASES)
def test_output_replaces_an_input(family, spec, shared, target):
    rng = np.random.default_rng(12)
    arrays = [rng.standard_normal(OUT.dims).astype(np.float32) for _ in spec.operands[1:]]
    want = spec.reference([a.copy() for a in arrays])[0]
    flat = [a.reshape(-1) for a in arrays]
    blocks = [(flat[shared - 1], 0), *((a, 0) for a in flat)]
    config = family.configs(spec, target)[0]
    h.call(family.render(spec, config, target, "k"), "k", target, blocks, parts=3)
    h.compare(arrays[shared - 1], want, tolerance=4e-6)
