"""`cuda_reduce`, `cuda_pool` and `cuda_resize`: how the work is shared out, and that it compiles."""

from __future__ import annotations

import pytest
from kernels.cuda_compile import most_registers, needs_nvcc, targets_of, view

from bolt.kernels.cuda_pool import CudaPool
from bolt.kernels.cuda_reduce import CudaReduce
from bolt.kernels.cuda_resize import CudaResize
from bolt.ops.rows import ReduceSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.search.candidates import enumerate_candidates
from bolt.target import SM75, SM80, SM90A
from bolt.types import F16, F32

GLOBAL_POOL = ReduceSpec(operands=(view(F16, (2, 1, 2048)), view(F16, (2, 7, 1, 7, 2048))), kind="mean")
LAST_AXIS = ReduceSpec(operands=(view(F32, (2, 16, 1)), view(F16, (2, 1, 16, 768, 1))), kind="l2")
APART = ReduceSpec(
    operands=(
        view(F32, (None, None, 1), (None, 1, 1)),
        view(F16, (None, 10, None, None, 1), (None, None, None, 1, 1)),
    ),
    kind="max",
)
MAX_POOL = PoolSpec(
    operands=(view(F16, (2, 56, 56, 64)), view(F16, (2, 112, 112, 64))),
    kind="max",
    kernel=(3, 3),
    stride=(2, 2),
    pad=(1, 1),
)
_RUN_TIME = view(F16, (None, None, None, 64), (None, None, 64, 1))
AVERAGE_POOL = PoolSpec(
    operands=(_RUN_TIME, _RUN_TIME), kind="avg", kernel=(5, 5), pad=(2, 2), pad_end=(2, 2)
)
LINEAR = ResizeSpec(operands=(view(F16, (2, 56, 56, 64)), view(F16, (2, 28, 28, 64))), mode="linear")
NEAREST = ResizeSpec(operands=(_RUN_TIME, _RUN_TIME), nearest="floor", coordinate="asymmetric")

CASES = [
    pytest.param(CudaReduce(), GLOBAL_POOL, SM80, id="reduce-columns"),
    pytest.param(CudaReduce(), LAST_AXIS, SM75, id="reduce-row"),
    pytest.param(CudaReduce(), APART, SM80, id="reduce-apart"),
    pytest.param(CudaPool(), MAX_POOL, SM90A, id="max-pool"),
    pytest.param(CudaPool(), AVERAGE_POOL, SM80, id="average-pool-run-time"),
    pytest.param(CudaResize(), LINEAR, SM80, id="resize-linear"),
    pytest.param(CudaResize(), NEAREST, SM80, id="resize-nearest-run-time"),
]


@needs_nvcc
@pytest.mark.parametrize("target", targets_of(CASES), ids=lambda t: t.name)
def test_compiles_without_spills(target, tmp_path):
    assert most_registers(CASES, target, tmp_path) <= 64


@pytest.mark.parametrize("family, spec, target", CASES)
def test_is_registered_and_ranks_its_configs(family, spec, target):
    assert {c.family.name for c in enumerate_candidates(spec, target).candidates} == {family.name}
    configs = family.configs(spec, target)
    estimates = [family.estimate(spec, config, target) for config in configs]
    assert min(estimates) == estimates[0] >= 3.0
    texts = {family.render(spec, config, target, "k") for config in configs}
    assert len(texts) == len(configs)


def test_a_window_of_few_columns_is_cut_into_slices():
    few = CudaReduce().configs(GLOBAL_POOL, SM80)[0]
    wide = ReduceSpec(operands=(view(F16, (512, 1, 4096)), view(F16, (512, 2, 1, 2, 4096))))
    many = CudaReduce().configs(wide, SM80)[0]
    assert few.slices > 1 and many.slices == 1


def test_reduced_axes_in_one_piece_are_read_in_packs():
    assert CudaReduce().configs(LAST_AXIS, SM80)[0].width == 8
    assert CudaReduce().configs(APART, SM80)[0].width == 1


def test_rejections_name_the_reason():
    cubic = ResizeSpec(operands=LINEAR.operands, mode="cubic")
    assert "neither nearest nor linear" in CudaResize().supports(cubic, SM80).reason
    power = ReduceSpec(operands=LAST_AXIS.operands, kind="power")
    assert "'power'" in CudaReduce().supports(power, SM80).reason
    lp_pool = PoolSpec(operands=MAX_POOL.operands, kind="lp")
    assert "'lp'" in CudaPool().supports(lp_pool, SM80).reason
