"""`cuda_pointwise`, `cuda_copy`, `cuda_fill`, `cuda_gather` under the emulator, against their references."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import cuda_harness as h
from kernels.cuda_compile import view
from kernels.harness import ints_of
from kernels.test_cpu_pointwise import PARAMS, SPECIAL, row

from bolt.epilogue import OPS, Builder, Epilogue
from bolt.kernels.cuda_copy import CudaCopy
from bolt.kernels.cuda_fill import CudaFill
from bolt.kernels.cuda_gather import CudaGather
from bolt.kernels.cuda_pointwise import CudaPointwise
from bolt.ops.pointwise import CopySpec, FillSpec, GatherSpec, PointwiseSpec
from bolt.ops.spec import Operand
from bolt.target import SM80, SM90A
from bolt.types import BF16, BOOL, F8E4M3, F8E5M2, F16, F32, S8, S32, S64, U8, DType

pytestmark = h.NEEDS_EMULATOR
slow = pytest.mark.slow


def pointwise(epilogue: Epilogue, *operands: Operand) -> PointwiseSpec:
    return PointwiseSpec(operands=operands, epilogue=epilogue)


def any_row() -> Epilogue:
    """All rows of the table in one expression; input 3 says which."""
    b = Builder()
    arguments = [b.input(i) for i in range(3)]
    result = b.const(0.0)
    for index, (name, op) in enumerate(OPS.items()):
        value = b.op(name, *arguments[: op.arity], params=PARAMS.get(name, ()))
        result = b.op("where", b.op("equal", b.input(3), b.const(index)), value, result)
    return b.finish(result)


def rows_of(names: list[str], columns: dict[str, list[np.ndarray]]) -> dict[int, np.ndarray]:
    """The inputs of `any_row`: one row of memory per name."""
    length = max(c[0].size for c in columns.values())
    inputs = np.zeros((4, len(names), length), np.float32)
    for line, name in enumerate(names):
        for i, values in enumerate(columns[name]):
            inputs[i, line] = np.resize(values, length)
        inputs[3, line] = list(OPS).index(name)
    return {i + 1: values for i, values in enumerate(inputs)}


def run_any_row(columns: dict[str, list[np.ndarray]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every row's (got, want) over its columns of arguments."""
    names = list(columns)
    values = rows_of(names, columns)
    operand = view(F32, (None, None), (None, None))  # one element at a time: the expression is long
    spec = pointwise(any_row(), *[operand] * 5)
    bound = view(F32, values[1].shape)
    got = h.run(CudaPointwise(), spec, values, SM80, ints=ints_of(spec, [bound] * 5))
    with np.errstate(all="ignore"):
        wanted = {n: row(n).evaluate(None, columns[n]).astype(np.float32) for n in names}
    return {n: (got[line, : columns[n][0].size], wanted[n]) for line, n in enumerate(names)}


def test_every_row_on_ordinary_values():
    rng, columns = np.random.default_rng(7), {}
    for name, op in OPS.items():
        columns[name] = [(rng.standard_normal(300) * 3).astype(np.float32) for _ in range(op.arity)]
        for array in columns[name]:
            array[:90] = np.round(array[:90] * 2) / 2  # ties and equal pairs
    for name, (got, want) in run_any_row(columns).items():
        with np.errstate(invalid="ignore"):
            close = np.abs(got - want) <= 1e-6 * (np.abs(want) + 1)
        assert np.all(close | (got == want) | (np.isnan(got) & np.isnan(want))), name


def test_every_row_on_special_values():
    columns = {
        name: [g.ravel() for g in np.meshgrid(*[SPECIAL] * op.arity, indexing="ij")]
        for name, op in OPS.items()
    }
    for name, (got, want) in run_any_row(columns).items():
        with np.errstate(invalid="ignore"):
            close = np.abs(got - want) <= 2e-5 * np.abs(want) + 1e-37
        wrong = ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))
        cases = [(*(float(a[i]) for a in columns[name]), got[i], want[i]) for i in np.flatnonzero(wrong)]
        assert not cases, f"{name}: (arguments, got, want): {cases[:5]}"


def total_of(count: int) -> Epilogue:
    b = Builder()
    result = b.input(0)
    for i in range(1, count):
        result = b.op("add", result, b.input(i))
    return b.finish(result)


def mixed(out: DType, dims: tuple[int, ...], **more) -> PointwiseSpec:
    """A sum over every input type, rows and scalars among them."""
    rank = len(dims)
    along, scalar = (*[0] * (rank - 1), 1), (1, *[0] * (rank - 1))
    inputs = [view(d, dims, **more) for d in (F16, S64, S32, S8)]
    inputs += [
        view(BF16, dims, along),
        view(F32, dims, along),
        view(U8, dims, scalar),
        view(BOOL, dims, scalar),
    ]
    return pointwise(total_of(len(inputs)), view(out, dims, **more), *inputs)


