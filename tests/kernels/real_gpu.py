"""Where `cuda_harness` runs kernels: under the emulator, or on this machine's GPU (BOLT_TEST_DEVICE).

    emulator   the default
    compile    nothing runs: what the tests would run is compiled at the end, on all cores; needs no GPU
    gpu        kernels run on the GPU, in a child process that dies alone when a kernel does

`pytest -m gpu` chooses `gpu`. A test's target is replaced by the GPU's own, which runs the families of older
architectures too; a test whose family or config does not exist there is skipped. BOLT_TEST_JOBS is the number
of compilers at a time.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bolt import gpu
from bolt.errors import CompileError, TargetError
from bolt.kernels.family import Candidate, Config, Family
from bolt.ops.spec import Spec
from bolt.options import cache_dir
from bolt.search.measure import Worker, WorkerLost
from bolt.search.memory import MemoryFile
from bolt.target import Target, by_name, detect_cuda
from bolt.toolchain import build
from bolt.toolchain.host import for_target
from bolt.toolchain.reuse import DUPLICATES

MODES = ("emulator", "compile", "gpu")
MODE = os.environ.get("BOLT_TEST_DEVICE", "emulator")
assert MODE in MODES, f"BOLT_TEST_DEVICE is {MODE!r}; choose one of {', '.join(MODES)}"

IS_EMULATED = MODE == "emulator"
COMPILES_ONLY = MODE == "compile"

_CHILD = "kernels.gpu_child"
_TESTS = Path(__file__).parents[1]
_LIMIT_S = 60.0
_DEFAULT_TARGET = "sm90a"
"""What is compiled for where there is no GPU; BOLT_TEST_GPU_TARGET names another one."""

_WANTED: dict[str, Candidate] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One call of a launcher.

    Attributes:
        blocks: memory; on the device each is an allocation of its own, and the kernel's changes come back.
        pointers: (block, byte in it) of each operand.
        scratch: the same of the scratch.
        ints: the `d` array.
        launches: how often.
    """

    blocks: Sequence[np.ndarray]
    pointers: Sequence[tuple[int, int]]
    scratch: tuple[int, int]
    ints: Sequence[int]
    launches: int = 1


def obstacle() -> str:
    """Why tests of this mode can't run here; "" when they can."""
    if COMPILES_ONLY:
        return ""
    return gpu.query().reason


@functools.cache
def target() -> Target:
    """The target of this machine's GPU."""
    try:
        return detect_cuda()
    except TargetError:
        return by_name(os.environ.get("BOLT_TEST_GPU_TARGET", _DEFAULT_TARGET))


def fitting(family: Family, spec: Spec, asked: Target, config: Config | None) -> Target:
    """The target to run a test on that was written for `asked`; the test is skipped where there is none."""
    own = target()
    if own == asked:
        return own
    rejection = family.supports(spec, own)
    if rejection is not None:
        pytest.skip(f"{family.name} does not compute this on {own.name}: {rejection.reason}")
    if config is not None and config not in family.configs(spec, own):
        pytest.skip(f"{family.name} has no config {config} on {own.name}")
    return own


def want(candidate: Candidate) -> None:
    """Notes what a test would run."""
    _WANTED[candidate.key] = candidate


def compile_wanted() -> list[str]:
    """Compiles everything noted; a line for each failure and one for the whole."""
    start = time.monotonic()
    candidates = list(_WANTED.values())
    results = zip(candidates, _builder(target()).build(candidates), strict=True)
    failures = [f"{c.family.name} {c.config}: {r}" for c, r in results if isinstance(r, CompileError)]
    said = f"compiled {len(candidates)} kernels for {target().name} in {time.monotonic() - start:.0f} s"
    return [*failures, f"{said}, {len(failures)} failed"]


@functools.cache
def _builder(target: Target) -> build.Builder:
    compiler, jobs = for_target(target), int(os.environ.get("BOLT_TEST_JOBS", "0"))
    return build.Builder(target, compiler=compiler, cache=build.store(cache_dir()), jobs=jobs, reused=True)


@functools.cache
def _library(candidate: Candidate) -> Path:
    (built,) = _builder(candidate.target).build([candidate])
    if isinstance(built, CompileError):
        raise built
    compiler, cache = for_target(candidate.target), build.store(cache_dir())
    return build.link(built.objects, compiler=compiler, cache=cache, extra=(DUPLICATES,))


@functools.cache
def _worker() -> Worker:
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(_TESTS), *([known] if known else [])])
    return Worker(gpu.query().devices[0].ordinal, _CHILD, limit_s=_LIMIT_S)


def run(candidate: Candidate, launch: Launch) -> None:
    """Runs a kernel; `launch.blocks` then hold what the device's memory holds.

    Raises:
        AssertionError: the kernel failed; the message has its config.
    """
    execute(
        _worker(), _library(candidate), candidate.name, launch, f"{candidate.family.name} {candidate.config}"
    )


def execute(worker: Worker, library: Path, symbol: str, launch: Launch, what: str = "") -> None:
    """One launch by the child process `worker`."""
    with MemoryFile.open() as memory:
        places = [memory.put(block) for block in launch.blocks]
        try:
            worker.ask(
                library=str(library), symbol=symbol, memory=str(memory.path), blocks=places,
                pointers=list(launch.pointers), scratch=launch.scratch, ints=list(launch.ints),
                launches=launch.launches,
            )  # fmt: skip
        except WorkerLost as lost:
            raise AssertionError(f"{what} ({symbol}): {lost.status}: {lost}") from lost
        for block, place in zip(launch.blocks, places, strict=True):
            block.reshape(-1).view(np.uint8)[:] = memory.view(place, np.dtype(np.uint8))
