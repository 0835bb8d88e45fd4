"""Running candidates in a child process: right first, then timed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bolt.kernels.family import Candidate
from bolt.options import child_environment
from bolt.search.memory import MemoryFile
from bolt.search.operands import Operands

CPU_WORKER, CUDA_WORKER = "bolt.search.worker", "bolt.search.cuda_worker"
OK, WRONG, CRASH, TIMEOUT, COMPILE, SPILLS = "ok", "wrong", "crash", "timeout", "compile", "spills"
LIMIT_S = 60.0
"""Seconds one request may take before the child is ended."""
TIMING_S = 2.0
"""Seconds after which timing a group of candidates comes to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What running a candidate gave.

    Attributes:
        status: "ok", or why there is no time: "wrong", "crash", "timeout", "compile", "spills".
        median_us: median time of one call (0 unless ok).
        min_us: shortest call.
        spread: distance between the quartiles relative to the median.
        calls: how many calls were timed.
        reason: why it is not ok, one sentence.
    """

    status: str
    median_us: float = 0.0
    min_us: float = 0.0
    spread: float = 0.0
    calls: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.status == OK


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate together with its constants, packed its family's way."""

    candidate: Candidate
    packed: Mapping[int, np.ndarray]


class WorkerLost(Exception):
    """The child process ended, or was ended, in the middle of a request."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """A child process that runs kernels; it is started when needed and again after it died.

    Args:
        argument: of the child's command line: the native library, or a GPU's ordinal.
        module: what the child runs.
        limit_s: seconds one request may take.
    """

    def __init__(self, argument: Path | int, module: str = CPU_WORKER, *, limit_s: float = LIMIT_S) -> None:
        self.argument, self.module, self.limit_s = argument, module, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The child's answer.

        Raises:
            WorkerLost: it died, or did not answer within the time limit; the next request starts another.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # reading gives the reason
        return self._answer(process)

    def close(self) -> None:
        """Ends the child."""
        if self._process:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    _close(pipe)
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._errors.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._errors.seek(0)
            self._errors.truncate()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module, str(self.argument)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                env=child_environment(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1"),
                start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the child
            )  # fmt: skip
        return self._process

    def _answer(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        deadline, line = time.monotonic() + self.limit_s, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise WorkerLost(TIMEOUT, f"it did not finish within {self.limit_s:g} s")
            piece = os.read(process.stdout.fileno(), 1 << 20)
            if not piece:
                raise self._died(process)
            line += piece
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self, process: subprocess.Popen[bytes]) -> WorkerLost:
        code = process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        self.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return WorkerLost(
            CRASH, f"the process that ran it ended with {how}" + (f": {said[-1]}" if said else "")
        )


def measure(
    worker: Worker,
    library: Path,
    trials: Sequence[Trial],
    operands: Operands,
    *,
    ints: Sequence[int],
    threads: int,
    rotate_bytes: int,
) -> list[Measurement]:
    """Checks and times each trial.

    Args:
        library: shared library that holds the kernels of all trials.
        operands: data of the bound spec.
        ints: the kernels' `d` array.
        threads: threads, and shares of the work.
        rotate_bytes: constants are copied until they take this much memory, and the copies are used in turn.

    Returns:
        One measurement per trial; none of them raises, whatever a kernel does.
    """
    with MemoryFile.open() as memory:
        places = [memory.put(block.memory) for block in operands.blocks]
        starts = [block.start * block.memory.itemsize for block in operands.blocks]
        request = {
            "op": "load", "library": str(library), "memory": str(memory.path),
            "operands": [(*place, start) for place, start in zip(places, starts, strict=True)],
            "kernels": [_kernel(trial, memory) for trial in trials],
            "ints": list(ints), "threads": threads, "rotate_bytes": rotate_bytes,
        }  # fmt: skip
        output = memory.view(places[0], operands.blocks[0].memory.dtype)
        run = _Run(worker, request, operands, output)
        results = {i: run.check(i) for i in range(len(trials))}
        results |= run.time([i for i, result in results.items() if result.ok])
        return [results[i] for i in range(len(trials))]


@dataclass(slots=True)
class _Run:
    """One load request, the child that answers it, and what to do when that child dies."""

    worker: Worker
    request: dict[str, Any]
    operands: Operands
    output: np.ndarray
    loaded: bool = False

    def check(self, index: int) -> Measurement:
        """Runs a kernel once and compares."""
        self.output[:] = self.operands.blocks[0].memory
        try:
            self._ask(op="check", kernel=index)
        except WorkerLost as lost:
            return Measurement(status=lost.status, reason=lost.reason)
        compared = self.operands.check(self.output.copy())
        return Measurement(status=OK if compared.ok else WRONG, reason=compared.reason)

    def time(self, indices: Sequence[int]) -> dict[int, Measurement]:
        """Times kernels in turn; when one of them kills the child, each alone."""
        if not indices:
            return {}
        try:
            answer = self._ask(op="time", kernels=list(indices), limit_s=TIMING_S)
        except WorkerLost as lost:
            if len(indices) == 1:
                return {indices[0]: Measurement(status=lost.status, reason=lost.reason)}
            return {i: m for index in indices for i, m in self.time([index]).items()}
        return {i: _summary(us) for i, us in zip(indices, answer["us"], strict=True)}

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            if not self.loaded:
                self.worker.ask(**self.request)
            self.loaded = True
            return self.worker.ask(**request)
        except WorkerLost:
            self.loaded = False
            raise


def _summary(us: Sequence[float]) -> Measurement:
    low, median, high = np.percentile(us, [25, 50, 75])
    spread = float((high - low) / max(median, 1e-9))
    return Measurement(
        status=OK, median_us=float(median), min_us=float(min(us)), spread=spread, calls=len(us)
    )


def _kernel(trial: Trial, memory: MemoryFile) -> dict[str, Any]:
    return {
        "symbol": trial.candidate.name,
        "packed": {str(index): memory.put_shared(array) for index, array in trial.packed.items()},
        "scratch_bytes": _scratch_bytes(trial.candidate),
    }


def _scratch_bytes(candidate: Candidate) -> int:
    return candidate.family.scratch_bytes(candidate.spec, candidate.config, candidate.target)


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        pass  # a request the child never read
