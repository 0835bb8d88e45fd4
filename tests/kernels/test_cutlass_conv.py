"""`cutlass_conv_sm80` and `cutlass_conv_transpose_sm80`: what they accept, how, and what they compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernels import device_units
from kernels.conv_specs import Conv
from kernels.cuda_harness import NEEDS_EMULATOR, check
from kernels.device_convs import on_device, run_time, transposed
from kernels.device_units import needs_cutlass
from kernels.harness import random_values

from bolt.epilogue import Builder, Epilogue
from bolt.kernels import implicit_gemm
from bolt.kernels.cutlass_conv_sm80 import CutlassConvSm80
from bolt.kernels.cutlass_conv_transpose_sm80 import CutlassConvTransposeSm80, convolution, phases_of
from bolt.kernels.family import Candidate, DeviceFamily, Source
from bolt.ops.conv import ConvSpec
from bolt.target import CUDA_TARGETS, SM75, SM80, Target
from bolt.types import BF16, F16, F32, U8

pytest.importorskip("cutlass_library")

CONV, TRANSPOSED = CutlassConvSm80(), CutlassConvTransposeSm80()
GOLDEN = Path(__file__).parents[1] / "codegen" / "golden"
PLAIN = Conv(n=2, h=14, w=14, c=64, k=64, kernel=(3, 3), pad=(1, 1))


def first(spec, target: Target = SM80, family: DeviceFamily = CONV) -> Candidate:
    """The analytic pick."""
    assert family.supports(spec, target) is None
    return Candidate(spec=spec, family=family, config=family.configs(spec, target)[0], target=target)


def unit(candidate: Candidate) -> Source:
    (source,) = candidate.units()
    return source


@pytest.mark.parametrize("target", CUDA_TARGETS, ids=lambda t: t.name)
def test_every_target_has_fp16_and_fp32(target: Target) -> None:
    for dtype in (F16, F32):
        for channels in (64, 36, 34, 35, 8, 4, 3):
            spec = on_device(replace(PLAIN, c=channels), dtype)
            estimates = [CONV.estimate(spec, c, target) for c in CONV.configs(spec, target)]
            assert CONV.supports(spec, target) is None
            assert estimates == sorted(estimates) and estimates[0] > 3.0


@pytest.mark.parametrize(
    "spec, reason",
    [
        (PLAIN.spec(), "padding"),
        (replace(on_device(PLAIN), constants=()), "not constant"),
        (on_device(replace(PLAIN, groups=64)), "depthwise"),
        (on_device(PLAIN, U8), "the input is u8"),
        (on_device(PLAIN, out=U8), "the output is u8"),
        (on_device(replace(PLAIN, n=1, h=20000, w=20000)), "2 GiB"),
    ],
)
def test_refused(spec, reason: str) -> None:
    rejection = CONV.supports(spec, SM80)
    assert rejection is not None and reason in rejection.reason


def test_turing_has_no_bf16_and_no_tf32() -> None:
    for spec in (on_device(PLAIN, BF16), on_device(PLAIN, F32, math="tf32")):
        assert CONV.supports(spec, SM80) is None
        rejection = CONV.supports(spec, SM75)
        assert rejection is not None and "sm75 does not multiply" in rejection.reason


@pytest.mark.parametrize(
    "channels, iterators", [(64, {"optimized"}), (8, {"fixed"}), (4, {"fixed"}), (16, {"few", "optimized"})]
)
def test_iterator_by_channels(channels: int, iterators: set[str]) -> None:
    configs = CONV.configs(on_device(replace(PLAIN, c=channels)), SM80)
    assert {c.iterator for c in configs} == iterators


def test_long_kernels_are_analytic() -> None:
    spec = on_device(Conv(h=1, w=128, c=64, k=64, kernel=(1, 33), pad=(0, 16)))
    assert {c.iterator for c in CONV.configs(spec, SM80)} == {"analytic"}


def test_width_of_reads_and_writes_follows_strides_and_alignment() -> None:
    def widths(conv: Conv, alignment: int = 16) -> tuple[str, str]:
        text = unit(first(on_device(conv, alignment=alignment))).text
        return text.split("kStrided, ")[1][0], text.split("kVector = ")[1][0]

    assert widths(PLAIN) == ("8", "8")
    assert widths(PLAIN, 4) == ("2", "2")
    assert widths(PLAIN, 0) == ("1", "1")
    assert widths(replace(PLAIN, c_wide=68, k_wide=66)) == ("4", "2")
    assert widths(replace(PLAIN, c=36, k=21)) == ("4", "1")
    assert widths(replace(PLAIN, groups=16)) == ("4", "4")


def test_units_do_not_depend_on_sizes() -> None:
    config = first(on_device(PLAIN)).config
    alike = [
        replace(PLAIN, n=7, h=31, w=5),
        replace(PLAIN, c=128, k=256, stride=(2, 1), pad=(0, 2), dilation=(2, 2)),
        replace(PLAIN, kernel=(1, 1), pad=(0, 0)),
        replace(PLAIN, c=128, k=128, groups=2),
    ]
    names = {implicit_gemm.unit_of(on_device(c), config).name for c in (PLAIN, *alike)}
    names.add(implicit_gemm.unit_of(run_time(on_device(PLAIN))[0], config).name)
    assert len(names) == 1
    assert implicit_gemm.unit_of(on_device(replace(PLAIN, epilogue="none")), config).name not in names


def test_rendered_unit_is_the_golden_file() -> None:
    spec = on_device(PLAIN)
    tile = next(c for c in CONV.configs(spec, SM80) if c.tile.name == "128x128_32x4" and c.split_k == 1)
    assert implicit_gemm.unit_of(spec, tile).text == (GOLDEN / "implicit_gemm.cu").read_text()


def test_split_k_only_of_static_sizes_and_with_scratch() -> None:
    spec = on_device(Conv(h=7, w=7, c=512, k=512, kernel=(3, 3), pad=(1, 1)))
    splits = {c.split_k for c in CONV.configs(spec, SM80)}
    assert {1, 2, 4, 8} <= splits
    for config in CONV.configs(spec, SM80):
        want = 4 * 49 * 512 * config.split_k if config.split_k > 1 else 0
        assert CONV.scratch_bytes(spec, config, SM80) == want
    assert {c.split_k for c in CONV.configs(run_time(spec)[0], SM80)} == {1}


def test_weights_are_packed_krsc() -> None:
    spec = on_device(replace(PLAIN, c=6, k=4, groups=2))
    weights = np.arange(4 * 3 * 9, dtype=np.float32).reshape(4, 3, 3, 3)
    packed = CONV.pack(spec, CONV.configs(spec, SM80)[0], SM80, {2: weights})[2]
    assert packed.dtype == np.float16
    assert np.array_equal(packed.reshape(4, 3, 3, 3), weights.transpose(0, 2, 3, 1))


PHASES = {
    "2x2": transposed((1, 3, 4, 4), 6, (2, 2)),
    "4x4": transposed((2, 3, 4, 4), 6, (4, 4), pad=(1, 1)),
    "3x3": transposed((1, 4, 3, 4), 6, (3, 3), pad=(1, 1), more=(1, 1)),
    "stride3": transposed((1, 4, 3, 4), 6, (5, 3), stride=(3, 1), pad=(2, 1)),
    "dilated": transposed((1, 4, 5, 4), 6, (3, 3), stride=(1, 2), dilation=(2, 3), pad=(1, 2)),
    "groups": transposed((1, 3, 3, 4), 6, (3, 3), groups=2),
}


@pytest.mark.parametrize("case", PHASES)
def test_phases_are_convolutions(case: str) -> None:
    spec = PHASES[case]
    rng = np.random.default_rng(0)
    x, weights = (random_values(o, rng, exact=True).astype(np.float64) for o in spec.operands[1:3])
    packed = TRANSPOSED.pack(spec, TRANSPOSED.configs(spec, SM80)[0], SM80, {2: weights})[2]
    got, place = np.full(spec.out.dims, np.nan), 0
    for phase in phases_of(spec):
        part = convolution(spec, phase)
        k, c, r, s = part.operands[2].dims
        krsc = packed[place : place + k * c * r * s].reshape(k, r, s, c).astype(np.float64)
        place += krsc.size
        _, p, q, _ = part.out.dims
        # the zeros after the image, and the inputs a negative pad skips
        ends = [
            max(0, (o - 1) + d * (t - 1) + 1 - pad - h)
            for o, d, t, pad, h in zip((p, q), part.dilation, (r, s), part.pad, x.shape[1:3], strict=True)
        ]
        skip = [max(0, -pad) for pad in part.pad]
        cut = replace(part, pad=tuple(max(0, pad) for pad in part.pad), pad_end=tuple(ends))
        result = cut.reference([x[:, skip[0] :, skip[1] :], krsc.transpose(0, 3, 1, 2)])[0]
        (y0, x0), (dy, dx) = phase.first, spec.stride
        got[:, y0::dy, x0::dx] = result
    assert place == packed.size
    assert np.array_equal(got, spec.reference([x, weights])[0])


def test_outputs_without_taps_are_refused() -> None:
    rejection = TRANSPOSED.supports(transposed((1, 3, 3, 8), 8, (2, 2), stride=(3, 3)), SM80)
    assert rejection is not None and "no tap" in rejection.reason


def conv_arguments(spec: ConvSpec, split_k: int) -> device_units.Conv:
    """A BoltConv of a static spec with null pointers."""
    (n, p, q, k), (_, h, w, c) = spec.out.dims, spec.operands[1].dims
    r, s = spec.kernel
    arguments = device_units.Conv(n=n, h=h, w=w, c=c, k=k, p=p, q=q, r=r, s=s, groups=spec.groups)
    for what in ("pad", "stride", "dilation"):
        getattr(arguments, what)[:] = getattr(spec, what)
    arguments.x_strides[:], arguments.y_strides[:] = spec.operands[1].strides[:3], spec.out.strides[:3]
    arguments.split_k = split_k
    return arguments


@needs_cutlass
def test_units_check_problems(tmp_path: Path) -> None:
    """Host side without a device: sizes of the workspace, and problems that can't run say so."""
    spec = on_device(Conv(h=7, w=7, c=512, k=512, kernel=(3, 3), pad=(1, 1)))
    config = next(c for c in CONV.configs(spec, SM80) if c.split_k > 1)
    source = implicit_gemm.unit_of(spec, config)
    library = device_units.loaded(device_units.compiled([source], SM80, tmp_path), SM80, tmp_path)
    unit, arguments = device_units.Unit(library, source.name), conv_arguments(spec, config.split_k)
    assert unit.workspace(arguments) == CONV.scratch_bytes(spec, config, SM80)
    assert unit.check(arguments) == 0
    arguments.x = 2
    assert unit.check(arguments) == -1  # cutlass::Status::kErrorMisalignedOperand
    arguments.x, arguments.c = 0, 509
    assert unit.check(arguments) == -4  # kErrorInvalidProblem


