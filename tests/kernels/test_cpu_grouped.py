"""cpu_grouped: sizes of groups, strides, dilations, tails, views, run-time extents, storage types, shares."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels.conv_specs import Conv
from kernels.harness import CPU_TARGETS, check

from bolt.kernels.cpu_grouped import CpuGrouped
from bolt.ops.conv import ConvSpec
from bolt.target import Target
from bolt.types import BF16, F32, S8, U8, DType

CPU_GROUPED = CpuGrouped()
CASES = {
    "2_to_2": Conv(h=6, w=9, c=32, k=32, groups=16, kernel=(3, 3), pad=(1, 1)),
    "1_to_2": Conv(h=5, w=7, c=16, k=32, groups=16, kernel=(3, 3), pad=(1, 1), c_wide=17, k_wide=40),
    "stride2": Conv(n=2, h=9, w=12, c=22, k=22, groups=11, kernel=(3, 3), pad=(1, 1), stride=(2, 2)),
    "dilated": Conv(h=9, w=12, c=10, k=10, groups=5, kernel=(3, 3), pad=(2, 3), dilation=(2, 3)),
    "1d_long": Conv(h=1, w=40, c=6, k=6, groups=3, kernel=(1, 11), pad=(0, 5), epilogue="bias_relu"),
    "1x1": Conv(h=3, w=5, c=12, k=12, groups=6, epilogue="none"),
    "one_group_left": Conv(h=4, w=4, c=2 * 9, k=2 * 9, groups=9, kernel=(2, 2), pad=(1, 0), pad_end=(0, 1)),
    "4_to_4": Conv(h=6, w=20, c=64, k=64, groups=16, kernel=(3, 3), pad=(1, 1)),
    "8_to_8": Conv(h=5, w=7, c=24, k=24, groups=3, kernel=(3, 3), pad=(1, 1), stride=(2, 1)),
    "3_to_3": Conv(h=5, w=18, c=33, k=33, groups=11, kernel=(3, 3), pad=(1, 1)),
    "5_to_6": Conv(h=5, w=9, c=20, k=24, groups=4, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu"),
    "3_to_4": Conv(h=5, w=7, c=15, k=20, groups=5, kernel=(3, 3), pad=(1, 1)),
}


EVERYWHERE = ("2_to_2", "stride2", "one_group_left")
"""Cases for targets of fewer lanes too; their vectors hold no more than two channels of several groups."""


@pytest.mark.parametrize(
    ("case", "target"),
    [
        (case, target)
        for target in CPU_TARGETS
        for case in (CASES if target.vector_lanes == 16 else EVERYWHERE)
    ],
    ids=lambda v: getattr(v, "name", v),
)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for parts, at_end in ((1, 1), (3, 0)):
        check(CPU_GROUPED, spec, target=target, parts=parts, page_end=(at_end,))


def test_run_time_extents() -> None:
    for n, h, w in [(1, 1, 1), (2, 5, 13), (1, 3, 40)]:
        conv = Conv(n=n, h=h, w=w, c=14, k=14, groups=7, kernel=(3, 3), pad=(1, 1), epilogue="gate")
        spec, ints = conv.dynamic()
        check(CPU_GROUPED, spec, ints, target=CPU_TARGETS[0], parts=2, exact=False)


def test_configs() -> None:
    target = CPU_TARGETS[0]
    spec = Conv(h=3, w=13, c=40, k=40, groups=20, kernel=(3, 3), pad=(1, 1)).spec()
    for config in CPU_GROUPED.configs(spec, target)[::5]:
        check(CPU_GROUPED, spec, target=target, config=config, exact=False)


def stored(spec: ConvSpec, out: DType, a: DType, b: DType) -> ConvSpec:
    """`spec` with its output, input and weights of other types."""
    types = (out, a, b)
    operands = tuple(replace(o, dtype=types[i]) if i < len(types) else o for i, o in enumerate(spec.operands))
    return replace(spec, operands=operands)


@pytest.mark.parametrize(("out", "a", "b"), [(BF16, BF16, BF16), (F32, U8, S8), (F32, S8, S8)], ids=str)
def test_storage_types(out: DType, a: DType, b: DType) -> None:
    conv = Conv(h=5, w=9, c=14, k=14, groups=7, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu")
    check(
        CPU_GROUPED, stored(conv.spec(), out, a, b), target=CPU_TARGETS[0], exact=out is F32, tolerance=1e-2
    )


def test_what_does_not_share_vectors_is_refused() -> None:
    lanes = CPU_TARGETS[0].vector_lanes
    for conv in (
        Conv(h=4, w=4, c=8, k=8),
        Conv(h=4, w=4, c=8, k=8, groups=8),
        Conv(h=4, w=4, c=2 * lanes - 2, k=2 * lanes - 2, groups=2),
        Conv(h=4, w=4, c=2 * lanes, k=2 * lanes, groups=2),
        Conv(h=4, w=4, c=4 * lanes, k=2 * lanes, groups=lanes),
    ):
        assert CPU_GROUPED.supports(conv.spec(), CPU_TARGETS[0]) is not None
