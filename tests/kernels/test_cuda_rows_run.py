"""`cuda_softmax`, `cuda_norm` and `cuda_reduce` under the emulator, against their references."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import cuda_harness as h
from kernels.cuda_compile import view
from kernels.harness import ints_of

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cuda_norm import CudaNorm
from bolt.kernels.cuda_reduce import CudaReduce
from bolt.kernels.cuda_softmax import CudaSoftmax
from bolt.ops.rows import REDUCTIONS, NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spec import Operand
from bolt.target import SM80
from bolt.types import BF16, F16, F32, DType

pytestmark = h.NEEDS_EMULATOR
slow = pytest.mark.slow


def scaled_and_shifted() -> Epilogue:
    b = Builder()
    return b.finish(b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1)))


def softmax(out: DType, source: DType, dims: tuple[int, ...], *, log: bool = False) -> SoftmaxSpec:
    k = dims[-1] + 3
    strides = (dims[1] * dims[2] * k, dims[2] * k, k, 1)
    return SoftmaxSpec(operands=(view(out, dims), view(source, dims, strides)), log=log)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(softmax(F32, F32, (1, 2, 5, 3)), id="part-of-a-warp"),
        pytest.param(softmax(F16, F32, (2, 3, 2, 197)), id="warp", marks=slow),
        pytest.param(softmax(BF16, F16, (1, 1, 3, 1000), log=True), id="warp-log"),
        pytest.param(softmax(F32, F16, (1, 1, 2, 3001)), id="block", marks=slow),
        pytest.param(softmax(F32, F32, (1, 1, 2, 20_001)), id="streamed"),
        pytest.param(softmax(F32, F32, (1, 1, 2, 20_001), log=True), id="streamed-log", marks=slow),
    ],
)
def test_softmax(spec):
    h.check(CudaSoftmax(), spec, SM80, page_end=(0, 1))


@pytest.mark.parametrize("config", range(3))
def test_softmax_in_packs_by_every_team(config):
    dims = (1, 1, 9, 1024)
    spec = SoftmaxSpec(operands=(view(F16, dims, alignment=16), view(F16, dims, alignment=16)))
    configs = CudaSoftmax().configs(spec, SM80)
    h.check(CudaSoftmax(), spec, SM80, config=configs[min(config, len(configs) - 1)])


def test_softmax_of_run_time_length():
    dims, strides = (None, 2, None, None), (None, None, None, 1)
    masked = view(F16, dims, (None, 0, 0, 1))
    b = Builder()
    epilogue = b.finish(b.op("mul", b.acc(), b.input(0)))
    spec = SoftmaxSpec(
        operands=(view(F16, dims, strides), view(F16, dims, strides), masked), epilogue=epilogue
    )
    for rows, k in [(3, 40), (5, 37), (2, 1024), (2, 1025), (2, 1064), (1, 1)]:
        shape = (1, 2, rows, k)
        bound = [view(F16, shape)] * 2 + [view(F16, shape, (k, 0, 0, 1))]
        h.check(CudaSoftmax(), spec, SM80, ints=ints_of(spec, bound))


def test_softmax_of_what_is_not_finite():
    """A masked element weighs nothing; a row with NaN, or of -inf alone, is NaN; +inf makes its row NaN."""
    x = np.zeros((1, 1, 5, 7), np.float32)
    x[..., 0, 2], x[..., 1, 3], x[..., 2, :], x[..., 3, 0] = -np.inf, np.nan, -np.inf, np.inf
    x[..., 4, :] = -3.4e38
    spec = SoftmaxSpec(operands=(view(F32, x.shape), view(F32, x.shape)))
    with np.errstate(invalid="ignore"):
        h.check(CudaSoftmax(), spec, SM80, values={1: x})


def norm(out: DType, source: DType, rows: int, k: int, *, rms: bool = False) -> NormSpec:
    dims = (1, 2, rows, k)
    vector = view(F32, dims, (0, 0, 0, 1))
    operands = (view(out, dims), view(source, dims), vector, vector)
    return NormSpec(operands=operands, epilogue=scaled_and_shifted(), rms=rms, epsilon=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(norm(F16, F16, 5, 768), id="half"),
        pytest.param(norm(F32, F32, 3, 77, rms=True), id="rms"),
        pytest.param(norm(BF16, BF16, 2, 4096), id="block", marks=slow),
        pytest.param(norm(F16, F32, 1, 20_001), id="streamed", marks=slow),
    ],
)
def test_norm(spec):
    h.check(CudaNorm(), spec, SM80, page_end=(0, 1, 2, 3))


def test_norm_far_from_zero_keeps_its_variance():
    spec = norm(F32, F32, 3, 500)
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((1, 2, 3, 500)) + 1000).astype(np.float32)
    h.check(CudaNorm(), spec, SM80, values={1: x}, tolerance=2e-4)


def test_norm_of_run_time_rows():
    dims, strides = (None, None, None, 96), (None, None, None, 1)
    vector = view(F32, dims, (0, 0, 0, 1))
    spec = NormSpec(
        operands=(view(F16, dims, strides), view(F16, dims, strides), vector, vector),
        epilogue=scaled_and_shifted(),
    )
    for shape, k in [((2, 3, 5), 96), ((1, 1, 1), 96), ((1, 2, 7), 101)]:
        steps = (shape[1] * shape[2] * k, shape[2] * k, k, 1)
        bound = [view(F16, (*shape, 96), steps)] * 2 + [view(F32, (*shape, 96), (0, 0, 0, 1))] * 2
        h.check(CudaNorm(), spec, SM80, ints=ints_of(spec, bound))


def reduction(kind: str, source: Operand, out: DType = F32) -> ReduceSpec:
    b0, _, b1, _, inner = source.dims
    return ReduceSpec(operands=(view(out, (b0, b1, inner)), source), kind=kind)


def some_values(kind: str, source: Operand) -> np.ndarray:
    """Small integers; of a product, mostly ones."""
    rng = np.random.default_rng(4)
    small = rng.integers(-3, 4, [d or 1 for d in source.dims])
    if kind == "prod":
        small = np.where(rng.random(small.shape) < 0.9, 1, small)
    return small.astype(source.dtype.np)


LAYOUTS = {
    "columns": view(F16, (2, 7, 3, 5, 72)),
    "row": view(F16, (3, 1, 5, 130, 1)),
    "joined": view(F16, (2, 10, 1, 13, 1)),
    "apart": view(F32, (2, 9, 3, 7, 1), (700, 70, 20, 1, 1)),
    "inner-strided": view(F32, (2, 9, 2, 7, 3), (800, 7, 400, 1, 70)),
}


OFTEN = {
    ("l2", "columns"),
    ("prod", "columns"),
    ("max", "joined"),
    ("mean", "apart"),
    ("l1", "inner-strided"),
}
"""Reductions and layouts of the default run: each kind of code once."""


@pytest.mark.parametrize(
    "kind, layout",
    [
        pytest.param(kind, layout, marks=() if (kind, layout) in OFTEN else slow)
        for kind in REDUCTIONS
        for layout in LAYOUTS
    ],
)
def test_reductions(kind, layout):
    source = LAYOUTS[layout]
    spec = reduction(kind, source)
    h.check(CudaReduce(), spec, SM80, values={1: some_values(kind, source)}, tolerance=2e-6, page_end=(0, 1))


@pytest.mark.parametrize("kind", ("max", "min"))
def test_extrema_keep_nan(kind):
    x = np.zeros((2, 7, 3, 5, 72), np.float16)
    x[1, 3, 2, 4, 7] = np.nan
    h.check(CudaReduce(), reduction(kind, LAYOUTS["columns"]), SM80, values={1: x}, exact=True)


@pytest.mark.parametrize("slices", (1, 8, 32))
def test_windows_in_slices(slices):
    b = Builder()
    out, source = view(F16, (2, 1, 40)), view(F16, (2, 9, 1, 9, 40), alignment=16)
    spec = ReduceSpec(
        operands=(out, source, view(F32, (2, 1, 40), (0, 0, 1))),
        kind="sum",
        epilogue=b.finish(b.op("add", b.acc(), b.input(0))),
    )
    config = next(c for c in CudaReduce().configs(spec, SM80) if c.slices == slices)
    h.check(CudaReduce(), spec, SM80, config=config, exact=True)


def test_a_long_window_is_joined_by_a_large_team():
    spec = reduction("sum", view(F16, (2, 1, 1, 20_001, 1)))
    assert "launch<int32_t, 1, 1024>" in CudaReduce().render(
        spec, CudaReduce().configs(spec, SM80)[0], SM80, "k"
    )
    h.check(CudaReduce(), spec, SM80, exact=True)


@pytest.mark.parametrize("inner", (pytest.param(24, marks=slow), 1))
def test_run_time_windows(inner):
    dims = (None, None, None, None, inner)
    steps = (None, None, None, None, 1)
    spec = ReduceSpec(
        operands=(view(F32, (None, None, inner), (None, None, 1)), view(F16, dims, steps)), kind="sum"
    )
    for b0, r0, b1, r1 in [(2, 3, 4, 5), (1, 40, 2, 40), (3, 1, 1, 1)]:
        bound = [view(F32, (b0, b1, inner)), view(F16, (b0, r0, b1, r1, inner))]
        h.check(CudaReduce(), spec, SM80, ints=ints_of(spec, bound), exact=True)
