"""Benchmarks: optimize a model, then time it against other engines in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from bolt import driver
from bolt.bench.child import Request
from bolt.bench.engines import BOLT, Engine, usable
from bolt.bench.machine import facts
from bolt.bench.result import Result, Row, rows
from bolt.errors import BoltError
from bolt.graph.load import load
from bolt.graph.samples import feed, sample
from bolt.graph.shapes import infer
from bolt.options import Options, Shapes, cores, make
from bolt.report import Event, Progress, silent
from bolt.timing import DEFAULT, Protocol

_TIMEOUT_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of inputs.

    Attributes:
        label: their sizes, for a person.
        feeds: their values.
    """

    label: str
    feeds: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How models are measured.

    Attributes:
        against: names of the peers.
        threads: numbers of threads, each measured on its own.
        budget: tuning time per model and number of threads.
        protocol: of the timing.
        with_layers: also time each step of a run.
    """

    against: tuple[str, ...] = ("ort",)
    threads: tuple[int, ...] = field(default_factory=lambda: (cores(),))
    budget: str | float = "1m"
    protocol: Protocol = DEFAULT
    with_layers: bool = True

    def engines(self) -> tuple[tuple[Engine, ...], dict[str, str]]:
        """The engines that take part, bolt first, and why the others do not.

        Raises:
            EngineError: a peer is unknown.
        """
        present, missing = usable((BOLT.name, *self.against))
        return present, {r.subject: r.reason for r in missing}


def bench(
    model: str | Path,
    against: Sequence[str] = ("ort",),
    *,
    threads: Sequence[int] | int | None = None,
    budget: str | float = "1m",
    shapes: Mapping[str, Sequence[int] | int] | None = None,
    protocol: Protocol = DEFAULT,
    with_layers: bool = True,
    progress: Progress = silent,
) -> Result:
    """Measures one model on sample inputs.

    Args:
        model: an ONNX file.
        against: peers by name: "ort", "openvino", "torch"; those not installed are listed as missing.
        threads: one or several numbers of threads; None is all cores.
        budget: tuning time for each number of threads.
        shapes: sizes of what the model leaves open, by input name or by symbol.
        protocol: rounds and lengths of the timing.
        with_layers: also time each step of a run.
        progress: told how far it is.

    Raises:
        BoltError: the model can't be optimized, or a peer is unknown.
    """
    counts = (threads,) if isinstance(threads, int) else tuple(threads or (cores(),))
    plan = Plan(
        against=tuple(against), threads=counts, budget=budget, protocol=protocol, with_layers=with_layers
    )
    path = Path(model)
    chosen = make(shapes=shapes).shapes
    engines, missing = plan.engines()
    found = measure_model(path.stem, path, (sample_case(path, chosen),), plan, progress)
    return Result(machine=facts(engines), options=describe(plan), missing=missing, rows=found)


def describe(plan: Plan) -> dict[str, object]:
    """The plan as plain JSON."""
    return asdict(plan)


def sample_case(model: Path, shapes: Shapes = ()) -> Case:
    """The inputs that tuning and verification use, for one model.

    Raises:
        ModelError: the model can't be read.
    """
    graph = load(model)
    known = infer(graph)
    feeds = feed(graph, known, sample(graph, known, dict(shapes)))
    return Case(label=label(feeds), feeds=feeds)


def label(feeds: Mapping[str, np.ndarray]) -> str:
    """The inputs' sizes: "1x3x224x224"."""
    return " ".join("x".join(map(str, array.shape)) or "scalar" for array in feeds.values())


def measure_model(
    name: str, model: Path, cases: Sequence[Case], plan: Plan, progress: Progress = silent
) -> tuple[Row, ...]:
    """All cases of a model with each number of threads; tuned for the first case.

    What goes wrong with one number of threads is in its rows and does not stop the others.
    """
    found: list[Row] = []
    for threads in plan.threads:
        try:
            found += _measured(name, model, cases, plan, threads, progress)
        except BoltError as error:
            found += [Row(model=name, case=c.label, threads=threads, problem=str(error)) for c in cases]
    return tuple(found)


def _measured(
    name: str, model: Path, cases: Sequence[Case], plan: Plan, threads: int, progress: Progress
) -> tuple[Row, ...]:
    artifact = driver.optimize(model, _options(cases[0], plan, threads), progress)
    progress(Event(stage="bench", detail=f"{name}, {threads} threads"))
    engines, _ = plan.engines()
    with _saved(cases) as files:
        request = Request(
            name=name,
            model=str(model.absolute()),
            artifact=str(artifact.path),
            threads=threads,
            engines=[engine.name for engine in engines],
            cases=files,
            protocol=asdict(plan.protocol),
            with_layers=plan.with_layers,
        )
        return _in_child(request)


def _options(case: Case, plan: Plan, threads: int) -> Options:
    return make(budget=plan.budget, threads=threads, shapes={n: a.shape for n, a in case.feeds.items()})


@contextmanager
def _saved(cases: Sequence[Case]) -> Iterator[list[tuple[str, str, list[str]]]]:
    """The cases as files; names of inputs may hold characters that an archive can't."""
    with tempfile.TemporaryDirectory(prefix="bolt-bench-") as folder:
        files = []
        for index, case in enumerate(cases):
            path = Path(folder) / f"{index}.npz"
            np.savez(path, **{f"a{i}": array for i, array in enumerate(case.feeds.values())})  # type: ignore[arg-type]
            files.append((case.label, str(path), list(case.feeds)))
        yield files


class BenchError(BoltError):
    """The process that measures crashed or did not end."""


def _in_child(request: Request) -> tuple[Row, ...]:
    command = [sys.executable, "-P", "-m", "bolt.bench.child"]
    try:
        done = subprocess.run(
            command, input=json.dumps(asdict(request)), capture_output=True, text=True, timeout=_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"measuring {request.name} did not end within {_TIMEOUT_S:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = " / ".join(done.stderr.strip().splitlines()[-3:]) or "no message"
        raise BenchError(f"measuring {request.name} ended with status {done.returncode}: {said}")
    return rows(json.loads(lines[-1]))
