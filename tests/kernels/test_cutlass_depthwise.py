"""`cutlass_depthwise_sm80`: what it accepts, and its results under the emulator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernels.conv_specs import Conv
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_convs import on_device, run_time
from kernels.device_units import needs_cutlass

from bolt.kernels.cutlass_depthwise_sm80 import CONFIGS, CutlassDepthwise
from bolt.target import SM75, SM80
from bolt.types import BF16, F16

FAMILY = CutlassDepthwise()
SMALL = Conv(h=9, w=11, c=64, k=64, groups=64, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu")


@pytest.mark.parametrize(
    "spec,reason",
    [
        (SMALL.spec(), "in memory"),
        (on_device(SMALL, BF16), "not f16"),
        (on_device(replace(SMALL, c=20, k=20, groups=20)), "16 bytes"),
        (on_device(replace(SMALL, epilogue="residual")), "more than a number per channel"),
        (on_device(replace(SMALL, kernel=(7, 7), pad=(3, 3))), "25 taps"),
        (on_device(replace(SMALL, groups=1)), "not depthwise"),
    ],
)
def test_refused(spec, reason: str) -> None:
    rejection = FAMILY.supports(spec, SM80)
    assert rejection is not None and reason in rejection.reason


def test_turing_lacks_the_copies() -> None:
    assert FAMILY.supports(on_device(SMALL), SM80) is None
    assert FAMILY.supports(on_device(SMALL), SM75) is not None


def test_large_tiles_only_without_strides() -> None:
    assert FAMILY.configs(on_device(SMALL), SM80) == list(CONFIGS)
    assert [c.rows for c in FAMILY.configs(on_device(replace(SMALL, stride=(2, 2))), SM80)] == [4]


@needs_cutlass
@NEEDS_EMULATOR
def test_results_with_a_stride_and_missing_channels() -> None:
    spec = on_device(replace(SMALL, n=2, h=12, w=7, c=72, k=72, groups=72, stride=(2, 2)), F16)
    check(FAMILY, spec, SM80)


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.columns}")
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5)], ids=str)
@pytest.mark.parametrize("epilogue", ["none", "bias_relu"])
def test_results(config, kernel: tuple[int, int], epilogue: str) -> None:
    pad = (kernel[0] // 2, kernel[1] // 2)
    conv = replace(SMALL, c=24, k=24, groups=24, kernel=kernel, pad=pad, epilogue=epilogue)
    check(FAMILY, on_device(conv), SM80, config=config, exact=epilogue == "none")


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.rows}x{c.columns}")
def test_more_tiles_than_thread_blocks(config) -> None:
    """On one multiprocessor blocks go over several tiles, unless their sums would overwrite input."""
    assert SM80.gpu is not None
    small = replace(SM80, gpu=replace(SM80.gpu, multiprocessors=1))
    spec = on_device(replace(SMALL, h=40, w=24, c=64, k=64, groups=64))
    check(FAMILY, spec, small, config=config)


def test_large_tiles_only_of_images_whose_blocks_fit_a_grid() -> None:
    spec = on_device(replace(SMALL, h=4096, w=4096))
    assert [c.rows for c in FAMILY.configs(spec, SM80)] == [4]
    assert [c.rows for c in FAMILY.configs(run_time(on_device(SMALL))[0], SM80)] == [4]


@needs_cutlass
@NEEDS_EMULATOR
@pytest.mark.slow
def test_sizes_known_at_run_time() -> None:
    spec, ints = run_time(on_device(replace(SMALL, n=3, h=5, w=6)))
    check(FAMILY, spec, SM80, ints=ints)
