"""CPU kernels over operands stored as bf16, u8 and s8: what `samples` computes in fp32, retyped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from kernels import harness as h
from kernels.conv_specs import Conv

from bolt.codegen.simd import stored
from bolt.epilogue import Builder
from bolt.kernels.cpu_conv_transpose import CpuConvTranspose
from bolt.kernels.cpu_copy import CpuCopy
from bolt.kernels.cpu_depthwise import CpuDepthwise
from bolt.kernels.cpu_fill import CpuFill
from bolt.kernels.cpu_gather import CpuGather
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.kernels.cpu_pool import CpuPool
from bolt.kernels.cpu_reduce import CpuReduce
from bolt.kernels.cpu_resize import CpuResize
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.kernels.family import Family
from bolt.ops.conv import ConvTransposeSpec
from bolt.ops.pointwise import CopySpec, FillSpec, GatherSpec, PointwiseSpec
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.ops.spec import Operand, Spec
from bolt.target import Target
from bolt.types import BF16, F16, F32, LARGEST, S8, S64, U8, DType, convert

TARGETS = tuple(t for t in h.ALL_TARGETS if t.has_bf16 or not t.has_vnni)
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
best_target = pytest.mark.parametrize("target", TARGETS if h.ASKED else TARGETS[:1], ids=lambda t: t.name)
"""Name the others in BOLT_TEST_TARGETS: what is stored differs by target, what is computed does not."""


def retyped(spec: Spec, *dtypes: DType) -> Spec:
    """`spec` with its first operands stored in other types."""
    changed = [replace(o, dtype=d) for o, d in zip(spec.operands, dtypes, strict=False)]
    return replace(spec, operands=(*changed, *spec.operands[len(changed) :]))


def scaled(out: Operand) -> tuple[Operand, ...]:
    """Epilogue inputs: one per channel, one of every element."""
    return h.per_channel(out), out


def affine() -> Builder:
    b = Builder()
    b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1))
    return b


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A kernel and the types of its first operands.

    Attributes:
        exact: whether small integers give integers.
    """

    family: Family
    spec: Spec
    mixes: tuple[tuple[DType, ...], ...]
    exact: bool = True


def rows(make: type[Spec]) -> Spec:
    out = h.f32((2, 1, 3, 37))
    epilogue = affine()
    return make(operands=(out, out, *scaled(out)), epilogue=epilogue.finish(len(epilogue.nodes) - 1))


def pointwise(inputs: int) -> PointwiseSpec:
    out, b = h.f32((3, 5, 37)), Builder()
    values = [b.input(i) for i in range(inputs)]
    total = values[0]
    for value in values[1:]:
        total = b.op("add", total, value)
    return PointwiseSpec(operands=(out, *[out] * inputs), epilogue=b.finish(b.op("relu", total)))


def transposed() -> ConvTransposeSpec:
    return ConvTransposeSpec(
        operands=(h.f32((1, 8, 18, 20)), h.f32((1, 4, 9, 5)), h.f32((5, 20, 4, 4))),
        constants=(2,),
        stride=(2, 2),
        pad=(1, 1),
    )


