"""cpu_depthwise_words: kernels, strides, channel tails, views, run-time extents, shares, limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.conv_specs import Conv
from kernels.harness import ALL_TARGETS, check

from bolt.kernels.cpu_depthwise_words import CpuDepthwiseWords
from bolt.kernels.products import BYTES, Product
from bolt.ops.conv import ConvSpec
from bolt.target import X86_AVX512, X86_AVX512_VNNI, Target
from bolt.types import F32, S8, U8, DType

FAMILY = CpuDepthwiseWords()
PAIRS = [
    pytest.param(product, targets[0], id=str(product.a))
    for product in BYTES
    if (targets := [t for t in ALL_TARGETS if product.runs_on(t)])
]
CASES = {
    "3x3": Conv(h=6, w=9, c=32, k=32, groups=32, kernel=(3, 3), pad=(1, 1)),
    "3x3_stride2": Conv(n=2, h=9, w=12, c=21, k=21, groups=21, kernel=(3, 3), pad=(1, 1), stride=(2, 2)),
    "3x3_blocks": Conv(h=4, w=7, c=144, k=144, groups=144, kernel=(3, 3), pad=(1, 1), c_wide=150),
    "3x3_whole_blocks": Conv(h=3, w=5, c=128, k=128, groups=128, kernel=(3, 3), stride=(1, 2)),
    "5x5_views": Conv(h=7, w=6, c=17, k=17, groups=17, kernel=(5, 5), pad=(2, 2), c_wide=19, k_wide=24),
    "5x5_stride2": Conv(h=9, w=11, c=72, k=72, groups=72, kernel=(5, 5), pad=(2, 2), stride=(2, 2)),
    "7x7": Conv(h=8, w=15, c=16, k=16, groups=16, kernel=(7, 7), pad=(3, 3), epilogue="bias_relu"),
    "dilated_rows": Conv(h=9, w=12, c=8, k=8, groups=8, kernel=(3, 2), pad=(2, 0), dilation=(2, 1)),
    "4_columns": Conv(h=3, w=8, c=5, k=5, groups=5, kernel=(1, 4), epilogue="none"),
    "1x1": Conv(h=3, w=3, c=10, k=10, groups=10),
    "one_pixel": Conv(h=1, w=1, c=3, k=3, groups=3, kernel=(3, 3), pad=(1, 1)),
}


def spec_of(conv: Conv, product: Product, out: DType = F32) -> ConvSpec:
    return replace(conv, a=product.a, b=product.b, out=out).spec()


@pytest.mark.parametrize("product,target", PAIRS)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, product: Product, target: Target) -> None:
    for parts, end in ((1, 1), (3, 0)):
        check(FAMILY, spec_of(CASES[case], product), target=target, parts=parts, page_end=(end,))


@pytest.mark.parametrize("product,target", PAIRS)
@pytest.mark.parametrize("out", [U8, S8], ids=str)
def test_integers_up_to_their_limits(out: DType, product: Product, target: Target) -> None:
    conv = Conv(h=3, w=9, c=80, k=80, groups=80, kernel=(3, 3), epilogue="none")
    limits, rng = np.iinfo(product.a.np), np.random.default_rng(5)
    spec = spec_of(conv, product)
    x = rng.choice(np.array([limits.min, limits.max, 1], product.a.np), spec.operands[1].dims)
    weights = rng.choice(np.array([-128, 127, -1], np.int8), spec.operands[2].dims)
    assert np.abs(check(FAMILY, spec, target=target, values={1: x, 2: weights})).max() > 2**16
    check(FAMILY, spec_of(conv, product, out), target=target, values={1: x, 2: weights})


@pytest.mark.parametrize("product,target", PAIRS)
def test_run_time_extents(product: Product, target: Target) -> None:
    for n, h, w in ((1, 1, 1), (2, 5, 13)):
        conv = Conv(n=n, h=h, w=w, c=9, k=9, groups=9, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu")
        spec, ints = replace(conv, a=product.a, b=product.b).dynamic()
        check(FAMILY, spec, ints, target=target, parts=2)


@pytest.mark.parametrize("product,target", PAIRS)
def test_configs(product: Product, target: Target) -> None:
    for channels in (20, 70):
        conv = Conv(h=3, w=13, c=channels, k=channels, groups=channels, kernel=(3, 3), pad=(1, 1))
        for config in FAMILY.configs(spec_of(conv, product), target)[::2]:
            check(FAMILY, spec_of(conv, product), target=target, config=config)


def test_what_it_does_not_compute() -> None:
    u8 = BYTES[0]
    assert FAMILY.supports(spec_of(CASES["3x3"], u8), X86_AVX512_VNNI) is None
    assert FAMILY.supports(spec_of(CASES["3x3"], u8), X86_AVX512) is not None
    for conv in (
        Conv(h=4, w=4, c=8, k=8),
        replace(CASES["3x3"], dilation=(1, 2)),
        replace(CASES["3x3"], stride=(1, 3)),
        replace(CASES["3x3"], kernel=(1, 8)),
    ):
        assert FAMILY.supports(spec_of(conv, u8), X86_AVX512_VNNI) is not None
    assert FAMILY.supports(CASES["3x3"].spec(), X86_AVX512_VNNI) is not None
