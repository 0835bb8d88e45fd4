"""Products of bf16 and of 8-bit integers: cpu_conv and cpu_gemm with all types of operands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.conv_specs import Conv
from kernels.harness import ALL_TARGETS, TOLERANCES, check, operand

from bolt.epilogue import Builder
from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.cpu_gemm import CpuGemm
from bolt.kernels.igemm import widest_rows
from bolt.kernels.products import PRODUCTS, Product, words_of_taps
from bolt.ops.gemm import GemmSpec
from bolt.target import CPU_TARGETS, X86_AVX512, X86_AVX512_BF16, X86_AVX512_VNNI, Target
from bolt.types import BF16, F32, S8, U8, DType

CPU_CONV, CPU_GEMM = CpuConv(), CpuGemm()

PAIRS = [
    pytest.param(product, targets[0], id=f"{product.a}x{product.b}-{targets[0].name}")
    for product in PRODUCTS
    if product.a is not F32 and (targets := [t for t in ALL_TARGETS if product.runs_on(t)])
]
"""What targets that run here multiply, on the best of them: sources are the same for all."""

CASES = {
    "1x1": Conv(h=5, w=5, c=8, k=32),
    "1x1_of_part_of_a_word": Conv(h=3, w=4, c=1, k=5),
    "1x1_last_word_overlaps": Conv(n=2, h=4, w=7, c=5, k=19, c_wide=9, k_wide=23),
    "1x1_stride2": Conv(h=9, w=8, c=16, k=24, stride=(2, 2)),
    "3x3": Conv(h=6, w=9, c=16, k=33, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu"),
    "3x3_joined_taps": Conv(h=11, w=12, c=3, k=20, kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
    "3x3_apart": Conv(h=6, w=5, c=7, k=20, kernel=(3, 3), pad=(1, 1), c_wide=8),
    "7x7_stem": Conv(n=2, h=15, w=14, c=3, k=16, kernel=(7, 7), stride=(2, 2), pad=(3, 3)),
    "few_channels_dilated": Conv(h=9, w=11, c=3, k=12, kernel=(3, 2), dilation=(2, 3), pad=(2, 3)),
    "1d": Conv(n=3, h=1, w=20, c=7, k=9, kernel=(1, 5), pad=(0, 2)),
    "fully_connected": Conv(h=1, w=1, c=70, k=130),
    "groups": Conv(h=5, w=6, c=12, k=72, kernel=(3, 3), pad=(1, 1), groups=3),
    "groups_of_odd_channels": Conv(h=4, w=5, c=30, k=10, kernel=(2, 2), groups=5, c_wide=32),
}


def with_types(conv: Conv, product: Product, out: DType) -> Conv:
    return replace(conv, a=product.a, b=product.b, out=out)


@pytest.mark.parametrize("product,target", PAIRS)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, product: Product, target: Target) -> None:
    spec = with_types(CASES[case], product, F32).spec()
    for parts, end in ((1, 1), (3, 0)):
        check(CPU_CONV, spec, target=target, parts=parts, page_end=(end,))


@pytest.mark.parametrize("product,target", PAIRS)
@pytest.mark.parametrize("out", [BF16, U8, S8], ids=str)
def test_types_of_output_and_residual(out: DType, product: Product, target: Target) -> None:
    check(CPU_CONV, with_types(CASES["3x3_apart"], product, out).spec(), target=target, page_end=(0,))


@pytest.mark.parametrize("product,target", PAIRS)
def test_normal_values(product: Product, target: Target) -> None:
    for case in ("3x3", "groups", "7x7_stem"):
        spec = with_types(CASES[case], product, product.a).spec()
        check(CPU_CONV, spec, target=target, exact=not product.a.is_float, tolerance=TOLERANCES[product.a])


@pytest.mark.parametrize("product,target", PAIRS)
def test_run_time_extents(product: Product, target: Target) -> None:
    for n, h, w in ((1, 1, 1), (2, 3, 40)):
        conv = Conv(n=n, h=h, w=w, c=6, k=20, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu")
        spec, ints = with_types(conv, product, F32).dynamic()
        check(CPU_CONV, spec, ints, target=target, parts=2)


@pytest.mark.parametrize("product,target", PAIRS)
def test_register_tiles(product: Product, target: Target) -> None:
    conv = Conv(h=2, w=31, c=10, k=100, kernel=(1, 3), pad=(0, 1), epilogue="bias_relu")
    spec = with_types(conv, product, F32).spec()
    configs = CPU_CONV.configs(spec, target)
    assert all(c.mr <= widest_rows(c.nv, target, product) for c in configs)
    tiles = {(c.mr, c.nv): c for c in configs}
    for config in list(tiles.values())[:: 1 if product.size == 2 else 3]:
        check(CPU_CONV, spec, target=target, config=config)


@pytest.mark.parametrize("product,target", [p for p in PAIRS if p.values[0].b is S8])
def test_integers_up_to_their_limits(product: Product, target: Target) -> None:
    spec = with_types(Conv(h=3, w=5, c=37, k=21, epilogue="none"), product, F32).spec()
    limits, rng = np.iinfo(product.a.np), np.random.default_rng(5)
    x = rng.choice(np.array([limits.min, limits.max, 1], product.a.np), spec.operands[1].dims)
    weights = rng.choice(np.array([-128, 127, -1], np.int8), spec.operands[2].dims)
    got = check(CPU_CONV, spec, target=target, values={1: x, 2: weights})
    assert np.abs(got).max() > 2**16


@pytest.mark.parametrize("product,target", [p for p in PAIRS if p.values[0].a is U8])
def test_requantized_results_round_to_even_and_saturate(product: Product, target: Target) -> None:
    b = Builder()
    scaled = b.op("mul", b.acc(), b.input(0))
    epilogue = b.finish(b.op("add", scaled, b.const(3.0)))
    spec = with_types(Conv(h=6, w=7, c=12, k=40, epilogue="bias_relu"), product, U8).spec()
    spec = replace(spec, epilogue=epilogue)
    scales = np.array([0.25, 0.5, 16.0], np.float32)[np.arange(40) % 3].reshape(1, 1, 1, 40)
    got = check(CPU_CONV, spec, target=target, values={3: scales})
    assert got.min() == 0 and got.max() == 255


def gemm(product: Product, out: DType, *, m: int, n: int, k: int) -> GemmSpec:
    """A product of a matrix with a constant one."""
    operands = (
        operand(out, (1, 2, m, n)),
        operand(product.a, (1, 2, m, k)),
        operand(product.b, (1, 1, k, n)),
    )
    return GemmSpec(operands=operands, constants=(2,))


@pytest.mark.parametrize("product,target", PAIRS)
def test_products_with_a_constant_matrix(product: Product, target: Target) -> None:
    for m, n, k in ((17, 40, 9), (3, 33, 70), (1, 101, 64), (5, 7, 2)):
        check(CPU_GEMM, gemm(product, F32, m=m, n=n, k=k), target=target, parts=2, page_end=(0, 1))


def test_words_of_a_tap_never_reach_behind_it() -> None:
    weights = np.arange(1, 8, dtype=np.int8).reshape(1, 7, 1)
    bytes_of = next(p for p in PRODUCTS if p.a is U8)
    assert words_of_taps(weights, bytes_of).tolist() == [[[1, 2, 3, 4]], [[0, 5, 6, 7]]]
    assert words_of_taps(weights[:, :3], bytes_of).tolist() == [[[1, 2, 3, 0]]]


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_targets_without_the_instruction_refuse(target: Target) -> None:
    for product in PRODUCTS:
        rejection = CPU_CONV.supports(with_types(CASES["3x3"], product, F32).spec(), target)
        assert (rejection is None) == product.runs_on(target)
        assert rejection is None or f"{target.name} has no instruction" in rejection.reason


def test_which_targets_have_which_products() -> None:
    assert X86_AVX512_BF16.has_bf16 and X86_AVX512_BF16.has_vnni
    assert X86_AVX512_VNNI.has_vnni and not X86_AVX512_VNNI.has_bf16
    assert not X86_AVX512.has_vnni and not X86_AVX512.has_bf16


@pytest.mark.parametrize("a,b", [(F32, BF16), (U8, U8), (BF16, F32)])
def test_other_products_are_refused(a: DType, b: DType) -> None:
    spec = replace(CASES["1x1"], a=a, b=b).spec()
    rejection = CPU_CONV.supports(spec, X86_AVX512_BF16)
    assert rejection is not None and f"not {a} x {b}" in rejection.reason
