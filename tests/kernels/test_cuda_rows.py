"""`cuda_softmax` and `cuda_norm`: teams of threads, what stays in registers, and that it compiles."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels.cuda_compile import most_registers, needs_nvcc, targets_of, view

from bolt.epilogue import Builder
from bolt.kernels.cuda_norm import CudaNorm
from bolt.kernels.cuda_softmax import CudaSoftmax
from bolt.ops.rows import NormSpec, SoftmaxSpec
from bolt.search.candidates import enumerate_candidates
from bolt.target import SM75, SM80, SM90A
from bolt.types import BF16, F16, F32, DType


def softmax(*dims: int, log: bool = False, dtype: DType = F16) -> SoftmaxSpec:
    return SoftmaxSpec(operands=(view(dtype, dims, alignment=16), view(F32, dims, alignment=16)), log=log)


def layer_norm(rows: int, k: int) -> NormSpec:
    b = Builder()
    epilogue = b.finish(b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1)))
    dims = (1, 1, rows, k)
    vector = view(F32, dims, (0, 0, 0, 1))
    return NormSpec(operands=(view(F16, dims), view(F16, dims), vector, vector), epilogue=epilogue)


_RUN_TIME = view(BF16, (None, 12, None, None), (None, None, None, 1))
RUN_TIME = SoftmaxSpec(operands=(_RUN_TIME, _RUN_TIME), log=True)

GOLDEN = Path(__file__).parents[1] / "codegen" / "golden"

CASES = [
    pytest.param(CudaSoftmax(), softmax(8, 12, 197, 197), SM80, id="softmax"),
    pytest.param(CudaSoftmax(), softmax(1, 1, 8, 100_000), SM90A, id="softmax-long"),
    pytest.param(CudaSoftmax(), RUN_TIME, SM75, id="softmax-run-time"),
    pytest.param(CudaNorm(), layer_norm(128, 768), SM80, id="norm"),
    pytest.param(CudaNorm(), layer_norm(4096, 12_000), SM80, id="norm-wide"),
]


@needs_nvcc
@pytest.mark.parametrize("target", targets_of(CASES), ids=lambda t: t.name)
def test_compiles_without_spills(target, tmp_path):
    assert most_registers(CASES, target, tmp_path) <= 80


@pytest.mark.parametrize("family, spec, target", CASES)
def test_is_registered_and_ranks_its_configs(family, spec, target):
    assert {c.family.name for c in enumerate_candidates(spec, target).candidates} == {family.name}
    configs = family.configs(spec, target)
    estimates = [family.estimate(spec, config, target) for config in configs]
    assert estimates == sorted(estimates) and estimates[0] >= 3.0
    texts = {family.render(spec, config, target, "k") for config in configs}
    assert len(texts) == len(configs)


def rendered(family, spec, target=SM80) -> str:
    return family.render(spec, family.configs(spec, target)[0], target, "k")


def launched(family, spec, *, threads: int | None = None) -> str:
    """The template arguments of the launcher's first choice."""
    configs = family.configs(spec, SM80)
    config = next(c for c in configs if threads in (None, c.threads))
    return family.render(spec, config, SM80, "k").split("return launch<")[1].split(">")[0]


@pytest.mark.parametrize(
    "k, threads, kernel",
    [
        (2, 1, "int32_t, 2, 1, 1"),
        (10, 8, "int32_t, 2, 8, 1"),
        (128, 16, "int32_t, 8, 16, 1"),
        (1000, 32, "int32_t, 8, 32, 4"),
        (1001, 32, "int32_t, 1, 32, 32"),
        (1032, 128, "int32_t, 8, 128, 2"),
        (16384, 1024, "int32_t, 8, 1024, 2"),
        (16385, 1024, "int32_t, 1, 1024, 0"),
        (100_000, 1024, "int32_t, 8, 1024, 0"),
    ],
)
def test_team_and_registers_follow_the_length(k, threads, kernel):
    assert launched(CudaSoftmax(), softmax(1, 1, 9999, k), threads=threads) == kernel


def test_few_rows_get_larger_teams():
    few, many = (CudaNorm().configs(layer_norm(rows, 768), SM80)[0].threads for rows in (16, 100_000))
    assert few > 32 and many == 32


def test_rejections_name_the_reason():
    spec = softmax(1, 1, 4, 8)
    constant = SoftmaxSpec(operands=spec.operands, constants=(1,))
    assert "nothing to pack" in CudaSoftmax().supports(constant, SM80).reason


def test_rendered_kernel_is_the_golden_file():
    assert rendered(CudaNorm(), layer_norm(128, 768)) == (GOLDEN / "cuda_norm.cu").read_text()
