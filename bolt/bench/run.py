"""Benchmarks: optimize a model, then time it against other engines in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from bolt import child, driver
from bolt.bench.child import Request
from bolt.bench.engines import BOLT, Engine, usable
from bolt.bench.machine import commit, facts
from bolt.bench.opening import PRECISIONS, is_quantized
from bolt.bench.result import Result, Row, rows
from bolt.ep.artifact import Artifact
from bolt.errors import BoltError, ModelError
from bolt.graph.load import load
from bolt.graph.samples import feed, sample
from bolt.graph.shapes import infer
from bolt.options import OptionError, Options, Shapes, cores, make
from bolt.report import Event, Progress, silent
from bolt.timing import DEFAULT, Protocol

_TIMEOUT_S = 1800.0
_KEPT_TO = {
    "x86-avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}  # fmt: skip
"""Target -> variables that keep peers (OpenVINO, PyTorch) to its instructions."""


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
        precision: what bolt computes in, one of `bolt.bench.opening.PRECISIONS`; "int8" is for models that
            come quantized.
        target: what bolt compiles for; "" is the machine's best. Peers are kept to what that has, too,
            where they can be.
        pinned: keep each measurement on as many cores as it has threads.
    """

    against: tuple[str, ...] = ("ort",)
    threads: tuple[int, ...] = field(default_factory=lambda: (cores(),))
    budget: str | float = "1m"
    protocol: Protocol = DEFAULT
    with_layers: bool = True
    precision: str = "fp32"
    target: str = ""
    pinned: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise OptionError(f"unknown precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}")

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
    precision: str = "auto",
    progress: Progress = silent,
) -> Result:
    """Measures one model on sample inputs.

    Args:
        model: an ONNX file.
        against: peers by name, see `bolt.bench.engines.ENGINES`; those not installed are listed as missing.
        threads: one or several numbers of threads; None is all cores.
        budget: tuning time for each number of threads.
        shapes: sizes of what the model leaves open, by input name or by symbol.
        protocol: rounds and lengths of the timing.
        with_layers: also time each step of a run.
        precision: what bolt computes in: "fp32", "bf16", or "int8" for a model that comes quantized; "auto"
            is fp32, or int8 for such a model.
        progress: told how far it is.

    Raises:
        BoltError: the model can't be optimized, or a peer is unknown.
    """
    counts = (threads,) if isinstance(threads, int) else tuple(threads or (cores(),))
    path = Path(model)
    if precision == "auto":
        precision = "int8" if is_quantized(path) else "fp32"
    plan = Plan(
        against=tuple(against), threads=counts, budget=budget, protocol=protocol, with_layers=with_layers,
        precision=precision,
    )  # fmt: skip
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
            found += failed(name, cases, threads, plan, str(error))
    return tuple(replace(row, commit=commit()) for row in found)


def failed(name: str, cases: Sequence[Case], threads: int, plan: Plan, problem: str) -> list[Row]:
    """Rows that say why there is nothing else."""
    return [
        Row(
            model=name,
            case=case.label,
            threads=threads,
            problem=problem,
            precision=plan.precision,
            target=plan.target,
        )
        for case in cases
    ]


def prepared(model: Path, case: Case, plan: Plan, threads: int, progress: Progress = silent) -> Artifact:
    """What is measured: bolt's package, tuned for a case, made or found in the cache.

    Raises:
        BoltError: the model can't be optimized, or is not quantized though that is what is to be measured.
    """
    if plan.precision == "int8" and not is_quantized(model):
        raise ModelError(f"{model} is not quantized; measure it in fp32 or bf16, or quantize it first")
    return driver.optimize(model, _options(case, plan, threads), progress)


def _measured(
    name: str, model: Path, cases: Sequence[Case], plan: Plan, threads: int, progress: Progress
) -> tuple[Row, ...]:
    artifact = prepared(model, cases[0], plan, threads, progress)
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
            precision=plan.precision,
            target=plan.target,
            pinned=plan.pinned,
        )
        return _in_child(request)


def _options(case: Case, plan: Plan, threads: int) -> Options:
    # A quantized model says itself what is computed in int8; the rest of it stays fp32.
    precision = "fp32" if plan.precision == "int8" else plan.precision
    shapes = {name: array.shape for name, array in case.feeds.items()}
    # ONNX Runtime can't be kept to fewer instructions, so it is not asked whether bolt is faster then.
    return make(
        target=plan.target or "auto", budget=plan.budget, threads=threads, shapes=shapes, precision=precision,
        ab=not plan.target,
    )  # fmt: skip


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
    answer = child.ask(
        "bolt.bench.child",
        asdict(request),
        what=f"measuring {request.name}",
        timeout_s=_TIMEOUT_S,
        error=BenchError,
        environment={"OMP_NUM_THREADS": str(request.threads), **_KEPT_TO.get(request.target, {})},
    )
    return rows(answer)
