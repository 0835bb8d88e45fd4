"""cpu_depthwise: kernels, strides, dilations, channel tails, views, run-time extents, shares."""

from __future__ import annotations

import pytest
from kernels.conv_specs import Conv
from kernels.harness import CPU_TARGETS, check

from bolt.kernels.cpu_depthwise import CpuDepthwise
from bolt.target import Target

CPU_DEPTHWISE = CpuDepthwise()
CASES = {
    "3x3": Conv(h=6, w=9, c=32, k=32, groups=32, kernel=(3, 3), pad=(1, 1)),
    "3x3_stride2": Conv(n=2, h=9, w=12, c=21, k=21, groups=21, kernel=(3, 3), pad=(1, 1), stride=(2, 2)),
    "5x5_views": Conv(h=7, w=6, c=17, k=17, groups=17, kernel=(5, 5), pad=(2, 2), c_wide=19, k_wide=24),
    "7x7": Conv(h=8, w=15, c=16, k=16, groups=16, kernel=(7, 7), pad=(3, 3), epilogue="bias_relu"),
    "9x9": Conv(h=9, w=10, c=5, k=5, groups=5, kernel=(9, 9), pad=(4, 4), epilogue="none"),
    "1d_long": Conv(h=1, w=50, c=6, k=6, groups=6, kernel=(1, 31), pad=(0, 15)),
    "dilated": Conv(h=9, w=12, c=8, k=8, groups=8, kernel=(3, 3), pad=(2, 3), dilation=(2, 3)),
    "uneven": Conv(h=5, w=6, c=4, k=4, groups=4, kernel=(2, 4), stride=(1, 3), pad=(1, 0), pad_end=(0, 2)),
    "1x1": Conv(h=3, w=3, c=10, k=10, groups=10),
    "one_pixel": Conv(h=1, w=1, c=3, k=3, groups=3, kernel=(3, 3), pad=(1, 1)),
}


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for parts in (1, 3):
        check(CPU_DEPTHWISE, spec, target=target, parts=parts, page_end=(0,) if parts == 3 else (1,))


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_extents(target: Target) -> None:
    for n, h, w in [(1, 1, 1), (2, 5, 13), (1, 3, 40)]:
        conv = Conv(n=n, h=h, w=w, c=9, k=9, groups=9, kernel=(3, 3), pad=(1, 1), epilogue="gate")
        spec, ints = conv.dynamic()
        check(CPU_DEPTHWISE, spec, ints, target=target, parts=2, exact=False)


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_configs(target: Target) -> None:
    spec = Conv(h=3, w=13, c=20, k=20, groups=20, kernel=(3, 3), pad=(1, 1)).spec()
    for config in CPU_DEPTHWISE.configs(spec, target)[::4]:
        check(CPU_DEPTHWISE, spec, target=target, config=config, exact=False)


def test_shares_split_channels_of_small_images() -> None:
    spec = Conv(h=2, w=2, c=200, k=200, groups=200, kernel=(3, 3), pad=(1, 1)).spec()
    check(CPU_DEPTHWISE, spec, target=CPU_TARGETS[0], parts=6)


def test_other_convolutions_are_refused() -> None:
    for conv in (Conv(h=4, w=4, c=8, k=8), Conv(h=4, w=4, c=8, k=16, groups=8)):
        assert CPU_DEPTHWISE.supports(conv.spec(), CPU_TARGETS[0]) is not None
