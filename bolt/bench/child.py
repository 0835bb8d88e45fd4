"""The process in which one model is measured with one number of threads.

A process of its own, because thread pools, memory and registered libraries of earlier measurements would
disturb the next, and because a crash must not end the run. It keeps itself on as many cores as it has
threads.
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

from bolt.bench.bandwidth import Curve, bandwidth
from bolt.bench.engines import Bind, Call, Opening, by_name, stock_session
from bolt.bench.layers import Layer, Limits, layers
from bolt.bench.opening import note_of
from bolt.bench.peak import peak_gflops
from bolt.bench.pinning import pin
from bolt.bench.result import Coverage, Measured, Row
from bolt.ep.artifact import Artifact
from bolt.errors import TargetError
from bolt.target import Target
from bolt.target import by_name as target_named
from bolt.timing import Protocol, Samples, interleave
from bolt.types import BF16, F32, S8, U8
from bolt.verify import compare_model

_PRODUCTS = {"bf16": (BF16,), "int8": (U8, S8)}
"""Precision -> types of what its products multiply; one instruction does all of them."""


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
        precision: what bolt computes in.
        target: what it compiled for; "" is the machine's best.
        pinned: keep the process on as many cores as it has threads.
    """

    name: str
    model: str
    artifact: str
    threads: int
    engines: Sequence[str]
    cases: Sequence[tuple[str, str, Sequence[str]]]
    protocol: Mapping[str, Any]
    with_layers: bool
    precision: str = "fp32"
    target: str = ""
    pinned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What the rows of a process share.

    Attributes:
        target: that is measured.
        threads: of every engine.
        cores: that the process is kept on.
        peaks: limits of products, GFLOP/s by precision; fp32 is measured with every row.
        curve: speed of reading memory.
    """

    target: Target
    threads: int
    cores: tuple[int, ...]
    peaks: Mapping[str, float]
    curve: Curve

    def peak(self) -> float:
        """The fp32 limit right now."""
        return peak_gflops(self.target, self.threads)


def measure(request: Request) -> list[Row]:
    """The rows of all cases."""
    cores = pin(request.threads) if request.pinned else ()
    machine = _machine(request, cores)
    opening = Opening(
        model=Path(request.model), artifact=Path(request.artifact), threads=request.threads,
        precision=request.precision,
    )  # fmt: skip
    artifact = Artifact.load(opening.artifact)
    opened = {name: _opened(name, opening) for name in request.engines}
    covered = coverage(artifact)
    return [
        replace(_case(request, machine, opened, artifact, label, _feeds(path, names)), coverage=covered)
        for label, path, names in request.cases
    ]


def _machine(request: Request, cores: tuple[int, ...]) -> _Machine:
    target = target_named(request.target or "auto")
    return _Machine(
        target=target,
        threads=request.threads,
        cores=cores,
        peaks=_peaks(target, request),
        curve=bandwidth(target, request.threads) if request.with_layers else (),
    )


def _peaks(target: Target, request: Request) -> dict[str, float]:
    """The limit of products of the request's precision; none where that is fp32, or the target has none."""
    dtypes = _PRODUCTS.get(request.precision)
    try:
        return {request.precision: peak_gflops(target, request.threads, dtype=dtypes[0])} if dtypes else {}
    except TargetError:  # bolt then computes in fp32, as all others do
        return {}


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
    machine: _Machine,
    opened: Mapping[str, Bind | str],
    artifact: Artifact,
    label: str,
    feeds: Mapping[str, np.ndarray],
) -> Row:
    calls, engines = _bound(request, opened, feeds)
    before = machine.peak()
    samples = interleave(calls, Protocol(**request.protocol))
    after = machine.peak()
    wanted = request.with_layers and "bolt" in calls
    return Row(
        model=request.name,
        case=label,
        threads=request.threads,
        engines={n: replace(m, timing=samples.timing(n)) if n in calls else m for n, m in engines.items()},
        ratios=_ratios(samples),
        peak_gflops=before,
        layers=_layers(request, machine, artifact, feeds, max(before, after), samples) if wanted else (),
        precision=request.precision,
        target=request.target,
        peak_after_gflops=after,
        peaks=machine.peaks,
        bandwidth=machine.curve,
        cores=machine.cores,
    )


def _ratios(samples: Samples) -> dict[str, Any]:
    peers = [name for name in samples.ms if name != "bolt"] if "bolt" in samples.ms else []
    return {peer: samples.ratio("bolt", peer) for peer in peers}


def _layers(
    request: Request,
    machine: _Machine,
    artifact: Artifact,
    feeds: Mapping[str, np.ndarray],
    peak: float,
    samples: Samples,
) -> tuple[Layer, ...]:
    peaks = {t.name: gflops for precision, gflops in machine.peaks.items() for t in _PRODUCTS[precision]}
    limits = Limits(peaks={F32.name: peak, **peaks}, curve=machine.curve)
    run_us = samples.timing("bolt").min_ms * 1e3
    return layers(artifact, feeds, limits, threads=request.threads, run_us=run_us)


def _bound(
    request: Request, opened: Mapping[str, Bind | str], feeds: Mapping[str, np.ndarray]
) -> tuple[dict[str, Call], dict[str, Measured]]:
    """The engines that can be timed on these inputs, and what is known of all of them."""
    reference = stock_session(Path(request.model), request.threads, optimized=False).run(None, dict(feeds))
    calls: dict[str, Call] = {}
    engines: dict[str, Measured] = {}
    for name, bind in opened.items():
        # The goal of a rounded result is speed at an error that is told; fp32 results have to be right.
        excused = name != "bolt" and request.precision != "fp32"
        engines[name], call = _checked(bind, feeds, reference, request.precision, excused=excused)
        if call is not None:
            calls[name] = call
    return calls, engines


def _checked(
    bind: Bind | str,
    feeds: Mapping[str, np.ndarray],
    reference: Sequence[np.ndarray],
    precision: str = "fp32",
    *,
    excused: bool = False,
) -> tuple[Measured, Call | None]:
    """What comparing with the reference gave, and the call to time when it is right or excused."""
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
        compare_model(np.asarray(got), np.asarray(want), precision=precision)
        for got, want in zip(outputs, reference, strict=True)
    ]
    off = max(verdict.max_rel_to_range for verdict in verdicts)
    wrong = next((f"wrong: {verdict.reason}" for verdict in verdicts if not verdict.ok), "")
    found = Measured(error=off if np.isfinite(off) else None, problem=wrong, note=note_of(call))
    return found, call if not wrong or excused else None


def main() -> None:
    """Reads a request (JSON) from stdin; the last line on stdout is the answer."""
    request = Request(**json.load(sys.stdin))
    answer = json.dumps([asdict(row) for row in measure(request)])
    sys.stdout.write(f"\n{answer}\n")


if __name__ == "__main__":
    main()
