"""`cutlass_dual_gemm_sm80`: what it accepts, and its results under the emulator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_units import needs_cutlass

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cutlass_dual_gemm_sm80 import CutlassDualGemm
from bolt.ops.dual_gemm import DualGemmSpec
from bolt.ops.spec import Operand
from bolt.target import SM75, SM80, Target
from bolt.types import BF16, F16, F32, DType

FAMILY = CutlassDualGemm()


def gate(activation: str) -> Epilogue:
    b = Builder()
    return b.finish(b.op("mul", b.op(activation, b.acc()), b.input(0)))


def dual(
    *,
    dtype: DType = F16,
    m: int = 70,
    n: int = 136,
    k: int = 72,
    batch: int = 1,
    wide: int = 0,
    bias: bool = True,
    activation: str = "silu",
) -> DualGemmSpec:
    row = wide or k
    constants = [Operand.dense(dtype, (1, 1, rows, n)) for rows in (k, k, *([1, 1] if bias else []))]
    operands = (
        replace(Operand.dense(dtype, (1, batch, m, n)), alignment=16),
        Operand(dtype=dtype, dims=(1, batch, m, k), strides=(0, m * row + 8, row, 1), alignment=16),
        *constants,
    )
    return DualGemmSpec(
        operands=operands,
        constants=tuple(range(2, len(operands))),
        epilogue=gate(activation),
        has_bias=bias,
    )


@pytest.mark.parametrize(
    "spec,target,reason",
    [
        (dual(), SM75, "needs sm80"),
        (dual(dtype=F32), SM80, "not all f16"),
        (dual(n=132), SM80, "multiples of 16 bytes"),
        (dual(wide=76), SM80, "multiples of 16 bytes"),
    ],
)
def test_refused(spec: DualGemmSpec, target: Target, reason: str) -> None:
    rejection = FAMILY.supports(spec, target)
    assert rejection is not None and reason in rejection.reason


@needs_cutlass
def test_tiles_leave_registers_for_two_sums() -> None:
    for config in FAMILY.configs(dual(), SM80):
        m, n, _ = config.tile.warp
        assert 2 * m * n // 32 <= 128


@needs_cutlass
@NEEDS_EMULATOR
def test_results() -> None:
    check(FAMILY, dual(), SM80)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        dual(dtype=BF16, bias=False, activation="gelu"),
        dual(m=1, n=8, k=200),
        dual(batch=3, m=17, wide=96),
    ],
)
def test_more_results(spec: DualGemmSpec) -> None:
    check(FAMILY, spec, SM80)
