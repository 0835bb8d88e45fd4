"""`cutlass_attention_sm80`: what it accepts, and its results under the emulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_units import needs_cutlass

from bolt.kernels.cutlass_attention_sm80 import CutlassAttentionSm80
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Operand
from bolt.target import SM75, SM80, Target
from bolt.types import BF16, F16, F32, DType

FAMILY = CutlassAttentionSm80()


def heads(dtype: DType, b: int, h: int, rows: int, columns: int, alignment: int = 16) -> Operand:
    """(b, h, rows, columns) in memory as (b, rows, h, columns)."""
    strides = (rows * h * columns, columns, h * columns, 1)
    return Operand(dtype=dtype, dims=(b, h, rows, columns), strides=strides, alignment=alignment)


def attention(
    *,
    dtype: DType = F16,
    b: int = 2,
    h: int = 2,
    m: int = 40,
    n: int = 72,
    d: int = 32,
    e: int = 32,
    bias: bool = False,
    causal: bool = False,
    alignment: int = 16,
) -> AttentionSpec:
    sizes = ((m, e), (m, d), (n, d), (n, e))
    operands = [heads(dtype, b, h, rows, columns, alignment) for rows, columns in sizes]
    if bias:
        operands.append(Operand(dtype=dtype, dims=(b, h, m, n), strides=(n, 0, 0, 1), alignment=16))
    return AttentionSpec(operands=tuple(operands), scale=d**-0.5, has_bias=bias, causal=causal)


def test_reference_is_softmax_attention() -> None:
    spec = attention(b=1, h=1, m=2, n=2, d=1, e=1)
    ones, values = np.ones((1, 1, 2, 1)), np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(spec.reference([ones, ones, values])[0].ravel(), [2.0, 2.0])
    masked = replace(spec, causal=True)
    np.testing.assert_allclose(masked.reference([ones, ones, values])[0].ravel(), [1.0, 2.0])


@pytest.mark.parametrize(
    "spec,target,reason",
    [
        (attention(dtype=F32), SM80, "not all f16"),
        (attention(dtype=BF16), SM75, "needs sm80"),
        (attention(d=160), SM80, "above 128"),
        (attention(d=30), SM80, "multiples of 8 bytes"),
        (attention(n=70, bias=True), SM80, "16 with a bias"),
    ],
)
def test_refused(spec: AttentionSpec, target: Target, reason: str) -> None:
    rejection = FAMILY.supports(spec, target)
    assert rejection is not None and reason in rejection.reason


def test_heads_that_do_not_lie_side_by_side_are_refused() -> None:
    spec = attention()
    apart = replace(spec.out, strides=(40 * 64, 40 * 32, 32, 1))
    rejection = FAMILY.supports(replace(spec, operands=(apart, *spec.operands[1:])), SM80)
    assert rejection is not None and "side by side" in rejection.reason


def test_the_unit_does_not_depend_on_sizes() -> None:
    (config,) = FAMILY.configs(attention(), SM80)
    names = {FAMILY.units(attention(m=m, n=m, h=h), config, SM80)[0].name for m, h in ((64, 1), (128, 12))}
    assert len(names) == 1
    assert FAMILY.units(attention(bias=True), config, SM80)[0].name not in names


@needs_cutlass
@NEEDS_EMULATOR
def test_results_with_a_bias() -> None:
    check(FAMILY, attention(bias=True), SM80)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize(
    "spec,target",
    [
        (attention(causal=True), SM80),
        (attention(dtype=BF16, d=64, e=64, n=130), SM80),
        (attention(d=96, e=128), SM80),
        (attention(d=36, e=44, alignment=8), SM80),
        (attention(d=40, e=24, m=1), SM80),
        (attention(), SM75),
    ],
)
def test_results(spec: AttentionSpec, target: Target) -> None:
    check(FAMILY, spec, target)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
def test_rows_with_every_key_hidden() -> None:
    """No NaN, and what softmax makes of the scores that are left of a mask of the most negative numbers."""
    spec = attention(b=1, n=64, bias=True)
    hidden = np.full((1, 2, 40, 64), -65504.0, np.float16)  # fp32 tells multiples of 2^-8 apart there
    check(FAMILY, spec, SM80, values={4: hidden}, tolerance=2e-2)