ALL = ((BF16, BF16), (F32, BF16), (BF16, F32), (U8, U8), (S8, S8), (U8, F32), (F32, S8))
CASES = {
    "pool_max": Case(
        family=CpuPool(),
        spec=PoolSpec(
            operands=(h.f32((1, 4, 3, 37)), h.f32((1, 8, 7, 37))), kernel=(3, 3), stride=(2, 2), pad=(1, 0)
        ),
        mixes=ALL,
    ),
    "pool_average": Case(
        family=CpuPool(),
        spec=PoolSpec(
            operands=(h.f32((1, 4, 3, 37)), h.f32((1, 8, 7, 37))), kind="avg", kernel=(2, 4), stride=(2, 1)
        ),
        mixes=((BF16, BF16), (U8, U8)),
    ),
    "resize_nearest": Case(
        family=CpuResize(),
        spec=ResizeSpec(operands=(h.f32((1, 6, 10, 20)), h.f32((1, 3, 5, 20)))),
        mixes=((BF16, BF16), (U8, U8), (F32, BF16)),
    ),
    "resize_linear": Case(
        family=CpuResize(),
        spec=ResizeSpec(operands=(h.f32((1, 6, 10, 3)), h.f32((1, 3, 5, 3))), mode="linear"),
        mixes=((BF16, BF16), (S8, S8), (BF16, F32)),
        exact=False,
    ),
    "norm": Case(
        family=CpuNorm(), spec=rows(NormSpec), mixes=((BF16, BF16, F32, BF16), (F32, BF16)), exact=False
    ),
    "softmax": Case(
        family=CpuSoftmax(), spec=rows(SoftmaxSpec), mixes=((BF16, BF16, F32, BF16), (BF16, F32)), exact=False
    ),
    "plain_softmax": Case(
        family=CpuSoftmax(),
        spec=SoftmaxSpec(operands=(h.f32((1, 1, 5, 37)), h.f32((1, 1, 5, 37)))),
        mixes=((BF16, BF16), (F32, BF16)),
        exact=False,
    ),
    "reduce_columns": Case(
        family=CpuReduce(),
        spec=ReduceSpec(operands=(h.f32((2, 1, 37)), h.f32((2, 3, 1, 5, 37))), kind="sum"),
        mixes=((BF16, BF16), (F32, BF16), (S8, S8)),
    ),
    "reduce_row": Case(
        family=CpuReduce(),
        spec=ReduceSpec(operands=(h.f32((3, 1, 1)), h.f32((3, 2, 1, 37, 1))), kind="max"),
        mixes=((BF16, BF16), (U8, U8)),
    ),
    "reduce_strided": Case(
        family=CpuReduce(),
        spec=ReduceSpec(operands=(h.f32((3, 1, 1)), h.f32((3, 1, 1, 37, 1), (74, 0, 0, 2, 1))), kind="sumsq"),
        mixes=((BF16, BF16),),
    ),
    "pointwise": Case(
        family=CpuPointwise(),
        spec=pointwise(3),
        mixes=((BF16, BF16, F32, U8), (U8, S8, U8, BF16), (S8, F32, BF16, BF16)),
    ),
    "conv_transpose": Case(
        family=CpuConvTranspose(), spec=transposed(), mixes=((BF16, BF16, BF16), (F32, BF16, BF16))
    ),
}


@best_target
@pytest.mark.parametrize("case,mix", [(c, i) for c in CASES for i in range(len(CASES[c].mixes))])
def test_retyped(case: str, mix: int, target: Target) -> None:
    found = CASES[case]
    spec = retyped(found.spec, *found.mixes[mix])
    if isinstance(spec, ConvTransposeSpec) and not target.has_bf16:
        assert found.family.supports(spec, target) is not None
        return
    tolerance = h.TOLERANCES[spec.out.dtype]
    for parts, ends in ((1, range(len(spec.operands))), (3, ())):
        h.check(
            found.family,
            spec,
            target=target,
            parts=parts,
            page_end=ends,
            exact=found.exact,
            tolerance=tolerance,
        )


DEPTHWISE = {
    "bf16": Conv(h=6, w=9, c=37, k=37, kernel=(3, 3), pad=(1, 1), groups=37, a=BF16, b=BF16, out=BF16),
    "first": Conv(h=6, w=9, c=20, k=20, kernel=(3, 3), pad=(1, 1), groups=20, a=F32, b=F32, out=BF16),
    "last": Conv(h=6, w=30, c=16, k=16, kernel=(3, 5), pad=(1, 2), groups=16, a=BF16, b=BF16),
    "int8": Conv(
        h=7, w=9, c=40, k=40, kernel=(3, 3), stride=(2, 2), pad=(1, 1), groups=40, a=U8, b=S8, out=U8
    ),
    "signed": Conv(h=6, w=9, c=24, k=24, kernel=(5, 5), pad=(2, 2), groups=24, a=S8, b=S8, out=S8),
}


@best_target
@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise(case: str, target: Target) -> None:
    spec = DEPTHWISE[case].spec()
    for reuse in (True, False):
        config = next(c for c in CpuDepthwise().configs(spec, target) if c.reuse is reuse)
        h.check(CpuDepthwise(), spec, target=target, parts=2, config=config, page_end=(1,))


def turned(dims: tuple[int, ...], order: tuple[int, ...], to: DType, source: DType) -> CopySpec:
    dense = h.operand(source, dims)
    permuted = tuple(dims[i] for i in order)
    view = Operand(dtype=source, dims=permuted, strides=tuple(dense.strides[i] for i in order))
    return CopySpec(operands=(h.operand(to, permuted), view))


@best_target
@pytest.mark.parametrize("types", [(BF16, F32), (F32, BF16), (BF16, BF16), (F16, F16), (U8, U8)])
@pytest.mark.parametrize(
    "dims,order",
    [
        ((2, 37, 5, 9), (0, 2, 3, 1)),
        ((2, 5, 9, 37), (0, 3, 1, 2)),
        ((1, 3, 5, 21), (0, 2, 3, 1)),
        ((1, 5, 21, 3), (0, 3, 1, 2)),
        ((2, 7, 5, 40), (0, 2, 1, 3)),
        ((2, 3, 5, 4), (0, 2, 1, 3)),
        ((32, 64), (1, 0)),
    ],
)
def test_copy(dims: tuple[int, ...], order: tuple[int, ...], types: Sequence[DType], target: Target) -> None:
    spec = turned(dims, order, *types)
    h.check(CpuCopy(), spec, target=target, parts=3)
    h.check(CpuCopy(), spec, target=target, page_end=(0, 1))


