"""`cpu_resize` against float64: modes, coordinates, scales, views, epilogues, run-time dims."""

from __future__ import annotations

import pytest
from kernels import harness as h

from bolt.epilogue import Builder
from bolt.kernels.cpu_resize import COORDINATES, NEAREST, CpuResize
from bolt.ops.spatial import ResizeSpec

FAMILY = CpuResize()

each_target = pytest.mark.parametrize("target", h.CPU_TARGETS, ids=lambda t: t.name)


def resize(source, size, **more) -> ResizeSpec:
    out = h.f32((source[0], *size, source[3]))
    return ResizeSpec(operands=(out, h.f32(source)), **more)


@each_target
@pytest.mark.parametrize("coordinate", COORDINATES)
@pytest.mark.parametrize(
    "source, size", [((2, 3, 5, 37), (6, 10)), ((1, 7, 5, 3), (4, 9)), ((1, 1, 1, 1), (1, 1))]
)
def test_linear(source, size, coordinate, target):
    spec = resize(source, size, mode="linear", coordinate=coordinate)
    for parts in (1, 3):
        h.check(FAMILY, spec, target=target, parts=parts, exact=False, page_end=(0, 1))


@each_target
def test_cubic(target):
    for coordinate, (source, size) in zip(
        COORDINATES,
        (((2, 3, 5, 37), (6, 10)), ((1, 7, 5, 3), (4, 9)), ((1, 1, 2, 1), (1, 5)), ((1, 4, 4, 16), (9, 300))),
        strict=True,
    ):
        spec = resize(source, size, mode="cubic", coordinate=coordinate, cubic=-0.5)
        h.check(FAMILY, spec, target=target, parts=2, exact=False, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("nearest", NEAREST)
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_nearest(coordinate, nearest, target):
    for source, size in (((2, 3, 5, 37), (6, 10)), ((1, 7, 5, 3), (4, 9))):
        spec = resize(source, size, coordinate=coordinate, nearest=nearest)
        h.check(FAMILY, spec, target=target, parts=3, page_end=(0, 1))


@each_target
@pytest.mark.parametrize("mode", ("nearest", "linear"))
def test_scales_of_the_model_win_over_the_ratio_of_dims(mode, target):
    spec = resize((1, 4, 5, 20), (6, 8), mode=mode, scales=(1.6, 1.7), coordinate="asymmetric")
    h.check(FAMILY, spec, target=target, exact=False)


@each_target
@pytest.mark.parametrize("mode", ("nearest", "linear"))
def test_more_columns_than_a_strip(mode, target):
    spec = resize((1, 2, 150, 2), (3, 600), mode=mode)
    for parts in (1, 3):
        h.check(FAMILY, spec, target=target, parts=parts, exact=False)


@each_target
@pytest.mark.parametrize("mode", ("nearest", "linear"))
def test_views_and_epilogue(mode, target):
    b = Builder()
    epilogue = b.finish(b.op("relu", b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1))))
    out = h.f32((2, 4, 6, 19), (4 * 6 * 24, 6 * 24, 24, 1))
    source = h.f32((2, 2, 3, 19), (2 * 5 * 21, 5 * 21, 21, 1))
    spec = ResizeSpec(
        operands=(out, source, h.per_channel(out), h.like(out, (24, 6, 1, 0))), epilogue=epilogue, mode=mode
    )
    h.check(FAMILY, spec, target=target, parts=3, exact=False)


@each_target
@pytest.mark.parametrize("mode", ("nearest", "linear"))
def test_run_time_dims(mode, target):
    image = h.f32((None, None, None, 20), (None, None, 20, 1))
    spec = ResizeSpec(operands=(image, image), mode=mode)
    for source, size in (((2, 3, 4, 20), (6, 8)), ((1, 1, 1, 20), (3, 2))):
        bound = resize(source, size, mode=mode)
        h.check(FAMILY, spec, h.ints_of(spec, bound.operands), target=target, parts=3, exact=False)


def test_rejections_name_the_mode():
    target = h.CPU_TARGETS[0]
    area = resize((1, 2, 2, 4), (4, 4), mode="area")
    crop = resize((1, 2, 2, 4), (4, 4), coordinate="tf_crop_and_resize")
    assert "area" in FAMILY.supports(area, target).reason
    assert "tf_crop_and_resize" in FAMILY.supports(crop, target).reason
