"""`cuda_pointwise`, `cuda_copy`, `cuda_fill`, `cuda_gather`: what they accept, and how; that it compiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernels.cuda_compile import most_registers, needs_nvcc, targets_of, view

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cuda_copy import CudaCopy
from bolt.kernels.cuda_fill import CudaFill
from bolt.kernels.cuda_gather import CudaGather
from bolt.kernels.cuda_pointwise import CudaPointwise
from bolt.kernels.family import DeviceFamily
from bolt.ops.pointwise import CopySpec, FillSpec, GatherSpec, PointwiseSpec
from bolt.ops.spec import Operand
from bolt.search.candidates import enumerate_candidates
from bolt.target import SM75, SM80, SM90A
from bolt.types import BF16, F16, F32, S64

IMAGE = (2, 56, 56, 64)


def silu_of_sum() -> Epilogue:
    b = Builder()
    return b.finish(b.op("silu", b.op("add", b.input(0), b.input(1))))


def pointwise(*operands: Operand) -> PointwiseSpec:
    return PointwiseSpec(operands=operands, epilogue=silu_of_sum())


BIASED = pointwise(view(F16, IMAGE), view(F16, IMAGE), view(F32, IMAGE, (0, 0, 0, 1)))
RUN_TIME = pointwise(
    *[view(BF16, (None, None, 64), (None, None, 1))] * 2, view(F32, (None, None, 64), (0, 0, 1))
)
TO_PIXELS = CopySpec(operands=(view(F16, IMAGE), view(F16, IMAGE, (64 * 3136, 56, 1, 3136))))
FIRST_IMAGE = CopySpec(
    operands=(
        view(F16, (2, 56, 56, 3), (3136 * 8, 56 * 8, 8, 1)),
        view(F32, (2, 56, 56, 3), (3136 * 3, 56, 1, 3136)),
    )
)
EMBEDDING = GatherSpec(
    operands=(
        view(F16, (1, None, 768), (None, 768, 1)),
        view(F32, (1, 30522, 768)),
        view(S64, (None,), (1,)),
    )
)
LARGE = pointwise(*[view(F16, (1 << 16, 1 << 15), alignment=16)] * 3)
FILL = FillSpec(operands=(view(F16, (4, 8), (24, 1)),), value=1.5)

GOLDEN = Path(__file__).parents[1] / "codegen" / "golden"

CASES = [
    pytest.param(CudaPointwise(), BIASED, SM80, id="pointwise"),
    pytest.param(CudaPointwise(), RUN_TIME, SM75, id="pointwise-run-time"),
    pytest.param(CudaCopy(), TO_PIXELS, SM90A, id="copy-tiled"),
    pytest.param(CudaCopy(), FIRST_IMAGE, SM80, id="copy-few"),
    pytest.param(CudaGather(), EMBEDDING, SM80, id="gather"),
    pytest.param(CudaFill(), FILL, SM80, id="fill"),
    pytest.param(CudaPointwise(), LARGE, SM80, id="pointwise-large"),
]


@needs_nvcc
@pytest.mark.parametrize("target", targets_of(CASES), ids=lambda t: t.name)
def test_compiles_without_spills(target, tmp_path):
    assert most_registers(CASES, target, tmp_path) <= 64


@pytest.mark.parametrize("family, spec, target", CASES)
def test_is_registered_and_keeps_the_contract(family, spec, target):
    assert isinstance(family, DeviceFamily)
    assert {c.family.name for c in enumerate_candidates(spec, target).candidates} == {family.name}
    configs = family.configs(spec, target)
    estimates = [family.estimate(spec, config, target) for config in configs]
    assert min(estimates) == estimates[0] >= 3.0
    text = family.render(spec, configs[0], target, "k")
    assert text == family.render(spec, configs[0], target, "k")
    assert family.units(spec, configs[0], target) == ()


def rendered(family: DeviceFamily, spec, target=SM80) -> str:
    return family.render(spec, family.configs(spec, target)[0], target, "k")


def test_stated_alignment_leaves_one_kernel():
    spec = pointwise(*[view(F16, (8, 128), alignment=16)] * 3)
    assert rendered(CudaPointwise(), spec).count("return launch<") == 1


def test_unstated_alignment_is_tested_at_run_time():
    text = rendered(CudaPointwise(), pointwise(*[view(F16, (8, 128))] * 3))
    assert text.count("is_aligned(") == 3 and text.count("return launch<") == 2


@pytest.mark.parametrize(
    "dtype, dims, strides, width",
    [
        (F16, (4, 64), (64, 1), 8),
        (F32, (4, 64), (64, 1), 4),
        (F16, (4, 60), (60, 1), 8),  # one row of 240
        (F16, (4, 60), (68, 1), 4),
        (F16, (4, 60), (61, 1), 1),
        (F16, (4, 6), (8, 1), 4),
        (F16, (4, 64), (128, 2), 1),
        (F16, (None, 64), (None, 1), 8),
    ],
)
def test_pack_width(dtype, dims, strides, width):
    spec = pointwise(*[view(dtype, dims, strides)] * 3)
    assert CudaPointwise().configs(spec, SM80)[0].width == width


def test_large_views_are_indexed_with_64_bits():
    assert "launch<int64_t, 8>" in rendered(CudaPointwise(), LARGE)


def test_rejections_name_the_reason():
    integers = CopySpec(operands=(view(F16, (4,)), view(S64, (4,))))
    assert "not both floats" in CudaCopy().supports(integers, SM80).reason
    fraction = FillSpec(operands=(view(S64, (4,)),), value=0.5)
    assert "not a value" in CudaFill().supports(fraction, SM80).reason
    missing = pointwise(view(F16, (4,)), view(F16, (4,)))
    assert "does not have" in CudaPointwise().supports(missing, SM80).reason
    assert (
        "neither s32 nor s64"
        in CudaGather()
        .supports(GatherSpec(operands=(view(F16, (1, 2, 4)), view(F16, (1, 9, 4)), view(F32, (2,)))), SM80)
        .reason
    )


def test_constants_of_every_type_are_spelled():
    for dtype in (F16, BF16, F32, S64):
        assert np.isfinite(CudaFill().estimate(FillSpec(operands=(view(dtype, (4,)),)), None, SM80))
        assert "spread_pack" in rendered(CudaFill(), FillSpec(operands=(view(dtype, (4,)),), value=3.0))


def test_rendered_kernel_is_the_golden_file():
    assert rendered(CudaPointwise(), RUN_TIME) == (GOLDEN / "cuda_pointwise.cu").read_text()
