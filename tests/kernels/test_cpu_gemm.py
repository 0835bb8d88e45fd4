"""cpu_gemm: constant and variable b, any strides, run-time sizes, deep reductions, shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from kernels.conv_specs import epilogue_of
from kernels.harness import ALL_TARGETS, CPU_TARGETS, TOLERANCES, check, ints_of, like, operand

from bolt.epilogue import Builder
from bolt.kernels.cpu_gemm import CpuGemm, PackedConfig
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand
from bolt.target import Target
from bolt.types import BF16, F32, S8, U8, DType

CPU_GEMM = CpuGemm()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """A product by its sizes.

    Attributes:
        m, n, k, b0, b1: extents.
        ta, tb: a, b are stored transposed.
        constant: b is one packed matrix.
        shared: all batches have the same b.
        a, b, out: types of the operands.
        epilogue: as `epilogue_of` names it.
    """

    m: int
    n: int
    k: int
    b0: int = 1
    b1: int = 1
    ta: bool = False
    tb: bool = False
    constant: bool = False
    shared: bool = False
    a: DType = F32
    b: DType = F32
    out: DType = F32
    epilogue: str = "residual"

    def spec(self) -> GemmSpec:
        batch = (self.b0, self.b1)
        out = operand(self.out, (*batch, self.m, self.n))
        expression, extras = epilogue_of(self.epilogue, out)
        a = _matrix(self.a, batch, self.m, self.k, transposed=self.ta)
        operands = (out, a, self._b(), *extras)
        return GemmSpec(operands=operands, epilogue=expression, constants=(2,) if self.constant else ())

    def _b(self) -> Operand:
        if self.constant:
            return operand(self.b, (1, 1, self.k, self.n))
        b = _matrix(self.b, (self.b0, self.b1), self.k, self.n, transposed=self.tb)
        return replace(b, strides=(0, 0, *b.strides[2:])) if self.shared else b


def _matrix(dtype: DType, batch: tuple[int, int], rows: int, columns: int, *, transposed: bool) -> Operand:
    inner = (1, rows) if transposed else (columns, 1)
    return operand(dtype, (*batch, rows, columns), (batch[1] * rows * columns, rows * columns, *inner))


CASES = {
    "constant": Gemm(m=17, n=40, k=9, constant=True),
    "constant_batches": Gemm(m=3, n=33, k=70, b0=2, b1=4, constant=True, epilogue="bias_relu"),
    "constant_vector": Gemm(m=1, n=101, k=65, constant=True),
    "constant_transposed_a": Gemm(m=6, n=20, k=11, ta=True, constant=True),
    "constant_one_column": Gemm(m=9, n=1, k=33, constant=True),
    "plain": Gemm(m=29, n=70, k=19, b0=2),
    "transposed_b": Gemm(m=18, n=37, k=35, b1=3, tb=True),
    "transposed_both": Gemm(m=13, n=16, k=16, b0=2, b1=2, ta=True, tb=True, epilogue="none"),
    "vector": Gemm(m=1, n=50, k=20, b1=2),
    "one_by_one": Gemm(m=1, n=1, k=1),
    "one_column": Gemm(m=21, n=1, k=40, b1=2, tb=True),
    "shared_b": Gemm(m=5, n=24, k=7, b0=2, b1=3, shared=True),
    "deep": Gemm(m=40, n=37, k=4100, b1=2, tb=True),
}


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for parts in (1, 3):
        check(CPU_GEMM, spec, target=target, parts=parts, page_end=(0, 2) if parts == 3 else (1,))


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("constant", [True, False])
def test_normal_values(constant: bool, target: Target) -> None:
    check(CPU_GEMM, Gemm(m=33, n=47, k=129, constant=constant).spec(), target=target, exact=False)


def _unknown(operand: Operand, axes: tuple[int, ...]) -> Operand:
    """`operand` with some dims, and all strides but 0 and 1, known at run time only."""
    dims = tuple(None if i in axes else d for i, d in enumerate(operand.dims))
    return replace(operand, dims=dims, strides=tuple(s if s in (0, 1) else None for s in operand.strides))


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_sizes(target: Target) -> None:
    for m, n, k in ((1, 1, 1), (31, 33, 5), (16, 48, 100)):
        static = Gemm(m=m, n=n, k=k, b1=2, tb=True, epilogue="none").spec()
        out, a, b = static.operands
        operands = (_unknown(out, (0, 1, 2, 3)), _unknown(a, (0, 1, 2, 3)), _unknown(b, (0, 1, 2, 3)))
        spec = replace(static, operands=operands)
        check(CPU_GEMM, spec, ints_of(spec, static.operands), target=target, parts=2)


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_rows_with_constant_b(target: Target) -> None:
    for b1, m in ((1, 1), (3, 5), (1, 40)):
        static = Gemm(m=m, n=50, k=20, b1=b1, constant=True).spec()
        rows = [o if i == 2 else _unknown(o, (1, 2)) for i, o in enumerate(static.operands)]
        spec = replace(static, operands=tuple(rows))
        check(CPU_GEMM, spec, ints_of(spec, static.operands), target=target, parts=2)


def test_attention_scores_with_scale_and_mask() -> None:
    static = Gemm(m=20, n=20, k=32, b0=2, b1=3, tb=True, epilogue="none").spec()
    b = Builder()
    expression = b.finish(b.op("add", b.op("mul", b.acc(), b.const(0.125)), b.input(0)))
    mask = like(static.out, (20, 0, 0, 1))
    spec = GemmSpec(operands=(*static.operands, mask), epilogue=expression)
    for target in CPU_TARGETS:
        check(CPU_GEMM, spec, target=target, parts=2)


def test_every_packed_config() -> None:
    for target in CPU_TARGETS:
        spec = Gemm(m=23, n=130, k=6, tb=True).spec()
        for config in CPU_GEMM.configs(spec, target):
            assert isinstance(config, PackedConfig)
            check(CPU_GEMM, spec, target=target, config=config)


@pytest.mark.parametrize("parts", [2, 5, 16])
def test_any_number_of_shares(parts: int) -> None:
    for gemm in (Gemm(m=2, n=300, k=4), Gemm(m=90, n=8, k=4, b1=2), Gemm(m=1, n=300, k=4, constant=True)):
        check(CPU_GEMM, gemm.spec(), target=CPU_TARGETS[-1], parts=parts)


PAIRED = [t for t in ALL_TARGETS if t.has_bf16]
BF16_CASES = {
    "plain": Gemm(m=29, n=70, k=19, b0=2),
    "transposed_b": Gemm(m=18, n=37, k=35, b1=3, tb=True),
    "transposed_b_whole_tiles": Gemm(m=5, n=64, k=72, b1=2, tb=True),
    "transposed_a": Gemm(m=13, n=16, k=16, b0=2, ta=True, epilogue="none"),
    "depth_of_one": Gemm(m=5, n=20, k=1, b1=2),
    "deep": Gemm(m=20, n=37, k=8201, tb=True),
    "deep_rows": Gemm(m=3, n=100, k=4097),
    "constant_transposed_a": Gemm(m=6, n=20, k=11, ta=True, constant=True),
}


@pytest.mark.parametrize("target", PAIRED, ids=lambda t: t.name)
@pytest.mark.parametrize("case", BF16_CASES)
def test_bf16(case: str, target: Target) -> None:
    spec = replace(BF16_CASES[case], a=BF16, b=BF16, out=BF16).spec()
    for parts, ends in ((1, (1,)), (3, (0, 2))):
        check(CPU_GEMM, spec, target=target, parts=parts, page_end=ends)


@pytest.mark.parametrize("target", PAIRED, ids=lambda t: t.name)
def test_bf16_of_normal_values_and_run_time_sizes(target: Target) -> None:
    for m, n, k in ((1, 1, 1), (31, 33, 5), (16, 48, 100)):
        static = Gemm(m=m, n=n, k=k, b1=2, tb=True, a=BF16, b=BF16, epilogue="none").spec()
        operands = tuple(_unknown(o, (0, 1, 2, 3)) for o in static.operands)
        spec, tolerance = replace(static, operands=operands), TOLERANCES[BF16]
        bound = ints_of(spec, static.operands)
        check(CPU_GEMM, spec, bound, target=target, parts=2, exact=False, tolerance=tolerance)


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("a,b,out", [(BF16, BF16, F32), (U8, S8, F32), (F32, BF16, BF16), (S8, F32, U8)])
def test_mixed_types_are_multiplied_as_fp32(a: DType, b: DType, out: DType, target: Target) -> None:
    for gemm in (Gemm(m=9, n=37, k=35, tb=True), Gemm(m=4, n=21, k=6, ta=True)):
        check(CPU_GEMM, replace(gemm, a=a, b=b, out=out).spec(), target=target, page_end=(1, 2))