@pytest.mark.parametrize(
    "out",
    [F16, S8, BOOL, *(pytest.param(d, marks=slow) for d in (F32, BF16, S32, S64))],
    ids=lambda d: d.name,
)
def test_every_type(out):
    h.check(CudaPointwise(), mixed(out, (5, 70)), SM80, exact=True, page_end=range(9))


@pytest.mark.parametrize(
    "dims, strides",
    [
        pytest.param((2, 6, 6, 40), [(0, 0, 0, 1), (36, 6, 1, 0)], id="channel-and-plane"),
        pytest.param((2, 3, 3, 40), [(40, 0, 0, 1), (0, 0, 0, 0)], id="gate-and-scalar", marks=slow),
        pytest.param((4, 3, 16), [(64, 17, 1), (0, 16, 1)], id="view-and-broadcast-batch", marks=slow),
        pytest.param((1, 1, 1), [(1, 1, 1), (0, 0, 0)], id="one-element", marks=slow),
        pytest.param((301, 1), [(1, 1), (2, 1)], id="inner-dim-one", marks=slow),
        pytest.param((5, 7), [(1, 5), (21, 3)], id="strided"),
        pytest.param((2, 1, 3, 2, 2, 5), [(60, 60, 20, 10, 5, 1), (0, 0, 5, 0, 0, 1)], id="rank-six"),
    ],
)
def test_views_and_broadcasts(dims, strides):
    inputs = [view(F16, dims, s) for s in strides]
    h.check(CudaPointwise(), pointwise(total_of(2), view(F16, dims), *inputs), SM80, exact=True)


@pytest.mark.parametrize("dtype", [F8E4M3, pytest.param(F8E5M2, marks=slow)])
def test_8_bit_floats(dtype):
    """Each of them is read, and sums between, at and beyond them are stored."""
    every = np.arange(256, dtype=np.uint8).view(dtype.np)
    step = np.random.default_rng(0).choice([0, 1 / 32, 1 / 16, -3 / 32, 1000, -np.inf, np.inf], (5, 256))
    with np.errstate(invalid="ignore"):
        summand = (step * np.abs(every.astype(np.float32))).astype(np.float32)
    values = {1: np.broadcast_to(every, (5, 256)), 2: summand}
    spec = pointwise(total_of(2), *(view(d, (5, 256), alignment=16) for d in (dtype, dtype, F32)))
    h.check(CudaPointwise(), spec, SM90A, values=values, exact=True)


def test_run_time_dims_pick_a_kernel_that_fits():
    dims, strides = (None, None, None), (None, None, 1)
    spec = pointwise(
        total_of(2), view(F16, dims, strides), view(F16, dims, strides), view(F32, dims, (0, 0, 1))
    )
    for n, rows, c, pad in [
        (2, 3, 40, 0),
        (2, 3, 40, 8),
        (2, 3, 41, 7),
        (2, 3, 41, 0),
        (1, 1, 1, 0),
        (3, 1, 7, 1),
    ]:
        bound = [view(F16, (n, rows, c), (rows * (c + pad), c + pad, 1))] * 2 + [
            view(F32, (n, rows, c), (0, 0, 1))
        ]
        h.check(CudaPointwise(), spec, SM80, ints=ints_of(spec, bound), exact=True)


def test_every_config():
    spec = pointwise(total_of(2), *[view(F16, (3, 1003), alignment=16)] * 3)
    for config in CudaPointwise().configs(spec, SM80):
        h.check(CudaPointwise(), spec, SM80, config=config, exact=True)


def test_more_work_than_blocks():
    """The grid is limited: threads come back for more."""
    spec = pointwise(total_of(1), view(U8, (130, 1 << 17), (1 << 18, 2)), view(U8, (130, 1 << 17), (0, 0)))
    h.check(CudaPointwise(), spec, SM80, exact=True)


def copy(out: Operand, source: Operand) -> CopySpec:
    return CopySpec(operands=(out, source))


