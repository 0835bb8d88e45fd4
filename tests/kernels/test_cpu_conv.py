"""cpu_conv: exact on small integers over kernels, strides, groups, channel counts, views and shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.conv_specs import Conv
from kernels.harness import CPU_TARGETS, check, like

from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.igemm import Cut, IgemmConfig, widest_rows
from bolt.ops.conv import ConvSpec
from bolt.target import X86_AVX512, Target

CPU_CONV = CpuConv()
CASES = {
    "1x1": Conv(h=5, w=5, c=8, k=32),
    "1x1_views": Conv(n=2, h=4, w=7, c=5, k=19, c_wide=9, k_wide=23),
    "1x1_stride2": Conv(h=9, w=8, c=16, k=24, stride=(2, 2)),
    "3x3": Conv(h=6, w=9, c=16, k=33, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu"),
    "3x3_first_layer": Conv(h=11, w=12, c=3, k=20, kernel=(3, 3), stride=(2, 2), pad=(1, 1)),
    "3x3_pruned": Conv(h=5, w=5, c=61, k=37, kernel=(3, 3), pad=(1, 1), epilogue="none"),
    "7x7_stem": Conv(n=2, h=15, w=14, c=3, k=16, kernel=(7, 7), stride=(2, 2), pad=(3, 3)),
    "one_channel_wide_pixels": Conv(h=6, w=6, c=1, k=3, kernel=(3, 3), pad=(1, 1), c_wide=4, k_wide=8),
    "uneven_pads": Conv(h=6, w=7, c=4, k=8, kernel=(2, 3), pad=(0, 1), pad_end=(1, 2)),
    "dilated": Conv(h=9, w=11, c=4, k=12, kernel=(3, 2), dilation=(2, 3), pad=(2, 3), stride=(1, 2)),
    "1d": Conv(n=3, h=1, w=20, c=7, k=9, kernel=(1, 5), pad=(0, 2)),
    "fully_connected": Conv(h=1, w=1, c=70, k=130),
    "batched_fully_connected": Conv(n=7, h=1, w=1, c=33, k=50),
    "one_pixel_one_channel": Conv(h=1, w=1, c=1, k=1),
    "groups": Conv(h=5, w=6, c=12, k=72, kernel=(3, 3), pad=(1, 1), groups=3),
    "groups_of_four": Conv(h=4, w=5, c=32, k=32, kernel=(3, 3), pad=(1, 1), groups=8),
    "groups_narrowing": Conv(h=4, w=5, c=30, k=10, kernel=(2, 2), groups=5, c_wide=32),
    "depthwise_multiplier": Conv(h=5, w=5, c=6, k=12, kernel=(3, 3), pad=(1, 1), groups=6),
}
SMALL_IMAGES = {
    "3x3": Conv(h=5, w=2, c=9, k=37, kernel=(3, 3), pad=(1, 1), c_wide=16, k_wide=48),
    "3x3_two_images": Conv(n=2, h=7, w=7, c=5, k=16, kernel=(3, 3), pad=(1, 1)),
    "1x1_stride2": Conv(h=10, w=5, c=33, k=20, stride=(2, 2), epilogue="bias_relu"),
    "dilated": Conv(h=9, w=7, c=4, k=12, kernel=(3, 2), dilation=(2, 3), pad=(2, 1), stride=(1, 2)),
    "groups": Conv(h=4, w=3, c=12, k=72, kernel=(3, 3), pad=(1, 1), groups=3, epilogue="none"),
}
"""Images of few columns, whose tiles may have several rows."""


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_small_integers(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for parts in (1, 3):
        check(CPU_CONV, spec, target=target, parts=parts, page_end=(0,) if parts == 3 else (1,))


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", ["3x3", "groups_of_four", "1x1_views"])
def test_normal_values(case: str, target: Target) -> None:
    check(CPU_CONV, CASES[case].spec(), target=target, exact=False)


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_extents(target: Target) -> None:
    sizes = [(1, 1, 1), (1, 3, 40), (2, 5, 5), (3, 2, 17)]
    for n, h, w in sizes:
        for conv in (
            Conv(n=n, h=h, w=w, c=5, k=21),
            Conv(n=n, h=h, w=w, c=6, k=20, kernel=(3, 3), pad=(1, 1), epilogue="gate"),
        ):
            spec, ints = conv.dynamic()
            check(CPU_CONV, spec, ints, target=target, parts=2, exact=conv.epilogue != "gate")


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_every_register_tile(target: Target) -> None:
    spec = Conv(h=2, w=31, c=9, k=100, kernel=(1, 3), pad=(0, 1), epilogue="bias_relu").spec()
    configs = CPU_CONV.configs(spec, target)
    assert all(c.mr <= widest_rows(c.nv, target) for c in configs)
    for config in {(c.mr, c.nv): c for c in configs}.values():
        check(CPU_CONV, spec, target=target, config=config)


def several_rows(spec: ConvSpec, target: Target) -> list[IgemmConfig]:
    """Configurations with tiles of several rows, one of each shape, flattest first."""
    configs = CPU_CONV.configs(spec, target)
    shapes = {(c.rows, c.mr): c for c in configs if c.rows > 1}
    return [shapes[s] for s in sorted(shapes)]


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", SMALL_IMAGES)
def test_tiles_of_several_rows(case: str, target: Target) -> None:
    spec = SMALL_IMAGES[case].spec()
    configs = several_rows(spec, target)
    assert all(c.mr % c.rows == 0 and c.mr <= widest_rows(c.nv, target) for c in configs)
    for config in {configs[0], configs[len(configs) // 2], configs[-1]}:
        for parts, end in ((1, 0), (3, 1)):
            check(CPU_CONV, spec, target=target, config=config, parts=parts, page_end=(end,))


@pytest.mark.parametrize("strides", [(1, 0, 0, 0), (5, 1, 0, 0), (3, 0, 1, 0), (0, 40, 0, 1), (0, 0, 40, 1)])
@pytest.mark.parametrize("epilogue", ["residual", "gate"])
def test_broadcast_inputs_over_several_rows(strides: tuple[int, ...], epilogue: str) -> None:
    spec = Conv(n=2, h=5, w=3, c=8, k=37, c_wide=9, kernel=(3, 3), pad=(1, 1), epilogue=epilogue).spec()
    spec = replace(spec, operands=(*spec.operands[:4], like(spec.out, strides)))
    config = several_rows(spec, CPU_TARGETS[0])[-1]
    check(CPU_CONV, spec, target=CPU_TARGETS[0], config=config, exact=epilogue == "residual")


def test_where_tiles_of_several_rows_are_offered() -> None:
    """Where they fill the registers: on narrow images, when the rows' distances are known."""
    narrow = Conv(h=5, w=2, c=486, k=486, kernel=(3, 3), pad=(1, 1))
    assert CPU_CONV.configs(narrow.spec(), X86_AVX512)[0].rows > 1
    assert not several_rows(narrow.dynamic()[0], X86_AVX512)
    assert not several_rows(Conv(h=8, w=56, c=64, k=64, kernel=(3, 3), pad=(1, 1)).spec(), X86_AVX512)
    assert not several_rows(Conv(h=5, w=2, c=64, k=64).spec(), X86_AVX512), "one row in memory"