def _grid(target: Target) -> list[Source]:
    """Every tile with every iterator it works with, of every type."""
    sizes = ((64, 64), (34, 21), (35, 64), (16, 64), (8, 64), (4, 64))
    specs = [on_device(replace(PLAIN, c=c, k=k)) for c, k in sizes]
    specs += [on_device(PLAIN, BF16), on_device(PLAIN, F32), on_device(PLAIN, out=F32)]
    specs += [on_device(replace(PLAIN, c=c), F32, math="tf32") for c in (64, 4, 3)]
    specs += [on_device(Conv(h=1, w=99, c=64, k=64, kernel=(1, 33)))]
    specs = [spec for spec in specs if CONV.supports(spec, target) is None]
    return list({implicit_gemm.unit_of(spec, c) for spec in specs for c in CONV.configs(spec, target)})


@needs_cutlass
@pytest.mark.slow
@pytest.mark.parametrize("target", [SM80, SM75], ids=lambda t: t.name)
def test_every_tile_compiles_without_spills(target: Target, tmp_path: Path) -> None:
    device_units.compiled(_grid(target), target, tmp_path)


SMALL = replace(PLAIN, h=9, w=7)
ONE_UNIT = {
    "plain": SMALL,
    "uneven": replace(SMALL, stride=(2, 1), dilation=(1, 2), pad=(2, 0), pad_end=(0, 3)),
    "1x1": replace(SMALL, kernel=(1, 1), pad=(0, 0), c=128, k=72),
    "groups": replace(SMALL, c=128, k=128, groups=2),
    "views": replace(SMALL, c_wide=72, k_wide=80),
}
"""Different problems for the same device code."""