@pytest.mark.parametrize(
    "out, source",
    [
        pytest.param(view(F16, (3, 5, 40)), view(F16, (3, 5, 40), (40, 120, 1)), id="rows"),
        pytest.param(view(F16, (3, 77)), view(F32, (3, 77), (80, 1)), id="to-half"),
        pytest.param(view(F32, (3, 77), (80, 1)), view(BF16, (3, 77)), id="from-bfloat", marks=slow),
        pytest.param(
            view(F16, (2, 5, 7, 3), (315, 63, 9, 1)), view(F32, (2, 5, 7, 3), (105, 7, 1, 35)), id="few"
        ),
        pytest.param(view(F32, (2, 3, 5, 7)), view(F16, (2, 3, 5, 7), (105, 1, 21, 3)), id="few-back"),
        pytest.param(
            view(F16, (2, 37, 70), (3000, 75, 1)), view(F16, (2, 37, 70), (2590, 1, 37)), id="tiled"
        ),
        pytest.param(
            view(F32, (2, 37, 70)), view(F16, (2, 37, 70), (2590, 1, 37)), id="tiled-from-half", marks=slow
        ),
        pytest.param(
            view(F16, (2, 37, 70)), view(F8E4M3, (2, 37, 70), (2590, 1, 37)), id="tiled-from-f8", marks=slow
        ),
        pytest.param(
            view(S64, (2, 37, 70)), view(S64, (2, 37, 70), (2590, 1, 37)), id="tiled-64", marks=slow
        ),
        pytest.param(view(U8, (37, 70)), view(U8, (37, 70), (1, 37)), id="tiled-8", marks=slow),
        pytest.param(view(S64, (4, 7)), view(S64, (4, 7), (1, 0)), id="broadcast"),
        pytest.param(view(BOOL, (4, 7), (30, 3)), view(BOOL, (4, 7), (14, 2)), id="strided", marks=slow),
    ],
)
def test_copies(out, source):
    h.check(CudaCopy(), copy(out, source), SM80, exact=True, page_end=(0, 1))


def test_copy_between_run_time_views():
    dims = (None, None, 6)
    spec = copy(view(F16, dims, (None, None, None)), view(F32, dims, (None, None, 1)))
    for n, rows, steps in [(2, 3, (18, 6, 1)), (3, 1, (6, 1, 3)), (1, 40, (1, 6, 1))]:
        bound = [view(F16, (n, rows, 6), steps if n > 1 else (240, 6, 1)), view(F32, (n, rows, 6))]
        if steps == (6, 1, 3):
            bound[0] = view(F16, (n, rows, 6), (30, 30, 5))
        h.check(CudaCopy(), spec, SM80, ints=ints_of(spec, bound), exact=True)


def test_run_time_transpose():
    dims = (None, None, None)
    spec = copy(view(F16, dims, (None, None, 1)), view(F16, dims, (None, 1, None)))
    for n, rows, columns in [(2, 33, 31), (1, 1, 100), (3, 64, 1)]:
        bound = [view(F16, (n, rows, columns)), view(F16, (n, rows, columns), (rows * columns, 1, rows))]
        h.check(CudaCopy(), spec, SM80, ints=ints_of(spec, bound), exact=True)


def test_copies_saturate_and_keep_what_is_not_finite():
    values = np.resize(np.float32([1e9, -3.4e38, np.inf, -np.inf, np.nan, 65519, 65520, 0.1]), (3, 77))
    got = h.check(
        CudaCopy(),
        copy(view(F16, (3, 77)), view(F32, (3, 77), (80, 1))),
        SM80,
        values={1: values},
        exact=True,
    )
    assert np.nanmax(got) == np.inf and np.float16(65504) in got


@pytest.mark.parametrize(
    "out, value",
    [
        pytest.param(view(F16, (3, 5, 24), (200, 40, 1)), -1.5),
        pytest.param(view(S64, (3, 5), (10, 2)), -(2.0**40)),
        pytest.param(view(BOOL, (13,)), 1.0, marks=slow),
        pytest.param(view(F16, (13,)), -3.4e38, marks=slow),
    ],
)
def test_fills(out, value):
    h.check(CudaFill(), FillSpec(operands=(out,), value=value), SM80, exact=True)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            GatherSpec(operands=(view(F16, (2, 6, 40)), view(F16, (2, 9, 40)), view(S64, (6,)))), id="rows"
        ),
        pytest.param(
            GatherSpec(
                operands=(view(F16, (2, 6, 5)), view(F32, (2, 9, 5), (60, 1, 11)), view(S32, (6,), (2,)))
            ),
            id="strided-and-converted",
        ),
        pytest.param(
            GatherSpec(operands=(view(S64, (1, 6, 1)), view(S64, (1, 9, 1)), view(S32, (6,)))),
            id="numbers",
            marks=slow,
        ),
    ],
)
def test_gathers(spec):
    index = np.array([0, 8, -1, -9, 400, -77]).astype(spec.operands[2].dtype.np)
    h.check(CudaGather(), spec, SM80, values={2: index}, exact=True, page_end=(0, 1, 2))