@each_target
def test_copies_round_to_nearest_even_and_keep_what_is_no_number(target: Target) -> None:
    values = np.array(
        [1.00390625, 1.01171875, -np.inf, np.nan, -3.4028235e38, 1e-3, -0.0, 65504.0], np.float32
    )
    for dims, order in (((8,), (0,)), ((2, 4), (1, 0)), ((1, 8), (1, 0))):
        spec = turned(dims, order, BF16, F32)
        given = values.reshape(dims).transpose(order)
        got = h.run(CpuCopy(), spec, {1: given}, target=target).astype(np.float32)
        np.testing.assert_array_equal(got, convert(given, BF16).astype(np.float32))


@each_target
def test_fill_and_gather(target: Target) -> None:
    out = h.operand(BF16, (3, 20))
    h.check(CpuFill(), FillSpec(operands=(out,), value=-2.5), target=target)
    table, index = h.operand(BF16, (2, 5, 19)), h.operand(S64, (4,))
    spec = GatherSpec(operands=(h.operand(BF16, (2, 4, 19)), table, index))
    h.check(CpuGather(), spec, target=target, values={2: np.array([0, 4, -1, 2])})


@each_target
def test_stores_of_8_bits_round_to_even_and_saturate(target: Target) -> None:
    values = np.array([0.5, 1.5, 2.5, -0.6, -300.0, 300.0, 126.5, 127.5, 254.5, 255.5, np.inf, -np.inf])
    image = values.astype(np.float32).reshape(1, 1, 1, -1)
    for dtype in (U8, S8):
        out = h.operand(dtype, (1, 1, 1, image.size))
        spec = PoolSpec(operands=(out, h.f32(out.dims)))
        got = h.run(CpuPool(), spec, {1: image}, target=target)
        np.testing.assert_array_equal(got, h.rounded(image, dtype))


@each_target
def test_a_cast_to_8_bits_cuts_toward_zero(target: Target) -> None:
    values = np.array([0.9, 1.5, 2.5, 254.9, 7.0], np.float32)
    out = h.operand(U8, (5,))
    b = Builder()
    spec = PointwiseSpec(operands=(out, h.f32((5,))), epilogue=b.finish(b.input(0)))
    got = h.run(CpuPointwise(), spec, {1: values}, target=target)
    np.testing.assert_array_equal(got, [0, 1, 2, 254, 7])


@each_target
def test_a_mask_stays_finite(target: Target) -> None:
    """The largest negative number of fp32 would round to -inf in bf16, and softmax of such a row to NaN."""
    lowest = float(np.finfo(np.float32).min)
    out = h.operand(BF16, (2, 19))
    b = Builder()
    spec = PointwiseSpec(operands=(out, h.f32(out.dims)), epilogue=b.finish(b.input(0)))
    given = np.full((2, 19), lowest, np.float32)
    given[0, :3] = np.inf, -np.inf, np.nan
    got = h.run(CpuPointwise(), spec, {1: given}, target=target).astype(np.float64)
    np.testing.assert_array_equal(got[0, :3], given[0, :3])
    assert (got[0, 3:] == -LARGEST[BF16]).all() and (got[1] == -LARGEST[BF16]).all()


def test_only_what_may_be_a_mask_is_kept_in_range() -> None:
    plain = retyped(pointwise(2), BF16, BF16, BF16)
    assert stored(plain, "x") == "x"
    assert stored(retyped(plain, BF16, F32), "x") == "bf16_range(x)"
    bias = replace(plain, operands=(*plain.operands[:2], replace(h.per_channel(plain.out), dtype=F32)))
    assert stored(bias, "x") == "x"
    b = Builder()
    limited = replace(plain, epilogue=b.finish(b.op("add", b.input(0), b.const(-3.4e38))))
    assert stored(limited, "x") == "bf16_range(x)"


@pytest.mark.parametrize("case", CASES)
def test_other_types_are_refused(case: str) -> None:
    found = CASES[case]
    spec = retyped(found.spec, F16, F16)
    assert found.family.supports(spec, TARGETS[0]) is not None


def test_copies_do_not_convert_everything() -> None:
    said = CpuCopy().supports(turned((3, 4), (0, 1), U8, F32), TARGETS[0])
    assert said is not None and "no conversion from f32 to u8" in said.reason
