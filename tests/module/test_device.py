"""Modules for CUDA targets, as far as they run without a GPU: launchers here work on the host's memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from lowered import covered
from onnx_models import ModelBuilder

from bolt.errors import ModuleError, ToolchainError
from bolt.graph.conventions import conventions
from bolt.kernels.family import Candidate, Config, DeviceFamily, Source
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.module.compile import compile_module
from bolt.module.host import aligned
from bolt.module.load import Module, load
from bolt.module.plan import plan
from bolt.module.render import render_module
from bolt.ops.spec import Spec
from bolt.program import Program, Step
from bolt.report import Rejection
from bolt.target import SM80, X86_AVX2, Target
from bolt.toolchain import host
from bolt.toolchain.build import store
from bolt.toolchain.compile import compile_object

RULES, SIZES = conventions(SM80, "fp16"), {"n": 3}

LAUNCHER = """
#include "bolt/cuda/launch.h"
extern "C" int NAME(void* const* p, const int64_t* d, void* scratch, CUstream_st*) {
  static_cast<char*>(scratch)[99] = 1;
  const float* x = static_cast<const float*>(p[1]);
  if (x[0] == -1.0f) return 100;  // no device
  if (x[0] == -2.0f) return -1;   // cutlass::Status::kErrorMisalignedOperand
  for (int64_t i = 0; i < d[0]; i++) static_cast<float*>(p[0])[i] = x[i] + 1.0f;
  return 0;
}
"""


class Toy(PlainFamily):
    """Adds 1 to one dim of run-time extent, on the host."""

    name = "toy"
    op = "pointwise"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        return None

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        return LAUNCHER.replace("NAME", name)

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        return ()

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {index: array.reshape(-1) for index, array in constants.items()}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 100


def lowered(*, ints: bool = False) -> Program:
    """y = x + 1, or x plus its number of rows; x is (n, 4)."""
    b = ModelBuilder()
    x = b.input("x", ["n", 4])
    count = b.constant(1.0, np.float32)
    if ints:
        rows = b.add("Gather", b.add("Shape", x), b.constant([0], np.int64))
        count = b.add("Cast", rows, to=1)
    (program,) = covered(b.output(b.add("Add", x, count)).model(), conventions=RULES).programs
    return program


def candidates(program: Program, target: Target) -> dict[str, Candidate]:
    steps: Sequence[Step] = [s for s in program.steps if isinstance(s, Step)]
    return {s.spec.key: Candidate(spec=s.spec, family=Toy(), config=OneWay(), target=target) for s in steps}


def compiled(root: Path, program: Program) -> Module:
    try:
        compiler = host.for_target(SM80)
    except ToolchainError as error:
        pytest.skip(str(error))
    cache = store(root)
    chosen = {
        key: (c, (compile_object(c.source(), SM80, compiler=compiler, cache=cache),))
        for key, c in candidates(program, SM80).items()
    }
    built = compile_module(program, chosen, SM80, SIZES, compiler=compiler, cache=cache)
    return load(built.path, built.weights, cache_root=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def module(root: Path) -> Iterator[Module]:
    with compiled(root, lowered()) as found:
        yield found


def test_the_toy_is_a_device_family() -> None:
    assert isinstance(Toy(), DeviceFamily)


def test_kernels_are_launched_and_known_integers_written_by_one() -> None:
    program = lowered(ints=True)
    rendered = render_module(program, plan(program, {}), candidates(program, SM80), SM80, SIZES)
    text = rendered.source.text
    assert '#include "bolt/module_cuda.h"' in text
    assert text.count("if (bolt_launch(context, bolt_toy_pointwise_") == 2
    assert text.count("BoltLaunch bolt_toy_pointwise_") == 2
    assert text.count("bolt_put_ints(context, ") == 1
    assert "parallel" not in text and "threads)" not in text.split("int32_t run(")[1]
    assert [s.language for s in rendered.further] == ["cuda"]


def test_on_a_cpu_nothing_more_is_compiled() -> None:
    program = lowered(ints=True)
    rendered = render_module(
        program, plan(program, {}), candidates(program, X86_AVX2), X86_AVX2, {"n": 3, "m": 1}
    )
    assert rendered.further == ()
    assert "bolt_launch" not in rendered.source.text


def test_one_scratch_for_the_whole_call(module: Module) -> None:
    assert module.target == "sm80"
    one, many = (module.infer([(3, 4)], threads=t) for t in (1, 8))
    assert one.dims == ((3, 4),)
    assert one.workspace_bytes == many.workspace_bytes == 256


def test_a_run_calls_the_launchers(module: Module) -> None:
    x = aligned(48).view(np.float32).reshape(3, 4)
    x[...] = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(module.run([x])[0], x + 1)


@pytest.mark.parametrize(
    "first,said", [(-1.0, "no CUDA-capable device is detected"), (-2.0, "misaligned operand")]
)
def test_a_failed_launch_names_the_kernel_and_the_reason(module: Module, first: float, said: str) -> None:
    x = aligned(48).view(np.float32).reshape(3, 4)
    x[...] = first
    with pytest.raises(ModuleError, match=rf"bolt_toy_pointwise_\w+ can't be launched: .*{said}"):
        module.run([x])


def test_known_integers_are_written_on_the_device(root: Path) -> None:
    x = aligned(48).view(np.float32).reshape(3, 4)
    with compiled(root, lowered(ints=True)) as module:
        with pytest.raises(ModuleError, match=r"known integers can't be launched: .*CUDA"):
            module.run([x])


def test_memory_that_kernels_could_not_use_is_refused(module: Module) -> None:
    x = aligned(52).view(np.float32)[1:13].reshape(3, 4)
    with pytest.raises(ModuleError, match="input x is not aligned to 16 bytes"):
        module.run([x])


def test_constants_and_temporaries_start_at_256_bytes() -> None:
    b = ModelBuilder()
    y = b.add("Conv", b.input("x", [1, 8, 5, 5]), b.weights("w", (8, 8, 3, 3)), b.weights("b", (8,)))
    z = b.add("Conv", y, b.weights("v", (8, 8, 1, 1)), b.weights("c", (8,)))
    (program,) = covered(b.output(z).model(), conventions=RULES).programs
    found = plan(program, {})
    text = render_module(program, found, candidates(program, SM80), SM80, {}).source.text
    starts = [int(start) for start in re.findall(r"\(c \+ (\d+)\)", text)]
    assert len(starts) == 4 and all(start % 256 == 0 for start in starts)
    assert found.bytes({}, 256) % 256 == 0


def test_a_result_never_takes_the_place_of_what_its_kernel_reads() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 8, 5, 5])
    y = b.add("Conv", x, b.weights("w", (8, 8, 3, 3)), pads=[1] * 4)
    z = b.add("Conv", y, b.weights("v", (8, 8, 3, 3)), pads=[1] * 4)
    y = b.add("Relu", b.add("Add", z, b.add("Conv", y, b.weights("u", (8, 8, 1, 1)))))
    (program,) = covered(b.output(y).model(), conventions=RULES).programs
    found = plan(program, {}, in_place=False)
    for step in program.steps:
        names = {v.buffer.name for v in step.views if v.buffer.kind == "temp"}
        assert len({found.slot_of[n] for n in names}) == len(names)
