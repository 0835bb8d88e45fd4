"""`cuda_depthwise`, `cuda_conv_direct`, `cuda_conv_transpose`: what they accept, and what they compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels.conv_specs import Conv
from kernels.cuda_compile import most_registers, needs_nvcc, targets_of
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_convs import on_device, run_time, transposed

from bolt.kernels.cuda_conv_direct import CudaConvDirect
from bolt.kernels.cuda_conv_transpose import CudaConvTranspose
from bolt.kernels.cuda_depthwise import CudaDepthwise
from bolt.kernels.family import DeviceFamily
from bolt.target import SM75, SM80, Target
from bolt.types import BF16, F16, F32

DEPTHWISE, DIRECT, TRANSPOSED = CudaDepthwise(), CudaConvDirect(), CudaConvTranspose()
MOBILE = Conv(n=1, h=28, w=28, c=144, k=144, groups=144, kernel=(3, 3), pad=(1, 1), stride=(2, 2))
GROUPS = Conv(n=2, h=9, w=11, c=24, k=12, groups=3, kernel=(3, 3), pad=(1, 1))

CASES = [
    pytest.param(DEPTHWISE, on_device(MOBILE), SM80, id="depthwise"),
    pytest.param(
        DEPTHWISE, run_time(on_device(replace(MOBILE, kernel=(5, 31))))[0], SM75, id="depthwise-long"
    ),
    pytest.param(DIRECT, on_device(GROUPS, F32, out=F16), SM80, id="direct"),
    pytest.param(TRANSPOSED, transposed((1, 5, 6, 8), 12, (3, 3)), SM80, id="transposed"),
]


@needs_nvcc
@pytest.mark.parametrize("target", targets_of(CASES), ids=lambda t: t.name)
def test_compiles_without_spills(target: Target, tmp_path: Path) -> None:
    assert most_registers(CASES, target, tmp_path) <= 128


@pytest.mark.parametrize("family, spec, target", CASES)
def test_keeps_the_contract(family: DeviceFamily, spec, target: Target) -> None:
    configs = family.configs(spec, target)
    estimates = [family.estimate(spec, config, target) for config in configs]
    assert estimates == sorted(estimates) and estimates[0] >= 3.0
    for config in configs:
        text = family.render(spec, config, target, "k")
        assert text == family.render(spec, config, target, "k")


def test_refused() -> None:
    dense = on_device(Conv(h=4, w=4, c=8, k=8))
    assert DEPTHWISE.supports(dense, SM80) is not None
    assert DIRECT.supports(dense, SM80) is None
    assert DIRECT.supports(replace(dense, has_halo=True), SM80) is not None
    assert DIRECT.supports(replace(dense, constants=()), SM80) is not None


def test_depthwise_takes_all_lanes_of_big_images() -> None:
    wide = DEPTHWISE.configs(on_device(replace(MOBILE, n=32, h=112, w=112)), SM80)[0]
    assert (wide.lanes, wide.reuse) == (8, True)
    assert {c.lanes for c in DEPTHWISE.configs(on_device(replace(MOBILE, c=21, k=21, groups=21)), SM80)} == {
        1
    }


def test_packed_weights() -> None:
    spec = on_device(replace(MOBILE, c=4, k=4, groups=4))
    weights = np.arange(36, dtype=np.float32).reshape(4, 1, 3, 3)
    packed = DEPTHWISE.pack(spec, DEPTHWISE.configs(spec, SM80)[0], SM80, {2: weights})[2]
    assert packed.dtype == np.float16 and np.array_equal(
        packed.reshape(3, 3, 4), weights[:, 0].transpose(1, 2, 0)
    )

    spec = on_device(GROUPS)
    weights = np.arange(12 * 8 * 9, dtype=np.float32).reshape(12, 8, 3, 3)
    packed = DIRECT.pack(spec, DIRECT.configs(spec, SM80)[0], SM80, {2: weights})[2].reshape(3, 3, 3, 8, 4)
    assert packed[2, 1, 0, 5, 3] == weights[2 * 4 + 3, 5, 1, 0]

    spec = transposed((1, 5, 6, 6), 4, (3, 2), dtype=F16, groups=2)
    weights = np.arange(6 * 2 * 6, dtype=np.float32).reshape(6, 2, 3, 2)
    packed = TRANSPOSED.pack(spec, TRANSPOSED.configs(spec, SM80)[0], SM80, {2: weights})[2]
    assert packed.reshape(2, 3, 2, 3, 2)[1, 2, 0, 1, 1] == weights[3 + 1, 1, 2, 0]


SMALL = Conv(n=2, h=9, w=7, c=16, k=16, groups=16, kernel=(3, 3), pad=(1, 1), stride=(2, 2))
ODD = replace(SMALL, c=21, k=21, groups=21, stride=(1, 1), dilation=(2, 3), pad=(2, 3), c_wide=23, k_wide=25)

NUMBERS = {
    "depthwise": (DEPTHWISE, on_device(SMALL)),
    "depthwise_odd": (DEPTHWISE, on_device(ODD, F32)),
    "depthwise_uneven": (
        DEPTHWISE,
        on_device(replace(SMALL, kernel=(2, 4), stride=(1, 3), pad=(1, 0), pad_end=(0, 2)), BF16, out=F32),
    ),
    "direct": (DIRECT, on_device(GROUPS)),
    "direct_uneven": (
        DIRECT,
        on_device(replace(GROUPS, pad=(2, 0), pad_end=(0, 3), stride=(1, 2), c=9, k=15), F32, out=F16),
    ),
    "transposed": (TRANSPOSED, transposed((2, 5, 6, 8), 12, (3, 3), pad=(1, 1), more=(1, 1))),
    "transposed_dilated": (
        TRANSPOSED,
        transposed((1, 4, 5, 6), 4, (3, 3), stride=(3, 2), dilation=(2, 3), groups=2, pad=(1, 2)),
    ),
}


@NEEDS_EMULATOR
@pytest.mark.parametrize("case", NUMBERS)
def test_small_integers(case: str) -> None:
    family, spec = NUMBERS[case]
    check(family, spec, SM80, exact=True)


@NEEDS_EMULATOR
def test_run_time_extents() -> None:
    for h, w in ((9, 7), (1, 40), (5, 3)):
        spec, ints = run_time(on_device(replace(SMALL, h=h, w=w, epilogue="gate")))
        check(DEPTHWISE, spec, SM80, ints=ints)


@NEEDS_EMULATOR
@pytest.mark.slow
def test_every_config_of_depthwise() -> None:
    for conv in (SMALL, replace(SMALL, stride=(1, 1), kernel=(1, 9), pad=(0, 4))):
        for config in DEPTHWISE.configs(on_device(conv), SM80):
            check(DEPTHWISE, on_device(conv), SM80, config=config, exact=True)
