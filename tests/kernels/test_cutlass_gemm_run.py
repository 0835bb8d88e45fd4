"""CUTLASS 2.x matrix products compute the right numbers, under the emulator."""

from __future__ import annotations

import numpy as np
import pytest
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.test_cutlass_gemm_sm80 import COLUMN, FAMILY, ROW, SCALAR, gemm, view

from bolt.kernels.cutlass_gemm_problem import GemmConfig
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import SM75, SM80, Target
from bolt.types import BF16, F16, F32, S8, U8, DType

pytestmark = NEEDS_EMULATOR

slow = pytest.mark.slow


def config(
    spec: GemmSpec, tile: str, target: Target = SM80, *, split: int = 0, swizzle: int = 1
) -> GemmConfig:
    """The family's config of a tile, split among thread blocks where `split` says so."""
    wanted = ("stream", split) if split else ("data", 1)
    rows = (c for c in FAMILY.configs(spec, target) if (c.schedule, c.split_k) == wanted)
    return next(c for c in rows if c.tile.name == tile and c.swizzle == (1 if split else swizzle))


def inputs(m: int | None, n: int, *kinds: tuple[str, DType]) -> tuple[Operand, ...]:
    """Epilogue inputs, dense."""
    strides = {"row": ROW, "column": COLUMN, "scalar": SCALAR, "full": (0, 0, n, 1)}
    return tuple(view(dtype, (1, 1, m, n), strides[kind]) for kind, dtype in kinds)


USUAL = (("row", F32), ("full", F16), ("column", F32))


def test_rows_and_columns_beyond_the_tiles_are_left_alone() -> None:
    spec = gemm(m=70, n=72, k=40, extras=inputs(70, 72, *USUAL))
    check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5"), exact=True)
    check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5", swizzle=2), exact=True, page_end=(0, 1, 4))


def test_rows_known_at_run_time_and_batches_with_steps_of_their_own() -> None:
    n, k = 72, 40
    bias, full = view(F32, (2, 3, None, n), (n, 0, 0, 1)), view(F16, (2, 3, None, n), (None, None, n, 1))
    column = view(F32, (2, 3, None, n), (120, 40, 1, 0))
    spec = gemm(
        b0=2, b1=3, m=None, n=n, k=k, a=view(F16, (2, 3, None, k), (None, None, k, 1)),
        d=view(F16, (2, 3, None, n), (None, None, n, 1)), extras=(bias, full, column),
    )  # fmt: skip
    m = 33
    steps = {1: k, 0: n, 4: n}
    ints = [
        m if s.what == "dims" else (3 if s.axis == 0 else 1) * (m + 8) * steps[s.operand]
        for s in spec.dynamic()
    ]
    check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5"), exact=True, ints=ints)


def test_cuda_cores_multiply_f32() -> None:
    extras = inputs(70, 71, ("row", F32), ("full", F32), ("column", F32))
    spec = gemm(F32, F32, m=70, n=71, k=37, extras=extras)
    check(FAMILY, spec, SM80, config=config(spec, "64x64_8x5"), exact=True)
    check(FAMILY, spec, SM80, config=config(spec, "64x64_8x5"), tolerance=2e-6)


def test_tensor_cores_multiply_f32_as_three_products() -> None:
    extras = inputs(70, 72, ("row", F32), ("full", F32), ("column", F32))
    spec = gemm(F32, F32, m=70, n=72, k=40, extras=extras)
    check(FAMILY, spec, SM80, config=config(spec, "64x64_16x3"), exact=True)
    check(FAMILY, spec, SM80, config=config(spec, "64x64_16x3"), tolerance=2e-6)


@slow
def test_three_products_of_odd_sizes_and_long_sums() -> None:
    extras = inputs(71, 73, ("full", F32))
    for k in (37, 3000):
        spec = gemm(F32, F32, m=71, n=73, k=k, extras=extras)
        check(FAMILY, spec, SM80, config=config(spec, "64x64_32x3"), tolerance=2e-6)


