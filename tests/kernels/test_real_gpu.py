"""The way to a real GPU, tried on the pretended driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cuda import driver, emulator
from kernels import real_gpu
from kernels.cuda_harness import Buffer
from kernels.device_samples import ARITHMETIC, FAMILIES, sample

from bolt.kernels.family import Candidate
from bolt.search.measure import Worker
from bolt.target import SM80, SM90A, SM100A

pytestmark = pytest.mark.skipif(bool(said := emulator.obstacle()), reason=said)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    for name, value in driver.environment("80").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(emulator.library().parent))
    tests, known = str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, *([known] if known else [])]))
    with Worker(0, "kernels.gpu_child") as child:
        yield child


def softmax() -> Candidate:
    family, found = FAMILIES["cuda_softmax"], sample(FAMILIES["cuda_softmax"], ARITHMETIC[0])
    assert found is not None
    return Candidate(spec=found.spec, family=family, config=family.configs(found.spec, SM80)[0], target=SM80)


def library(candidate: Candidate) -> Path:
    return emulator.link([emulator.compile_source(candidate.source(), SM80)])


def launch(candidate: Candidate) -> tuple[real_gpu.Launch, list[Buffer]]:
    buffers = [Buffer(operand, page_end=False) for operand in candidate.spec.operands]
    for buffer in buffers[1:]:
        buffer.view[...] = 0
    blocks = [*(b.bytes for b in buffers), np.zeros(64, np.uint8)]
    pointers = [(i, b.start) for i, b in enumerate(buffers)]
    scratch = (len(buffers), 16)
    return real_gpu.Launch(blocks=blocks, pointers=pointers, scratch=scratch, ints=[]), buffers


def test_what_a_kernel_wrote_comes_back(worker: Worker) -> None:
    candidate = softmax()
    asked, buffers = launch(candidate)
    real_gpu.execute(worker, library(candidate), candidate.name, asked)
    got = buffers[0].view.astype(np.float32)
    want = candidate.spec.reference([b.view.astype(np.float32) for b in buffers[1:]])[0]
    np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), rtol=2e-3)


def test_a_kernel_that_fails_is_named_and_the_next_one_runs(worker: Worker) -> None:
    candidate = softmax()
    asked, _ = launch(candidate)
    wild = replace(asked, pointers=[(0, 1 << 40), *asked.pointers[1:]])
    with pytest.raises(AssertionError, match=r"softmax first.*ILLEGAL_ADDRESS"):
        real_gpu.execute(worker, library(candidate), candidate.name, wild, "softmax first")
    test_what_a_kernel_wrote_comes_back(worker)


def test_a_test_written_for_another_target_runs_on_the_gpus_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_gpu, "target", lambda: SM90A)
    candidate = softmax()
    family, spec = candidate.family, candidate.spec
    assert real_gpu.fitting(family, spec, SM80, None) is SM90A
    with pytest.raises(pytest.skip.Exception, match="no config"):
        real_gpu.fitting(family, spec, SM80, "another")
    other = FAMILIES["cutlass_gemm_sm100"]
    with pytest.raises(pytest.skip.Exception, match="does not compute this on sm90a"):
        real_gpu.fitting(other, spec, SM100A, None)


def test_what_is_wanted_twice_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_gpu, "_WANTED", {})
    for _ in range(2):
        real_gpu.want(softmax())
    assert list(real_gpu._WANTED) == [softmax().key]
