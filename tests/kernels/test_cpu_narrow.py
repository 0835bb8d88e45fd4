"""cpu_narrow_conv and cpu_narrow_gemm: channels, taps, tails, views, run-time extents, storage types."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels.conv_specs import Conv, unknown_outer
from kernels.harness import CPU_TARGETS, check, f32, ints_of, like, per_channel

from bolt.epilogue import Builder
from bolt.kernels.cpu_narrow_conv import CpuNarrowConv
from bolt.kernels.cpu_narrow_gemm import CpuNarrowGemm
from bolt.kernels.narrow import MOST_CHANNELS
from bolt.ops.gemm import GemmSpec
from bolt.target import Target
from bolt.types import BF16, F32, S8, U8, DType

CONV, GEMM = CpuNarrowConv(), CpuNarrowGemm()
CASES = {
    "3x3_to_1": Conv(h=6, w=19, c=32, k=1, kernel=(3, 3), pad=(1, 1)),
    "3x3_to_1_apart": Conv(h=6, w=9, c=21, k=1, k_wide=3, kernel=(3, 3), pad=(1, 1)),
    "3x3_to_3": Conv(n=2, h=7, w=9, c=20, k=3, kernel=(3, 3), pad=(1, 1), c_wide=24, k_wide=5),
    "stride2": Conv(h=9, w=12, c=17, k=2, kernel=(3, 3), pad=(1, 1), stride=(2, 2), epilogue="bias_relu"),
    "few_to_few": Conv(h=5, w=11, c=3, k=3, kernel=(3, 3), pad=(1, 1)),
    "dilated": Conv(h=9, w=12, c=16, k=2, kernel=(3, 2), pad=(2, 3), dilation=(2, 3)),
    "1x1_to_4": Conv(h=4, w=5, c=40, k=4, epilogue="none"),
    "1d": Conv(h=1, w=40, c=1, k=2, kernel=(1, 30), stride=(1, 4)),
}


EVERYWHERE = ("3x3_to_1", "3x3_to_3", "stride2")


@pytest.mark.parametrize(
    ("case", "target"),
    [(case, t) for t in CPU_TARGETS for case in (CASES if t is CPU_TARGETS[0] else EVERYWHERE)],
    ids=lambda v: getattr(v, "name", v),
)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for shares, parts, at_end in ((False, 1, 1), (True, 3, 0)):
        configs = [c for c in CONV.configs(spec, target) if c.shares == shares]
        if configs:
            check(CONV, spec, target=target, config=configs[0], parts=parts, page_end=(at_end,))


@pytest.mark.parametrize("k", [1, 2])
def test_run_time_extents(k: int) -> None:
    for n, h, w in [(1, 1, 1), (2, 3, 37)]:
        conv = Conv(n=n, h=h, w=w, c=18, k=k, kernel=(3, 3), pad=(1, 1), epilogue="gate")
        spec, ints = conv.dynamic()
        check(CONV, spec, ints, target=CPU_TARGETS[0], parts=2, exact=False)


def test_configs() -> None:
    spec = Conv(h=2, w=29, c=35, k=1, kernel=(3, 3), pad=(1, 1)).spec()
    for config in CONV.configs(spec, CPU_TARGETS[0])[::6]:
        check(CONV, spec, target=CPU_TARGETS[0], config=config, exact=False)


@pytest.mark.parametrize(("out", "a", "b"), [(BF16, BF16, BF16), (F32, U8, S8), (F32, S8, S8)], ids=str)
def test_storage_types(out: DType, a: DType, b: DType) -> None:
    spec = Conv(h=5, w=9, c=19, k=1, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu").spec()
    types = (out, a, b)
    operands = tuple(replace(o, dtype=types[i]) if i < len(types) else o for i, o in enumerate(spec.operands))
    stored = replace(spec, operands=operands)
    check(CONV, stored, target=CPU_TARGETS[0], exact=out is F32, tolerance=1e-2)


def gemm(m: int, k: int, n: int) -> GemmSpec:
    """relu(a @ b + bias + residual) with a constant b."""
    out, b = f32((1, 1, m, n)), Builder()
    total = b.op("add", b.op("add", b.acc(), b.input(0)), b.input(1))
    return GemmSpec(
        operands=(out, f32((1, 1, m, k)), f32((1, 1, k, n)), per_channel(out), like(out, out.strides)),
        epilogue=b.finish(b.op("relu", total)),
        constants=(2,),
    )


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 70, 1), (19, 33, 1), (7, 64, 3), (3, 5, 4)])
def test_gemm(m: int, k: int, n: int, target: Target) -> None:
    check(GEMM, gemm(m, k, n), target=target, parts=2, page_end=(1,))


def test_gemm_of_run_time_rows() -> None:
    static = gemm(21, 50, 2)
    spec = replace(
        static, operands=tuple(o if i == 2 else unknown_outer(o) for i, o in enumerate(static.operands))
    )
    check(GEMM, spec, ints_of(spec, static.operands), target=CPU_TARGETS[0], parts=3)


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_what_is_supported_has_configs(target: Target) -> None:
    specs = [Conv(h=4, w=9, c=8, k=k, kernel=(3, 3), pad=(1, 1)).spec() for k in range(1, MOST_CHANNELS + 1)]
    supported = [spec for spec in specs if CONV.supports(spec, target) is None]
    assert len(supported) >= 4
    assert all(CONV.configs(spec, target) for spec in supported)


def test_wide_results_are_refused() -> None:
    target = CPU_TARGETS[0]
    assert CONV.supports(Conv(h=4, w=4, c=8, k=MOST_CHANNELS + 1).spec(), target) is not None
    assert CONV.supports(Conv(h=4, w=4, c=8, k=4, groups=2).spec(), target) is not None
    assert GEMM.supports(gemm(4, 8, MOST_CHANNELS + 1), target) is not None
    assert GEMM.supports(replace(gemm(4, 8, 2), constants=()), target) is not None
