"""cpu_winograd: both tile sizes, partial tiles, channel tails, pads, run-time extents, shares, accuracy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kernels.conv_specs import Conv
from kernels.harness import ALL_TARGETS, CPU_TARGETS, TOLERANCES, check, run

from bolt.kernels.cpu_winograd import TRANSFORMS, CpuWinograd
from bolt.ops.conv import ConvSpec
from bolt.target import X86_AVX512_BF16, Target
from bolt.types import BF16, F32
from bolt.verify import tolerance

CPU_WINOGRAD = CpuWinograd()
CASES = {
    "whole_tiles": Conv(h=8, w=8, c=16, k=32, kernel=(3, 3), pad=(1, 1)),
    "partial_tiles": Conv(n=2, h=7, w=5, c=16, k=16, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu"),
    "pruned_channels": Conv(h=6, w=9, c=19, k=37, kernel=(3, 3), pad=(1, 1), c_wide=21, k_wide=40),
    "no_pad": Conv(h=9, w=8, c=17, k=16, kernel=(3, 3), epilogue="none"),
    "uneven_pad": Conv(h=5, w=6, c=16, k=16, kernel=(3, 3), pad=(0, 1), pad_end=(1, 0)),
    "one_output": Conv(h=1, w=1, c=16, k=20, kernel=(3, 3), pad=(1, 1)),
}
TOLERANCE = {2: 4e-6, 4: 4e-5}


def _configs(spec: ConvSpec, target: Target) -> list:
    """The best config of each tile size."""
    configs = CPU_WINOGRAD.configs(spec, target)
    return [next(c for c in configs if c.m == m) for m in TRANSFORMS]


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("case", CASES)
def test_normal_values(case: str, target: Target) -> None:
    spec = CASES[case].spec()
    for config in _configs(spec, target):
        for parts in (1, 3):
            check(
                CPU_WINOGRAD,
                spec,
                target=target,
                config=config,
                parts=parts,
                exact=False,
                tolerance=TOLERANCE[config.m],
                page_end=(0,) if parts == 3 else (1,),
            )


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_the_small_tile_is_exact_on_multiples_of_four(target: Target) -> None:
    spec = CASES["partial_tiles"].spec()
    weights = np.random.default_rng(1).integers(-2, 3, (16, 16, 3, 3)).astype(np.float32) * 4
    config = _configs(spec, target)[0]
    assert config.m == 2
    check(CPU_WINOGRAD, spec, target=target, config=config, values={2: weights})


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_run_time_extents(target: Target) -> None:
    for n, h, w in [(1, 1, 1), (2, 4, 9), (1, 13, 6)]:
        conv = Conv(n=n, h=h, w=w, c=16, k=24, kernel=(3, 3), pad=(1, 1))
        spec, ints = conv.dynamic()
        check(CPU_WINOGRAD, spec, ints, target=target, parts=2, exact=False, tolerance=TOLERANCE[4])


@pytest.mark.parametrize("m", TRANSFORMS)
def test_errors_stay_within_the_shared_tolerance(m: int) -> None:
    target, rng = CPU_TARGETS[0], np.random.default_rng(3)
    spec = Conv(h=12, w=12, c=64, k=32, kernel=(3, 3), pad=(1, 1), epilogue="none").spec()
    config = next(c for c in CPU_WINOGRAD.configs(spec, target) if c.m == m)
    image = rng.standard_normal((1, 12, 12, 64)).astype(np.float32)
    weights = rng.standard_normal((32, 64, 3, 3)).astype(np.float32)
    got = run(CPU_WINOGRAD, spec, {1: image, 2: weights}, target=target, config=config)
    want = spec.reference([image, weights])[0]
    assert np.abs(got - want).max() <= tolerance(F32, 9 * 64) * np.abs(want).max()


def test_configs_of_a_target() -> None:
    target = CPU_TARGETS[0]
    spec = Conv(h=9, w=9, c=16, k=64, kernel=(3, 3), pad=(1, 1)).spec()
    for config in CPU_WINOGRAD.configs(spec, target)[::3]:
        limit = TOLERANCE[config.m]
        check(CPU_WINOGRAD, spec, target=target, config=config, exact=False, tolerance=limit)


@pytest.mark.parametrize("target", [t for t in ALL_TARGETS if t.has_bf16], ids=lambda t: t.name)
@pytest.mark.parametrize("case", ["partial_tiles", "pruned_channels", "uneven_pad"])
def test_bf16(case: str, target: Target) -> None:
    spec = replace(CASES[case], a=BF16, b=BF16, out=BF16).spec()
    configs = CPU_WINOGRAD.configs(spec, target)
    kinds = {(c.m, c.pairs): c for c in reversed(configs)}
    assert set(kinds) == {(2, False), (2, True), (4, False)}
    for config in kinds.values():
        for parts, end in ((1, 1), (3, 0)):
            limit = TOLERANCES[BF16] * (4 if config.pairs else 1)
            check(
                CPU_WINOGRAD, spec, target=target, config=config, parts=parts, page_end=(end,), exact=False,
                tolerance=limit,
            )  # fmt: skip


@pytest.mark.parametrize("target", CPU_TARGETS, ids=lambda t: t.name)
def test_bf16_in_memory_only(target: Target) -> None:
    spec = replace(CASES["pruned_channels"], a=BF16, b=F32, out=F32).spec()
    check(CPU_WINOGRAD, spec, target=target, exact=False, tolerance=TOLERANCE[4], page_end=(1,))


def test_pairs_stay_within_the_shared_tolerance() -> None:
    spec = Conv(h=12, w=12, c=64, k=32, kernel=(3, 3), pad=(1, 1), epilogue="none", a=BF16, b=BF16).spec()
    config = next((c for c in CPU_WINOGRAD.configs(spec, X86_AVX512_BF16) if c.pairs), None)
    assert config is not None
    if X86_AVX512_BF16 not in ALL_TARGETS:
        pytest.skip("this CPU has no products of bf16")
    rng = np.random.default_rng(3)
    image = rng.standard_normal((1, 12, 12, 64)).astype(BF16.np)
    weights = rng.standard_normal((32, 64, 3, 3)).astype(BF16.np)
    got = run(CPU_WINOGRAD, spec, {1: image, 2: weights}, target=X86_AVX512_BF16, config=config)
    want = spec.reference([image, weights])[0]
    assert np.abs(got - want).max() <= tolerance(BF16, 9 * 64) * np.abs(want).max()


def test_shares_split_channels_of_small_images() -> None:
    spec = Conv(h=4, w=4, c=16, k=256, kernel=(3, 3), pad=(1, 1)).spec()
    check(CPU_WINOGRAD, spec, target=CPU_TARGETS[0], parts=4, exact=False, tolerance=TOLERANCE[4])


def test_what_it_does_not_compute() -> None:
    for conv in (
        Conv(h=4, w=4, c=16, k=16),
        Conv(h=4, w=4, c=8, k=16, kernel=(3, 3)),
        Conv(h=9, w=9, c=16, k=16, kernel=(3, 3), stride=(2, 2)),
        Conv(h=9, w=9, c=32, k=32, kernel=(3, 3), groups=2),
    ):
        assert CPU_WINOGRAD.supports(conv.spec(), CPU_TARGETS[0]) is not None
