"""`cpu_reduce`: every reduction, every way of reading the input."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.epilogue import Builder
from bolt.kernels.cpu_reduce import KINDS, CpuReduce
from bolt.ops.rows import REDUCTIONS, ReduceSpec

FAMILY = CpuReduce()

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)
LAYOUTS = [
    pytest.param((2, 5, 3, 7, 83), None, id="columns"),
    pytest.param((2, 5, 3, 7, 83), (16384, 2100, 700, 90, 1), id="columns-of-a-view"),
    pytest.param((2, 3, 4, 41, 1), None, id="contiguous-row"),
    pytest.param((2, 41, 4, 3, 1), (41 * 12, 1, 41, 164, 1), id="contiguous-outer"),
    pytest.param((2, 3, 4, 20, 1), (480, 160, 40, 2, 1), id="strided"),
    pytest.param((2, 3, 4, 6, 5), (720, 240, 60, 10, 2), id="strided-inner"),
    pytest.param((1, 1, 1, 1, 1), None, id="one-element"),
]


def reduction(kind: str, dims, strides=None) -> ReduceSpec:
    out = h.f32((dims[0], dims[2], dims[4]))
    return ReduceSpec(operands=(out, h.f32(dims, strides)), kind=kind)


@each_target
@pytest.mark.parametrize("dims, strides", LAYOUTS)
def test_sum_is_exact_on_integers(dims, strides, target):
    for parts in (1, 3):
        h.check(FAMILY, reduction("sum", dims, strides), target=target, parts=parts, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("dims", [(2, 3, 1, 4, 37), (2, 3, 4, 20, 1)], ids=("columns", "row"))
@pytest.mark.parametrize("kind", REDUCTIONS)
def test_kind(kind, dims, target):
    x = np.random.default_rng(5).uniform(0.5, 1.5, dims).astype(np.float32)
    x *= np.random.default_rng(6).choice([-1, 1], dims).astype(np.float32)
    h.check(FAMILY, reduction(kind, dims), target=target, exact=False, values={1: x})


@each_target
@pytest.mark.parametrize("kind", ("max", "min", "sum"))
@pytest.mark.parametrize("dims", [(1, 1, 2, 30, 20), (1, 1, 2, 130, 1)], ids=("columns", "row"))
def test_nan_and_infinity_pass_through(kind, dims, target):
    x = np.random.default_rng(8).standard_normal(dims).astype(np.float32)
    x[0, 0, 0, 3] = np.nan
    x[0, 0, 1, 4] = np.inf
    h.check(FAMILY, reduction(kind, dims), target=target, exact=False, values={1: x})


@each_target
@pytest.mark.parametrize("dims", [(1, 1, 1, 300_000, 1), (1, 300, 1, 1000, 3)], ids=("row", "columns"))
def test_long_sums_stay_accurate(dims, target):
    x = np.random.default_rng(9).uniform(1, 2, dims).astype(np.float32)
    h.check(FAMILY, reduction("mean", dims), target=target, exact=False, values={1: x}, tolerance=1e-6)


@each_target
def test_epilogue(target):
    b = Builder()
    epilogue = b.finish(b.op("relu", b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1))))
    out = h.f32((2, 3, 70))
    extras = (h.per_channel(out), h.like(out, (3, 1, 0)))
    spec = ReduceSpec(operands=(out, h.f32((2, 2, 3, 4, 70)), *extras), epilogue=epilogue, kind="sum")
    h.check(FAMILY, spec, target=target, parts=3)


@each_target
@pytest.mark.parametrize("dims", [(2, 5, 1, 6, 40), (1, 1, 1, 1, 40)])
def test_run_time_dims(dims, target):
    spec = ReduceSpec(
        operands=(
            h.f32((None, 1, 40), (40, 40, 1)),
            h.f32((None, None, 1, None, 40), (None, None, 40, 40, 1)),
        ),
        kind="mean",
    )
    ints = h.ints_of(spec, reduction("mean", dims).operands)
    h.check(FAMILY, spec, ints, target=target, parts=3, exact=False)


def test_every_reduction_of_the_spec_has_a_row():
    assert set(KINDS) == set(REDUCTIONS)