def test_a_long_epilogue_keeps_each_lane() -> None:
    check(CPU_CONV, Conv(h=4, w=5, c=8, k=37, epilogue="gate").spec(), target=CPU_TARGETS[0], exact=False)


@pytest.mark.parametrize("parts", [2, 4, 7, 64])
def test_any_number_of_shares(parts: int) -> None:
    for conv in (Conv(h=1, w=1, c=8, k=400), Conv(h=7, w=7, c=8, k=64), Conv(h=40, w=3, c=8, k=16, c_wide=9)):
        check(CPU_CONV, conv.spec(), target=CPU_TARGETS[-1], parts=parts)


def test_constant_bias_is_laid_out_as_its_operand_says() -> None:
    spec = Conv(h=2, w=2, c=4, k=6, epilogue="bias_relu").spec()
    values = np.arange(6, dtype=np.float32).reshape(1, 1, 1, 6)
    packed = CPU_CONV.pack(
        spec,
        CPU_CONV.configs(spec, CPU_TARGETS[0])[0],
        CPU_TARGETS[0],
        {2: np.zeros((6, 4, 1, 1)), 3: values},
    )
    assert packed[3].tolist() == [0, 1, 2, 3, 4, 5]


def test_sizes_of_tiles() -> None:
    assert Cut.of(128, 14).sizes == (12, 13)
    assert Cut.of(56, 14).sizes == (14,)
    assert Cut.of(None, 4).sizes == (4, 3, 2, 1)


def test_variable_weights_are_refused() -> None:
    spec = Conv(h=2, w=2, c=4, k=6).spec()
    rejection = CPU_CONV.supports(type(spec)(operands=spec.operands, epilogue=spec.epilogue), CPU_TARGETS[0])
    assert rejection is not None and "constant" in rejection.reason
