"""A trial of an artifact in a child process: is it right, and is it faster than stock ONNX Runtime?

The child loads both, so that a crash of generated code ends the child and not the user's program.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bolt import child
from bolt.errors import VerifyError
from bolt.target import by_name, runs_here
from bolt.timing import Protocol, interleave
from bolt.verify import compare_model

PROTOCOL = Protocol(rounds=16, burst_s=0.04, warm_s=0.1, limit_s=6.0)
"""Enough to tell 2 % apart on a quiet machine, within seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was found.

    Attributes:
        errors: output name -> largest error relative to the output's range.
        failures: sentences about outputs outside the tolerance.
        ort_ms: ONNX Runtime's milliseconds per run: {"min": ..., "median": ...}; empty when not timed.
        bolt_ms: the artifact's.
        speedup: how many times faster the artifact is; None when not timed.
    """

    errors: Mapping[str, float]
    failures: tuple[str, ...]
    ort_ms: Mapping[str, float]
    bolt_ms: Mapping[str, float]
    speedup: float | None


def run_trial(
    artifact: Path,
    model: Path,
    feeds: Mapping[str, np.ndarray],
    *,
    threads: int,
    timed: bool,
    precision: str = "fp32",
    timeout_s: float = 600.0,
) -> Trial:
    """Compare `artifact` with `model` on stock ONNX Runtime (optimizations off for the reference).

    Every variant this machine can run is compared, the first of them is timed.

    Args:
        precision: of the artifact; decides how far its outputs may be off.

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
            "precision": precision,
        }
        found = child.ask(
            "bolt.ep.trial", request, what="the trial run", timeout_s=timeout_s, error=VerifyError
        )
    return Trial(
        errors=found["errors"],
        failures=tuple(found["failures"]),
        ort_ms=found["ort_ms"],
        bolt_ms=found["bolt_ms"],
        speedup=found["speedup"],
    )


def _serve(request: Mapping[str, Any]) -> dict[str, Any]:
    """The child's side: compare, then time."""
    from bolt.ep.artifact import Artifact
    from bolt.ep.session import load_runtime

    ort = load_runtime()
    ort.set_default_logger_severity(3)
    arrays = np.load(request["feeds"])
    feeds = {name: arrays[f"a{i}"] for i, name in enumerate(request["names"])}
    levels = ort.GraphOptimizationLevel
    expected = _outputs(_stock(ort, request, levels.ORT_DISABLE_ALL), feeds)
    artifact = Artifact.load(request["artifact"])
    first, *others = [name for name in artifact.targets if runs_here(by_name(name))]
    ours = artifact.session(threads=request["threads"], ep_options={"target": first})
    precision = request["precision"]
    errors, failures = _compared(_outputs(ours, feeds), expected, first, precision)
    for name in others:  # a machine that can't run the first gets one of them
        other = artifact.session(threads=request["threads"], ep_options={"target": name})
        failures += _compared(_outputs(other, feeds), expected, name, precision)[1]
    found = {"errors": errors, "failures": failures, "ort_ms": {}, "bolt_ms": {}, "speedup": None}
    if request["timed"] and not failures:
        found |= _timed(_stock(ort, request, levels.ORT_ENABLE_ALL), ours, feeds)
    return found


def _stock(ort: Any, request: Mapping[str, Any], level: Any) -> Any:
    """A session of the model as given on the CPU provider."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.graph_optimization_level = level
    return ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])


def _outputs(session: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [o.name for o in session.get_outputs()]
    return {n: np.asarray(y) for n, y in zip(names, session.run(None, feeds), strict=True)}


def _compared(
    got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], target: str, precision: str
) -> tuple[dict[str, float], list[str]]:
    """The error of each output, and a sentence about each that is wrong."""
    verdicts = {name: compare_model(got[name], array, precision=precision) for name, array in want.items()}
    wrong = [f"output {name!r} on {target}: {v.reason}" for name, v in verdicts.items() if not v.ok]
    return {name: v.max_rel_to_range for name, v in verdicts.items()}, wrong


def _timed(stock: Any, ours: Any, feeds: Mapping[str, np.ndarray]) -> dict[str, Any]:
    engines = {"ort": lambda: stock.run(None, feeds), "bolt": lambda: ours.run(None, feeds)}
    samples = interleave(engines, PROTOCOL)
    ratio = samples.ratio("bolt", "ort")
    times = {name: samples.timing(name) for name in engines}
    return {
        **{f"{n}_ms": {"min": t.min_ms, "median": t.median_ms} for n, t in times.items()},
        # Noise hits single rounds and single calls in different ways: their mean flips least.
        "speedup": math.sqrt(ratio.median * ratio.best),
    }


if __name__ == "__main__":
    print(json.dumps(_serve(json.load(sys.stdin))))
