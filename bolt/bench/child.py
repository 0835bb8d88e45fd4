"""The process in which one model is measured with one number of threads.

A process of its own, because thread pools, memory and registered libraries of earlier measurements would
disturb the next, and because a crash must not end the run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bolt.bench.engines import Bind, Call, Opening, by_name, stock_session
from bolt.bench.layers import layers
from bolt.bench.peak import peak_gflops
from bolt.bench.result import Coverage, Measured, Row
from bolt.ep.artifact import Artifact
from bolt.target import detect
from bolt.timing import Protocol, interleave
from bolt.verify import compare_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a child measures.

    Attributes:
        name: of the model.
        model: the ONNX file.
        artifact: what bolt made of it.
        threads: of every engine.
        engines: names of the engines to time.
        cases: (label, .npz file with arrays a0, a1, ..., names of those inputs) of each.
        protocol: fields of `Protocol`.
        with_layers: also time each step.
    """

    name: str
    model: str
    artifact: str
    threads: int
    engines: Sequence[str]
    cases: Sequence[tuple[str, str, Sequence[str]]]
    protocol: Mapping[str, Any]
    with_layers: bool


def measure(request: Request) -> list[Row]:
    """The rows of all cases."""
    opening = Opening(model=Path(request.model), artifact=Path(request.artifact), threads=request.threads)
    artifact = Artifact.load(opening.artifact)
    opened = {name: _opened(name, opening) for name in request.engines}
    covered = coverage(artifact)
    return [
        _case(request, opened, artifact, covered, label, _feeds(path, names))
        for label, path, names in request.cases
    ]


def coverage(artifact: Artifact) -> Coverage:
    """How much of the model bolt runs."""
    report = artifact.report
    graph = onnx.load(artifact.model_path, load_external_data=False).graph
    return Coverage(
        nodes=sum(len(p["nodes"]) for p in report["partitions"]),
        left=sum(node.op_type != "EPContext" for node in graph.node),
        partitions=len(report["partitions"]),
        flops_share=report["notes"].get("flops_share", 0.0),
    )


def _feeds(path: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[f"a{i}"] for i, name in enumerate(names)}


def _opened(name: str, opening: Opening) -> Bind | str:
    """The engine with the model loaded, or why it can't load it."""
    try:
        return by_name(name).open(opening)
    except Exception as error:  # peers raise whatever they like; one that fails must not stop the others
        return f"can't load the model: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200]


def _case(
    request: Request,
    opened: Mapping[str, Bind | str],
    artifact: Artifact,
    covered: Coverage,
    label: str,
    feeds: Mapping[str, np.ndarray],
) -> Row:
    reference = stock_session(Path(request.model), request.threads, optimized=False).run(None, dict(feeds))
    calls: dict[str, Call] = {}
    engines: dict[str, Measured] = {}
    for name, bind in opened.items():
        engines[name], call = _checked(bind, feeds, reference)
        if call is not None:
            calls[name] = call
    peak = peak_gflops(detect(), request.threads)
    samples = interleave(calls, Protocol(**request.protocol))
    engines = {
        name: replace(m, timing=samples.timing(name)) if name in calls else m for name, m in engines.items()
    }
    peers = [name for name in calls if name != "bolt"] if "bolt" in calls else []
    wanted = request.with_layers and "bolt" in calls
    return Row(
        model=request.name,
        case=label,
        threads=request.threads,
        engines=engines,
        ratios={peer: samples.ratio("bolt", peer) for peer in peers},
        peak_gflops=peak,
        coverage=covered,
        layers=layers(artifact, feeds, threads=request.threads) if wanted else (),
    )


def _checked(
    bind: Bind | str, feeds: Mapping[str, np.ndarray], reference: Sequence[np.ndarray]
) -> tuple[Measured, Call | None]:
    """What comparing with the reference gave, and the call to time when it is right."""
    if isinstance(bind, str):
        return Measured(problem=bind), None
    try:
        call = bind(feeds)
        outputs = call()
    except Exception as error:  # as in _opened
        return Measured(problem=f"fails: {_first_line(error)}"), None
    if len(outputs) != len(reference):
        return Measured(problem=f"gives {len(outputs)} outputs instead of {len(reference)}"), None
    verdicts = [
        compare_model(np.asarray(got), np.asarray(want)) for got, want in zip(outputs, reference, strict=True)
    ]
    off = max(verdict.max_rel_to_range for verdict in verdicts)
    wrong = next((verdict.reason for verdict in verdicts if not verdict.ok), None)
    if wrong is not None:
        return Measured(error=off if np.isfinite(off) else None, problem=f"wrong: {wrong}"), None
    return Measured(error=off), call


def main() -> None:
    """Reads a request (JSON) from stdin; the last line on stdout is the answer."""
    request = Request(**json.load(sys.stdin))
    answer = json.dumps([asdict(row) for row in measure(request)])
    sys.stdout.write(f"\n{answer}\n")


if __name__ == "__main__":
    main()