@pytest.mark.parametrize("split", (2, 3, 4, 8))
def test_thread_blocks_that_share_a_tile_add_up(split: int) -> None:
    spec = gemm(m=70, n=72, k=2100, extras=inputs(70, 72, *USUAL[:2]))
    check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5", split=split), exact=True, launches=2)


@slow
def test_thread_blocks_share_the_last_tiles_evenly() -> None:
    rows = 64 * 108 + 5
    spec = gemm(m=rows, n=64, k=520, extras=inputs(rows, 64, *USUAL[:2]))
    check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5", split=1), exact=True)


def _transposed(b1: int, m: int, n: int, k: int) -> GemmSpec:
    a, b = view(F16, (1, b1, m, k), (0, m * k, 1, m)), view(F16, (1, b1, k, n), (0, k * n, 1, k))
    return gemm(out=F32, b1=b1, m=m, n=n, k=k, a=a, b=b)


KINDS = {
    "transposed": (_transposed(2, 40, 36, 48), "64x64_64x5", SM80),
    "b of contiguous n": (gemm(m=70, n=72, k=40, b=view(F16, (1, 1, 40, 72))), "128x128_32x4", SM80),
    "unaligned": (gemm(m=67, n=71, k=137, b=view(F16, (1, 1, 137, 71))), "64x64_64x2", SM80),
    "unaligned to f32": (gemm(m=67, n=71, k=137, out=F32), "64x64_32x2", SM75),
    "many inputs": (
        gemm(m=70, n=72, k=40, extras=inputs(70, 72, *USUAL, ("scalar", F32), ("full", BF16), ("full", U8))),
        "64x64_64x5",
        SM80,
    ),
    "bf16": (gemm(BF16, BF16, m=70, n=72, k=102), "128x64_64x3", SM80),
    "tf32": (gemm(F32, F32, m=70, n=72, k=36, math="tf32"), "64x64_32x5", SM80),
    "tf32 to f16, unaligned": (gemm(F32, F16, m=70, n=71, k=35, math="tf32"), "64x64_16x10", SM80),
    "s8": (gemm(S8, F16, m=70, n=104, k=48), "64x64_64x10", SM80),
    "s8, narrow output": (gemm(S8, F16, m=70, n=100, k=48), "64x64_64x10", SM80),
    "s8 to f32": (gemm(S8, F32, m=70, n=100, k=140), "128x64_64x6", SM80),
    "7.5": (gemm(m=70, n=72, k=40, extras=inputs(70, 72, *USUAL)), "64x64_32x2", SM75),
    "7.5, two warps share k": (gemm(m=70, n=72, k=136), "64x128_64x2", SM75),
    "7.5, f32": (gemm(F32, F32, m=70, n=71, k=37), "128x32_8x2", SM75),
    "one row": (gemm(m=1, n=72, k=40), "64x64_64x5", SM80),
}


@slow
@pytest.mark.parametrize("spec, tile, target", KINDS.values(), ids=KINDS)
def test_types_layouts_and_alignments(spec: GemmSpec, tile: str, target: Target) -> None:
    check(FAMILY, spec, target, config=config(spec, tile, target), exact=True)


@slow
def test_sums_that_overflow_fp16_are_clamped() -> None:
    spec = gemm(m=8, n=8, k=64)
    values = {1: np.full((1, 1, 8, 64), 64, np.float16), 2: np.full((1, 1, 64, 8), 64, np.float16)}
    got = check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5"), exact=True, values=values)
    assert (got == 65504).all()


@slow
def test_a_second_unit_runs_what_is_misaligned_at_run_time() -> None:
    steps = (0, 0, None, 1)
    operand = view(F16, (1, 1, None, None), steps)
    spec = gemm(m=None, n=None, k=None, a=operand, b=operand, d=operand)
    for m, n, k in ((70, 72, 200), (67, 71, 137)):
        sizes = {0: {2: m, 3: n}, 1: {2: m, 3: k}, 2: {2: k, 3: n}}
        ints = [sizes[s.operand][s.axis if s.what == "dims" else 3] for s in spec.dynamic()]
        check(FAMILY, spec, SM80, config=config(spec, "64x64_64x5"), exact=True, ints=ints)
