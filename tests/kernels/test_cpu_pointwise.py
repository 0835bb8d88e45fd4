"""`cpu_pointwise` against float64: every row of `OPS`, element types, views, broadcasts, shares."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import harness as h

from bolt.epilogue import OPS, Builder, Epilogue
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.spec import Operand
from bolt.types import BOOL, DTYPES, F32, S32, DType

FAMILY = CpuPointwise()
PARAMS = {
    "clip": (-0.75, 1.5),
    "leaky_relu": (0.1,),
    "elu": (1.5,),
    "celu": (0.75,),
    "selu": (1.6732632, 1.050701),
    "hard_sigmoid": (0.2, 0.5),
    "thresholded_relu": (0.5,),
    "shrink": (0.25, 0.5),
    "narrow": (448.0, 8.0, 2.0**-6),
}
SPECIAL = np.float32(
    [
        0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-40,
        -1e-40,
        3e38,
        -3e38,
        88.5,
        -88.5,
        -103,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1,
        7,
    ]
)

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def pointwise(epilogue: Epilogue, out: Operand, *inputs: Operand) -> PointwiseSpec:
    return PointwiseSpec(operands=(out, *inputs), epilogue=epilogue)


def row(name: str) -> Epilogue:
    """The expression that is just one row of the table."""
    b = Builder()
    return b.finish(b.op(name, *(b.input(i) for i in range(OPS[name].arity)), params=PARAMS.get(name, ())))


def add() -> Epilogue:
    return row("add")


def vector_row(name: str) -> PointwiseSpec:
    """The row over vectors of run-time length (one compilation serves every test of it)."""
    operand = h.f32((None,), (1,))
    return pointwise(row(name), *[operand] * (1 + OPS[name].arity))


@each_target
@pytest.mark.parametrize("name", OPS)
def test_row_on_ordinary_values(name, target):
    spec, size, rng = vector_row(name), 5 * 77, np.random.default_rng(7)
    values = {i: (rng.standard_normal(size) * 3).astype(np.float32) for i in range(1, len(spec.operands))}
    for array in values.values():
        array[:90] = np.round(array[:90] * 2) / 2  # halves and integers: ties, equal pairs
    ints = [size] * len(spec.operands)
    h.check(FAMILY, spec, ints, target=target, exact=False, values=values)


@each_target
@pytest.mark.parametrize("name", OPS)
def test_row_on_special_values(name, target):
    spec = vector_row(name)
    grid = np.meshgrid(*[SPECIAL] * OPS[name].arity, indexing="ij")
    arrays = {i: g.ravel() for i, g in enumerate(grid, start=1)}
    ints = [grid[0].size] * len(spec.operands)
    got = h.run(FAMILY, spec, arrays, ints=ints, target=target)
    with np.errstate(all="ignore"):
        want = spec.bind(ints).reference(list(arrays.values()))[0].astype(np.float32)
        close = np.abs(got - want) <= 2e-5 * np.abs(want) + 1e-37
    wrong = ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))
    rows = [(*(float(a[i]) for a in arrays.values()), got[i], want[i]) for i in np.flatnonzero(wrong)]
    assert not rows, f"(arguments, got, want): {rows[:8]}"


@each_target
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_loads_every_type(dtype: DType, target):
    out = h.f32((3, 45))
    spec = pointwise(add(), out, h.operand(dtype, (3, 45)), h.operand(dtype, (3, 45), (45, 0)))
    for parts in (1, 3):
        h.check(FAMILY, spec, target=target, parts=parts, page_end=(0, 1, 2))


@each_target
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_stores_every_type(dtype: DType, target):
    b = Builder()
    op = "bool" if dtype is BOOL else "trunc"
    scaled = b.op("mul", b.input(0), b.const(0.7))
    spec = pointwise(b.finish(b.op(op, scaled)), h.operand(dtype, (3, 45)), h.f32((3, 45)))
    values = {1: np.random.default_rng(3).integers(0, 9, (3, 45)).astype(np.float32)}
    h.check(FAMILY, spec, target=target, values=values, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("parts", (1, 3))
@pytest.mark.parametrize(
    "dims, strides",
    [
        pytest.param((2, 5, 7, 9), [(0, 0, 0, 1), (5, 1, 0, 0)], id="channel-and-plane"),
        pytest.param((2, 6, 6, 33), [(33, 0, 0, 1), (0, 0, 0, 0)], id="gate-and-scalar"),
        pytest.param((4, 3, 16), [(64, 17, 1), (0, 16, 1)], id="view-and-broadcast-batch"),
        pytest.param((1, 1, 1), [(1, 1, 1), (0, 0, 0)], id="one-element"),
        pytest.param((301, 1), [(1, 1), (2, 1)], id="inner-dim-one"),
        pytest.param((1, 1013), [(1013, 1), (0, 1)], id="one-row"),
        pytest.param((2, 1, 3, 2, 1, 5), [(30, 30, 10, 5, 5, 1), (0, 0, 5, 0, 0, 1)], id="rank-six"),
    ],
)
def test_views_and_broadcasts(dims, strides, parts, target):
    out = h.f32(dims)
    spec = pointwise(add(), out, *(h.like(out, s) for s in strides))
    h.check(FAMILY, spec, target=target, parts=parts)
    h.check(FAMILY, spec, target=target, parts=parts, page_end=(0, 1, 2))


@each_target
@pytest.mark.parametrize("ints_dims", [(3, 2, 40), (1, 1, 1), (2, 5, 17)])
def test_run_time_dims(ints_dims, target):
    n, h_, c = ints_dims
    out = h.f32((None, None, None), (None, None, 1))
    spec = pointwise(add(), out, h.like(out, (None, None, 1)), h.like(out, (0, 0, 1)))
    bound = h.f32((n, h_, c), (h_ * (c + 3), c + 3, 1))
    ints = h.ints_of(spec, (bound, bound, h.like(bound, (0, 0, 1))))
    for parts in (1, 3):
        h.check(FAMILY, spec, ints, target=target, parts=parts)


@each_target
def test_every_config_computes_a_longer_expression(target):
    b = Builder()
    scaled = b.op("add", b.op("mul", b.input(0), b.input(1)), b.input(2))
    epilogue = b.finish(b.op("add", b.op("silu", scaled), b.input(0)))
    out = h.f32((9, 131))
    spec = pointwise(epilogue, out, out, h.per_channel(out), h.per_channel(out))
    for config in FAMILY.configs(spec, target):
        h.check(FAMILY, spec, target=target, config=config, exact=False)


def test_rejections_name_the_reason():
    out, target = h.f32((4, 4)), h.CPU_TARGETS[0]
    transposed = pointwise(add(), out, out, h.like(out, (1, 4)))
    assert "neither 0 nor 1" in FAMILY.supports(transposed, target).reason
    strided = pointwise(add(), h.f32((4, 4), (8, 2)), out, out)
    assert "not 1" in FAMILY.supports(strided, target).reason
    missing = pointwise(add(), out, out)
    assert "does not have" in FAMILY.supports(missing, target).reason


def test_source_is_deterministic_and_typed():
    out = Operand.dense(S32, (4,))
    spec = pointwise(row("trunc"), out, Operand.dense(F32, (4,)))
    target = h.CPU_TARGETS[0]
    texts = {FAMILY.render(spec, FAMILY.configs(spec, target)[0], target, "k") for _ in range(3)}
    assert len(texts) == 1 and "int32_t*" in texts.pop()
