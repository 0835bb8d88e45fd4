"""A trial of an artifact in a child process: is it right, and is it faster than stock ONNX Runtime?

The child loads both, so that a crash of generated code ends the child and not the user's program.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bolt.errors import VerifyError

_ROUNDS = 24
_BURST_S = 0.02
"""Each engine runs for about this long at a time, so that the other's idle threads have gone to sleep."""
_LIMIT_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was found.

    Attributes:
        errors: output name -> largest error relative to the output's range.
        failures: sentences about outputs outside the tolerance.
        ort_ms: ONNX Runtime's milliseconds per run: {"min": ..., "median": ...}; empty when not timed.
        bolt_ms: the artifact's.
    """

    errors: Mapping[str, float]
    failures: tuple[str, ...]
    ort_ms: Mapping[str, float]
    bolt_ms: Mapping[str, float]

    @property
    def speedup(self) -> float | None:
        """Shortest run of ONNX Runtime over shortest run of bolt: what noise disturbs least."""
        return self.ort_ms["min"] / self.bolt_ms["min"] if self.ort_ms else None


def run_trial(
    artifact: Path,
    model: Path,
    feeds: Mapping[str, np.ndarray],
    *,
    threads: int,
    timed: bool,
    timeout_s: float = 600.0,
) -> Trial:
    """Compare `artifact` with `model` on stock ONNX Runtime (optimizations off for the reference).

    Raises:
        VerifyError: the child crashed or did not finish.
    """
    with tempfile.TemporaryDirectory(prefix="bolt-trial-") as folder:
        feeds_path = Path(folder) / "feeds.npz"
        arrays: dict[str, Any] = {f"a{i}": a for i, a in enumerate(feeds.values())}
        np.savez(feeds_path, **arrays)
        request = {
            "artifact": str(artifact),
            "model": str(model),
            "feeds": str(feeds_path),
            "names": list(feeds),
            "threads": threads,
            "timed": timed,
        }
        command = [sys.executable, "-m", "bolt.ep.trial", json.dumps(request)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise VerifyError(f"the trial run did not finish within {timeout_s:.0f} s") from error
    answer = done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else []
    if not answer:
        said = done.stderr.strip().splitlines()[-3:]
        raise VerifyError(
            f"the trial run ended with status {done.returncode}: {' / '.join(said) or 'no message'}"
        )
    found = json.loads(answer[0])
    return Trial(
        errors=found["errors"],
        failures=tuple(found["failures"]),
        ort_ms=found["ort_ms"],
        bolt_ms=found["bolt_ms"],
    )


def _serve(request: Mapping[str, Any]) -> dict[str, Any]:
    from bolt.ep.artifact import Artifact
    from bolt.ep.session import load_runtime
    from bolt.verify import compare_model

    ort = load_runtime()
    ort.set_default_logger_severity(3)
    arrays = np.load(request["feeds"])
    feeds = {name: arrays[f"a{i}"] for i, name in enumerate(request["names"])}

    def stock(level: Any) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = request["threads"]
        options.graph_optimization_level = level
        return ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])

    reference = stock(ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    expected = reference.run(None, feeds)
    names = [o.name for o in reference.get_outputs()]
    del reference
    ours = Artifact.load(request["artifact"]).session(threads=request["threads"])
    actual = ours.run(None, feeds)
    errors, failures = {}, []
    for name, got, want in zip(names, actual, expected, strict=True):
        verdict = compare_model(np.asarray(got), np.asarray(want))
        errors[name] = verdict.max_rel_to_range
        if not verdict.ok:
            failures.append(f"output {name!r}: {verdict.reason}")
    timings: list[dict[str, float]] = [{}, {}]
    if request["timed"] and not failures:
        peer = stock(ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        timings = _interleaved([lambda: peer.run(None, feeds), lambda: ours.run(None, feeds)])
    return {"errors": errors, "failures": failures, "ort_ms": timings[0], "bolt_ms": timings[1]}


def _interleaved(engines: list[Callable[[], object]]) -> list[dict[str, float]]:
    """Milliseconds per call of each engine, in alternating bursts."""
    calls = []
    for engine in engines:
        engine()
        start = time.perf_counter()
        engine()
        calls.append(max(1, min(200, int(_BURST_S / max(time.perf_counter() - start, 1e-6)))))
    seen: list[list[float]] = [[] for _ in engines]
    deadline = time.perf_counter() + _LIMIT_S
    for index in range(_ROUNDS):
        for engine, count, into in zip(engines, calls, seen, strict=True):
            engine()
            for _ in range(count):
                start = time.perf_counter()
                engine()
                into.append((time.perf_counter() - start) * 1e3)
        if index >= 4 and time.perf_counter() > deadline:
            break
    return [{"min": float(np.min(s)), "median": float(np.median(s))} for s in seen]


if __name__ == "__main__":
    print(json.dumps(_serve(json.loads(sys.argv[1]))))