@NEEDS_EMULATOR
def test_small_integers() -> None:
    config = first(on_device(SMALL)).config
    for conv in ONE_UNIT.values():
        check(CONV, on_device(conv), SM80, config=config, exact=True)
    spec, ints = run_time(on_device(SMALL))
    check(CONV, spec, SM80, config=config, ints=ints, exact=True)
    check(CONV, on_device(SMALL), SM80, config=config)


KINDS = {
    "split": (on_device(replace(SMALL, c=256)), SM80, {"split_k": 2}),
    "fixed8": (on_device(replace(SMALL, c=8, kernel=(7, 7), pad=(3, 3), stride=(2, 2))), SM80, {}),
    "fixed4": (on_device(replace(SMALL, c=4)), SM80, {}),
    "few_groups": (on_device(replace(SMALL, groups=4)), SM80, {"iterator": "few"}),
    "few_unaligned": (on_device(replace(SMALL, c=3)), SM80, {"iterator": "few"}),
    "unaligned": (on_device(replace(SMALL, c=35, k=21)), SM80, {"iterator": "optimized"}),
    "analytic": (on_device(Conv(h=1, w=40, c=64, k=64, kernel=(1, 33))), SM80, {"split_k": 1}),
    "f32_out": (on_device(replace(SMALL, k=21, epilogue="gate", k_wide=23), out=F32), SM80, {}),
    "bf16": (on_device(SMALL, BF16), SM80, {}),
    "f32": (on_device(replace(SMALL, c=5), F32), SM80, {}),
    "tf32": (on_device(SMALL, F32, math="tf32"), SM80, {}),
    "sm75": (on_device(SMALL), SM75, {}),
    "sm75_f32": (on_device(SMALL, F32), SM75, {}),
}
"""(spec, target, what the config has to be)."""


