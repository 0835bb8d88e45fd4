"""`cutlass_attention_sm90`: what it accepts and prefers, and its results under the emulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_units import needs_cutlass
from kernels.test_cutlass_attention import attention

from bolt.kernels.cutlass_attention_sm90 import CONFIGS, CutlassAttentionSm90
from bolt.ops.attention import AttentionSpec
from bolt.search.candidates import enumerate_candidates
from bolt.target import SM80, SM90A, Target
from bolt.types import BF16, F32

FAMILY = CutlassAttentionSm90()
TILE = attention(m=200, n=300, d=64, e=64)


def apart(spec: AttentionSpec, index: int, strides: tuple[int | None, ...]) -> AttentionSpec:
    """`spec` with other strides of one operand."""
    operands = list(spec.operands)
    operands[index] = replace(operands[index], strides=strides)
    return replace(spec, operands=tuple(operands))


@pytest.mark.parametrize(
    "spec,target,reason",
    [
        (TILE, SM80, "instructions are those of sm90a"),
        (attention(dtype=F32), SM90A, "not all f16"),
        (attention(bias=True), SM90A, "no bias"),
        (attention(d=260, e=260), SM90A, "one size up to 256"),
        (attention(d=64, e=32), SM90A, "one size"),
        (attention(d=36, e=36), SM90A, "multiples of 16 bytes"),
        (attention(alignment=8), SM90A, "multiples of 16 bytes"),
        (replace(TILE, scale=-1.0), SM90A, "not positive"),
        (apart(TILE, 2, (0, 64, 128, 1)), SM90A, "stride of TMA"),
        (apart(TILE, 1, (None, None, None, 1)), SM90A, "multiples of 16 bytes"),
        (apart(TILE, 3, (128, 64, 1, 128)), SM90A, "not contiguous"),
    ],
)
def test_refused(spec: AttentionSpec, target: Target, reason: str) -> None:
    rejection = FAMILY.supports(spec, target)
    assert rejection is not None and reason in rejection.reason


@pytest.mark.parametrize(
    "spec",
    [
        TILE,
        attention(d=8, e=8),
        attention(d=256, e=256, dtype=BF16, causal=True),
        apart(TILE, 0, (2 * 200 * 64, 200 * 64, 64, 1)),  # heads before rows
        apart(TILE, 0, (None, None, 64, 1)),
    ],
)
def test_accepted(spec: AttentionSpec) -> None:
    assert FAMILY.supports(spec, SM90A) is None


def test_units_depend_on_the_mask_and_the_type_but_on_no_size() -> None:
    def unit(spec: AttentionSpec) -> str:
        (config,) = FAMILY.configs(spec, SM90A)
        return FAMILY.units(spec, config, SM90A)[0].name

    assert unit(TILE) == unit(attention(m=7, n=9, d=40, e=40, b=1, h=12))
    others = (replace(TILE, causal=True), attention(dtype=BF16, d=64, e=64), attention(d=72, e=72))
    assert len({unit(TILE), *map(unit, others)}) == 4


def test_a_head_takes_the_smallest_block_that_holds_it() -> None:
    depths = [FAMILY.configs(attention(d=d, e=d), SM90A)[0].depth for d in (8, 32, 40, 96, 136)]
    assert depths == [32, 32, 64, 128, 256]
    assert [c.depth for c in CONFIGS] == sorted(c.depth for c in CONFIGS)


@pytest.mark.parametrize(("rows", "best"), [(4096, "cutlass_attention_sm90"), (16, "cutlass_attention_sm80")])
def test_long_sequences_are_for_warpgroups_and_short_ones_for_warps(rows: int, best: str) -> None:
    spec = attention(m=rows, n=rows, h=16, d=64, e=64)
    found = enumerate_candidates(spec, SM90A)
    assert found.candidates[0].family.name == best
    assert len(found.candidates) == 2


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        TILE,
        attention(b=1, m=1, n=1, d=64, e=64),
        attention(b=3, h=1, m=130, n=129, d=40, e=40),
        attention(m=257, n=5, d=64, e=64),
        apart(attention(m=150, n=70, d=64, e=64), 0, (2 * 150 * 64, 150 * 64, 64, 1)),
    ],
)
def test_results(spec: AttentionSpec) -> None:
    check(FAMILY, spec, SM90A)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        attention(b=1, m=200, n=300, d=128, e=128, causal=True),
        attention(b=1, m=300, n=70, d=96, e=96, causal=True),
    ],
)
def test_results_below_the_diagonal(spec: AttentionSpec) -> None:
    check(FAMILY, spec, SM90A)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
def test_results_of_wide_heads_in_bf16() -> None:
    check(FAMILY, attention(dtype=BF16, b=1, m=200, n=200, d=256, e=256), SM90A)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
def test_scores_of_any_size() -> None:
    """The running maximum keeps exponentials finite, whatever came before."""
    spec = attention(b=1, m=64, n=300, d=64, e=64)
    queries = np.full((1, 2, 64, 64), 30.0, np.float16)
    keys = np.repeat(np.linspace(-30, 30, 300)[None, None, :, None], 2, axis=1)
    check(FAMILY, spec, SM90A, values={1: queries, 2: np.broadcast_to(keys, (1, 2, 300, 64))})
