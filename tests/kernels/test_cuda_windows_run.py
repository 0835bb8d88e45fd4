"""`cuda_pool` and `cuda_resize` under the emulator, against their references."""

from __future__ import annotations

import pytest
from kernels import cuda_harness as h
from kernels.cuda_compile import view
from kernels.harness import ints_of

from bolt.epilogue import Builder
from bolt.kernels.cpu_resize import COORDINATES, NEAREST
from bolt.kernels.cuda_pool import CudaPool
from bolt.kernels.cuda_resize import CudaResize
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.ops.spec import Operand
from bolt.target import SM80
from bolt.types import BF16, F16, F32

pytestmark = h.NEEDS_EMULATOR
slow = pytest.mark.slow

IMAGE = view(F16, (2, 9, 11, 24))


def pool(source: Operand, p: int, q: int, **attributes) -> PoolSpec:
    n, _, _, c = source.dims
    return PoolSpec(operands=(view(source.dtype, (n, p, q, c)), source), **attributes)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(pool(IMAGE, 5, 6, kernel=(3, 3), stride=(2, 2), pad=(1, 1)), id="max"),
        pytest.param(
            pool(
                view(BF16, (1, 8, 8, 5), (640, 80, 10, 1)),
                3,
                3,
                kernel=(2, 3),
                stride=(3, 2),
                dilation=(2, 2),
            ),
            id="max-dilated",
            marks=slow,
        ),
        pytest.param(
            pool(IMAGE, 9, 11, kind="avg", kernel=(5, 5), pad=(2, 2), pad_end=(2, 2)),
            id="average",
            marks=slow,
        ),
        pytest.param(
            pool(
                view(F32, (1, 9, 7, 3)),
                5,
                4,
                kind="avg",
                kernel=(3, 4),
                stride=(2, 2),
                pad=(1, 2),
                pad_end=(1, 0),
                count_include_pad=True,
            ),
            id="average-with-pad",
        ),
        pytest.param(
            pool(IMAGE, 10, 12, kernel=(2, 2), pad=(1, 1), pad_end=(1, 1)),
            id="windows-at-the-border",
            marks=slow,
        ),
    ],
)
def test_pool(spec):
    exact = spec.kind == "max"
    h.check(CudaPool(), spec, SM80, exact=exact, tolerance=1e-3, page_end=(0, 1))


def test_pool_at_run_time_with_a_residual():
    dims, steps = (None, None, None, 16), (None, None, None, 1)
    b = Builder()
    spec = PoolSpec(
        operands=(view(F16, dims, steps), view(F16, dims, steps), view(F16, dims, steps)),
        epilogue=b.finish(b.op("add", b.acc(), b.input(0))),
        kernel=(3, 3),
        stride=(2, 2),
        pad=(1, 1),
    )
    for n, rows, columns, p, q in [(2, 7, 9, 4, 5), (1, 1, 1, 1, 1)]:
        out = view(F16, (n, p, q, 16))
        bound = [out, view(F16, (n, rows, columns, 16)), view(F16, out.dims, (0, 0, 0, 1))]
        h.check(CudaPool(), spec, SM80, ints=ints_of(spec, bound), exact=True)


def resize(source: Operand, p: int, q: int, **attributes) -> ResizeSpec:
    n, _, _, c = source.dims
    return ResizeSpec(operands=(view(source.dtype, (n, p, q, c)), source), **attributes)


OFTEN = {("nearest", "half_pixel", "round_prefer_floor"), ("linear", "align_corners", "floor")}
WAYS = [
    *(("nearest", c, n) for c in COORDINATES for n in NEAREST),
    *(("linear", c, "floor") for c in COORDINATES),
]


@pytest.mark.parametrize(
    "mode, coordinate, nearest", [pytest.param(*way, marks=() if way in OFTEN else slow) for way in WAYS]
)
def test_resize(mode, coordinate, nearest):
    spec = resize(view(F16, (2, 6, 7, 24)), 13, 10, mode=mode, coordinate=coordinate, nearest=nearest)
    h.check(CudaResize(), spec, SM80, exact=mode == "nearest", page_end=(0, 1))


@pytest.mark.parametrize(
    "source, p, q, scales",
    [
        pytest.param(view(F32, (1, 4, 300, 1)), 8, 600, (2.0, 2.0), id="more-than-a-strip"),
        pytest.param(view(F32, (1, 9, 8, 3), (700, 70, 5, 1)), 4, 3, (0.5, 0.4), id="smaller", marks=slow),
        pytest.param(view(F16, (1, 2, 2, 2000)), 1, 3, (0.0, 0.0), id="many-channels", marks=slow),
    ],
)
def test_resize_shapes(source, p, q, scales):
    h.check(CudaResize(), resize(source, p, q, mode="linear", scales=scales), SM80, page_end=(0, 1))


def test_resize_at_run_time():
    dims, steps = (None, None, None, 8), (None, None, None, 1)
    b = Builder()
    spec = ResizeSpec(
        operands=(view(F16, dims, steps), view(F16, dims, steps), view(F32, dims, (0, 0, 0, 1))),
        epilogue=b.finish(b.op("mul", b.acc(), b.input(0))),
        coordinate="asymmetric",
        nearest="floor",
    )
    for n, rows, columns, p, q in [(2, 3, 5, 6, 10), (1, 1, 1, 3, 1)]:
        out = view(F16, (n, p, q, 8))
        bound = [out, view(F16, (n, rows, columns, 8)), view(F32, out.dims, (0, 0, 0, 1))]
        h.check(CudaResize(), spec, SM80, ints=ints_of(spec, bound), exact=True)