@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    spec, target, wanted = KINDS[kind]
    configs = CONV.configs(spec, target)
    config = next(c for c in configs if all(getattr(c, k) == v for k, v in wanted.items()))
    check(CONV, spec, target, config=config, exact=True, launches=2)


@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("target", [SM80, SM75], ids=lambda t: t.name)
def test_every_tile(target: Target) -> None:
    spec, seen = on_device(replace(SMALL, n=5, c=96, k=200)), set()
    for config in CONV.configs(spec, target):
        if config.tile not in seen:
            seen.add(config.tile)
            check(CONV, spec, target, config=config, exact=True)


def _three_tensors() -> Epilogue:
    b = Builder()
    swished = b.op("hard_swish", b.op("add", b.acc(), b.input(0)))
    return b.finish(b.op("add", b.op("mul", swished, b.input(1)), b.input(2)))


@NEEDS_EMULATOR
@pytest.mark.slow
def test_many_epilogue_inputs() -> None:
    """A vector, a factor per image and channel, a residual, all of different types."""
    spec = on_device(replace(SMALL, epilogue="none", k=40))
    k = spec.out.dims[3]
    image = replace(spec.out, dtype=BF16, strides=(k, 0, 0, 1))
    extras = (replace(spec.out, dtype=F32, strides=(0, 0, 0, 1)), image, replace(spec.out, dtype=F32))
    spec = replace(spec, operands=(*spec.operands, *extras), epilogue=_three_tensors())
    check(CONV, spec, SM80)


@NEEDS_EMULATOR
@pytest.mark.slow
def test_transposed() -> None:
    cases = [
        transposed((2, 5, 6, 64), 64, (4, 4), pad=(1, 1)),
        transposed((2, 5, 6, 64), 64, (3, 3), pad=(1, 1), more=(1, 1)),
        transposed((1, 5, 6, 128), 64, (5, 3), stride=(3, 2), dilation=(1, 3), pad=(2, 1), groups=2),
    ]
    config = first(cases[0], SM80, TRANSPOSED).config
    for spec in cases:
        check(TRANSPOSED, spec, SM80, config=config, exact=True)


@NEEDS_EMULATOR
@pytest.mark.slow
def test_transposed_with_residual_and_run_time_extents() -> None:
    b = Builder()
    expression = b.finish(b.op("relu", b.op("add", b.acc(), b.input(0))))
    spec = transposed((2, 5, 6, 64), 64, (4, 4), pad=(1, 1), epilogue=expression, extras=(F32,))
    check(TRANSPOSED, spec, SM80)
    unknown, ints = run_time(spec)
    check(TRANSPOSED, unknown, SM80, ints=ints)
