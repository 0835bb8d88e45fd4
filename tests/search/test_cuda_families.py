"""CUDA families through the search, on the emulated GPU: what they support is right, and is timed."""

from dataclasses import replace

import pytest
from cuda import driver, emulator
from kernels.cuda_harness import NEEDS_EMULATOR
from search.test_families import Few, sum_of

from bolt import gpu
from bolt.gpu import Device, Found
from bolt.kernels.cuda_pointwise import CudaPointwise
from bolt.kernels.cuda_softmax import CudaSoftmax
from bolt.kernels.cutlass_gemm_sm80 import CutlassGemmSm80
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.rows import SoftmaxSpec
from bolt.ops.spec import Operand
from bolt.options import Options
from bolt.search.choose import Problem, select
from bolt.target import SM80
from bolt.toolchain import build
from bolt.toolchain.build import Kernel
from bolt.toolchain.resources import Resources
from bolt.types import F16, F32

pytestmark = NEEDS_EMULATOR

DEVICE = Device(
    ordinal=0, name="A100", sm=80, multiprocessors=108, memory_bytes=80 << 30, driver="1", cuda=(99, 0)
)


class Emulated:
    """Compiles candidates for the emulator; takes the place of `build.Builder`."""

    def __init__(self, target, **rest):
        self._target = target

    def missing(self, candidates):
        return []

    def build(self, candidates, progress=None):
        return [self._kernel((c.source(), *c.units())) for c in candidates]

    def _kernel(self, sources):
        objects = build.distinct(emulator.compile_source(source, self._target) for source in sources)
        return Kernel(objects=tuple(objects), resources=Resources())


@pytest.fixture
def machine(monkeypatch):
    """A machine whose only GPU is the emulator."""
    monkeypatch.setattr(gpu, "query", lambda: Found((DEVICE,)))
    monkeypatch.setattr(build, "Builder", Emulated)
    monkeypatch.setattr(build, "link", lambda objects, **rest: emulator.link([objects]))
    for name, value in driver.environment("80").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(emulator.library().parent))


def dense(dtype, *dims):
    return replace(Operand.dense(dtype, dims), alignment=16)


SPECS = {
    "gemm": GemmSpec(
        operands=(dense(F32, 1, 1, 24, 40), dense(F16, 1, 1, 24, 64), dense(F16, 1, 1, 64, 40)),
        constants=(2,),
    ),
    "pointwise": PointwiseSpec(
        operands=(dense(F16, 3, 50), dense(F16, 3, 50), dense(F32, 3, 50)), epilogue=sum_of(2)
    ),
    "softmax": SoftmaxSpec(operands=(dense(F16, 1, 2, 3, 17), dense(F32, 1, 2, 3, 17))),
}


def test_every_candidate_is_right_and_timed(machine, tmp_path):
    families = [Few(family) for family in (CutlassGemmSm80(), CudaPointwise(), CudaSoftmax())]
    problems = [Problem(spec=spec) for spec in SPECS.values()]
    chosen = select(problems, SM80, Options(cache=tmp_path, budget_s=600), families=families)
    for name, spec in SPECS.items():
        choice = chosen[spec.key]
        assert not [r for r in choice.rejected if r.stage == "measure"], name
        assert choice.measured >= 1, name
        assert choice.measurement.median_us > 0, name
