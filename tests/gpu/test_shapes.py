"""Products and convolutions on this machine's GPU: epilogues, sizes and alignments, by every family."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels import real_gpu
from kernels.conv_specs import Conv
from kernels.cuda_harness import check
from kernels.device_convs import on_device
from kernels.device_samples import FAMILIES
from kernels.harness import f32
from kernels.test_cpu_pointwise import PARAMS

from bolt.epilogue import OPS, Builder, Epilogue
from bolt.kernels.family import DeviceFamily
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand, Spec
from bolt.search.candidates import enumerate_candidates
from bolt.types import BF16, F16, DType

pytestmark = pytest.mark.gpu

SIZES = (
    (1, 8, 8), (1, 768, 768), (33, 72, 40), (128, 128, 64), (129, 257, 65), (200, 1000, 520), (513, 136, 2056)
)  # fmt: skip
CONVS = (
    Conv(h=14, w=14, c=64, k=64, n=2, kernel=(3, 3), pad=(1, 1)),
    Conv(h=15, w=17, c=32, k=72, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pad_end=(0, 2)),
    Conv(h=9, w=9, c=128, k=256),
    Conv(h=20, w=20, c=3, k=32, kernel=(7, 7), stride=(2, 2), pad=(3, 3)),
    Conv(h=12, w=12, c=48, k=96, kernel=(3, 3), pad=(2, 2), dilation=(2, 2), groups=2),
    Conv(h=28, w=28, c=96, k=96, n=2, kernel=(5, 5), pad=(2, 2), groups=96),
)


def _aligned(size: int, dtype: DType) -> int:
    """Bytes that rows of `size` elements are aligned to."""
    return min(16, (size & -size) * dtype.size_bytes)


def gemm(m: int, n: int, k: int, dtype: DType, epilogue: Epilogue, extras: tuple[Operand, ...]) -> GemmSpec:
    """A product with constant weights."""

    def dense(rows: int, columns: int) -> Operand:
        made = Operand.dense(dtype, (1, 1, rows, columns))
        return replace(made, alignment=_aligned(columns, dtype))

    operands = (dense(m, n), dense(m, k), dense(k, n), *extras)
    return GemmSpec(operands=operands, epilogue=epilogue, constants=(2,))


STEPS = frozenset({"floor", "ceil", "round", "trunc", "sign", "not", "bool", "isnan", "isinf"})
"""Rows where a sum's last bit may decide about the result: they get integers."""

POSITIVE = frozenset({"sqrt", "reciprocal", "log", "acosh"})
BOUNDED = frozenset({"asin", "acos", "atanh", "tan"})

UNARY = tuple(name for name, op in OPS.items() if op.arity == 1)


def in_domain(b: Builder, name: str, x: int) -> int:
    """What the row is given: defined there, and small enough for an exponential."""
    if name in STEPS:
        return x
    x = b.op("mul", x, b.const(0.125))
    if name in POSITIVE:
        return b.op("add", b.op("abs", x), b.const(1.0))
    return b.op("mul", b.op("sin", x), b.const(0.5)) if name in BOUNDED else x


def families(spec: Spec) -> list[DeviceFamily]:
    return [f for f in FAMILIES.values() if f.supports(spec, real_gpu.target()) is None]


def run(spec: Spec, *, exact: bool) -> None:
    """By each family that takes it."""
    able = families(spec)
    assert able, "no family takes it"
    for family in able:
        best = enumerate_candidates(spec, real_gpu.target(), families=[family]).candidates[0]
        check(family, spec, real_gpu.target(), config=best.config, exact=exact)


def biased(name: str | None, m: int, n: int) -> tuple[Epilogue, tuple[Operand, ...]]:
    b = Builder()
    total = b.op("add", b.acc(), b.input(0))
    bias = replace(f32((1, 1, m, n), (0, 0, 0, 1)), alignment=16)
    if name:
        total = b.op(name, in_domain(b, name, total), params=PARAMS.get(name, ()))
    return b.finish(total), (bias,)


@pytest.mark.parametrize("dtype", (F16, BF16), ids=("f16", "bf16"))
@pytest.mark.parametrize("sizes", SIZES, ids=lambda s: "x".join(map(str, s)))
def test_gemm_sizes(sizes: tuple[int, int, int], dtype: DType) -> None:
    m, n, k = sizes
    run(gemm(m, n, k, dtype, *biased("relu", m, n)), exact=True)
    run(gemm(m, n, k, dtype, *biased(None, m, n)), exact=False)


@pytest.mark.parametrize("name", UNARY)
def test_gemm_epilogues(name: str) -> None:
    run(gemm(130, 136, 72, F16, *biased(name, 130, 136)), exact=name in STEPS)


@pytest.mark.parametrize("epilogue", ("none", "bias_relu", "residual", "gate"))
@pytest.mark.parametrize("index", range(len(CONVS)))
def test_convs(index: int, epilogue: str) -> None:
    spec = on_device(replace(CONVS[index], epilogue=epilogue))
    if epilogue != "gate":  # which has a sigmoid
        run(spec, exact=True)
    run(spec, exact=False)
