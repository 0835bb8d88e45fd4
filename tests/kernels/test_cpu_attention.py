"""`cpu_attention` against float64: shapes, strides, masks, blocks of keys, shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels import harness as h

from bolt.kernels.cpu_attention import CpuAttention
from bolt.ops.attention import AttentionSpec
from bolt.ops.spec import Operand
from bolt.target import Target
from bolt.types import BF16, F16, F32, S32, DType

FAMILY = CpuAttention()
each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def heads(b: int, h_: int, rows: int, columns: int) -> Operand:
    """(b, h, rows, columns) in memory as (b, rows, h, columns)."""
    return h.f32((b, h_, rows, columns), (rows * h_ * columns, columns, h_ * columns, 1))


def attention(
    m: int, n: int, d: int, e: int, *, bias: tuple[int, ...] | None = None, causal: bool = False
) -> AttentionSpec:
    """Two batches of two heads; `bias`: its strides."""
    operands = [heads(2, 2, rows, columns) for rows, columns in ((m, e), (m, d), (n, d), (n, e))]
    if bias:
        operands.append(h.f32((2, 2, m, n), bias))
    return AttentionSpec(operands=tuple(operands), scale=d**-0.5, has_bias=bias is not None, causal=causal)


def check(spec: AttentionSpec, target: Target, *, parts: int = 1, **more: object) -> None:
    h.check(FAMILY, spec, target=target, parts=parts, exact=False, page_end=range(len(spec.operands)), **more)  # type: ignore[arg-type]


SIZES = [(2, 1, 1, 1), (3, 2, 5, 3), (20, 37, 16, 24), (7, 64, 32, 32), (33, 50, 17, 33), (2, 16, 80, 64)]


@each_target
@pytest.mark.parametrize("m,n,d,e", SIZES)
def test_sizes(m: int, n: int, d: int, e: int, target: Target) -> None:
    for parts in (1, 3):
        check(attention(m, n, d, e), target, parts=parts)


@each_target
@pytest.mark.parametrize("bias", [(37, 0, 0, 1), (0, 0, 37, 1), (2 * 20 * 37, 20 * 37, 37, 1)], ids=str)
def test_masks(bias: tuple[int, ...], target: Target) -> None:
    check(attention(20, 37, 16, 8, bias=bias), target, parts=3)


@each_target
@pytest.mark.parametrize("m,n", [(40, 40), (21, 5), (5, 21)])
def test_causal(m: int, n: int, target: Target) -> None:
    for parts in (1, 3):
        check(attention(m, n, 8, 24, causal=True), target, parts=parts)


@each_target
@pytest.mark.parametrize("causal", (False, True))
def test_blocks_of_keys(causal: bool, target: Target) -> None:
    """More keys than a block has; some of the largest scores come last."""
    spec = attention(90, 1100 if not causal else 90, 8, 12, causal=causal)
    rng = np.random.default_rng(1)
    keys = rng.standard_normal(spec.operands[2].dims).astype(np.float32)
    keys *= np.linspace(0.1, 4.0, keys.shape[2], dtype=np.float32)[:, None]
    for config in _distinct(spec, target):
        check(spec, target, config=config, parts=2, values={2: keys})


def _distinct(spec: AttentionSpec, target: Target) -> list[object]:
    """One config of every size of blocks."""
    return list({c.keys: c for c in FAMILY.configs(spec, target)}.values())


def stored(spec: AttentionSpec, *dtypes: DType) -> AttentionSpec:
    """The same with the operands in other types."""
    operands = zip(spec.operands, dtypes * len(spec.operands), strict=False)
    return replace(spec, operands=tuple(replace(o, dtype=t) for o, t in operands))


BF16_SPECS = {
    "bias": attention(20, 37, 16, 24, bias=(37, 0, 0, 1)),
    "causal": attention(33, 33, 34, 8, causal=True),
    "odd": attention(5, 21, 17, 33),
    "blocks": attention(30, 1201, 8, 16),
    "one": attention(2, 1, 2, 1),
}


@pytest.mark.parametrize(
    "target", [t for t in h.ALL_TARGETS if t in h.CPU_TARGETS or t.has_bf16], ids=lambda t: t.name
)
@pytest.mark.parametrize("name", BF16_SPECS)
def test_bf16(name: str, target: Target) -> None:
    """In pairs where the target multiplies them, else as fp32 numbers."""
    check(stored(BF16_SPECS[name], BF16), target, parts=2, tolerance=h.TOLERANCES[BF16])


def test_mixed_storage() -> None:
    spec = stored(BF16_SPECS["bias"], BF16, F32, BF16, F32, BF16)
    check(spec, h.CPU_TARGETS[0], tolerance=h.TOLERANCES[BF16])


@each_target
def test_every_tile(target: Target) -> None:
    spec = attention(35, 41, 20, 40, bias=(41, 0, 0, 1))
    for config in FAMILY.configs(spec, target):
        check(spec, target, config=config)


@each_target
@pytest.mark.parametrize("causal", (False, True))
def test_run_time_sizes(causal: bool, target: Target) -> None:
    static = attention(30, 30, 16, 16, bias=(30, 0, 0, 1), causal=causal)
    unknown = tuple(
        replace(
            o,
            dims=tuple(
                None if i in (0, 2) or (i == 3 and o is static.operands[4]) else v
                for i, v in enumerate(o.dims)
            ),
            strides=tuple(None if i == 0 else v for i, v in enumerate(o.strides)),
        )
        for o in static.operands
    )
    spec = replace(static, operands=unknown)
    for m, n in ((30, 30), (1, 700), (300, 1)):
        bound = attention(m, n, 16, 16, bias=(n, 0, 0, 1), causal=causal)
        ints = h.ints_of(spec, bound.operands)
        for config in FAMILY.configs(spec, target)[:1]:
            h.check(FAMILY, spec, ints, target=target, config=config, parts=2, exact=False)


@each_target
def test_masked_rows(target: Target) -> None:
    """Like ONNX Runtime: NaN where all scores are -inf, the mean where all are the lowest finite number."""
    spec = attention(3, 600, 8, 8, bias=(0, 0, 600, 1))
    mask = np.zeros((1, 1, 3, 600), np.float32)
    mask[..., 0, :], mask[..., 1, :], mask[..., 2, 100:] = -np.inf, np.finfo(np.float32).min, -np.inf
    rng = np.random.default_rng(0)
    arrays = {i: h.random_values(spec.operands[i], rng, exact=False) for i in (1, 2, 3)} | {4: mask}
    for config in _distinct(spec, target):
        got = h.run(FAMILY, spec, arrays, target=target, config=config)
        assert np.isnan(got[:, :, 0]).all()
        np.testing.assert_allclose(got[:, :, 1], arrays[3].mean(axis=2), atol=1e-6)
        first = replace(spec, operands=attention(3, 100, 8, 8).operands, has_bias=False)
        want = first.reference([arrays[1], arrays[2][:, :, :100], arrays[3][:, :, :100]])[0]
        np.testing.assert_allclose(got[:, :, 2], want[:, :, 2], atol=1e-6)


@pytest.mark.parametrize(
    "change,reason",
    [
        ({1: Operand.dense(F16, (2, 2, 4, 8))}, "f16"),
        ({2: h.f32((2, 2, 4, 8), (64, 32, 1, 4))}, "not contiguous"),
        ({3: h.f32((2, 2, 4, None), (64, 32, 8, 1)), 0: h.f32((2, 2, 4, None), (64, 32, 8, 1))}, "head size"),
        ({1: Operand.dense(S32, (2, 2, 4, 8))}, "s32"),
    ],
)
def test_refused_operands(change: dict[int, Operand], reason: str) -> None:
    spec = attention(4, 4, 8, 8)
    operands = tuple(change.get(i, o) for i, o in enumerate(spec.operands))
    rejection = FAMILY.supports(replace(spec, operands=operands), h.CPU_TARGETS[0])
    assert rejection is not None and reason in rejection.reason


def test_one_query_is_refused() -> None:
    rejection = FAMILY.supports(attention(1, 50, 16, 16), h.CPU_TARGETS[0])
    assert rejection is not None and "one query" in rejection.reason
