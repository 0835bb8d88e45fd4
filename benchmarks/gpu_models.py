"""Whole models on a GPU: bolt through ONNX Runtime against torch and ONNX Runtime's own provider."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import gpu_engines, random_models
from benchmarks.gpu_result import Row
from benchmarks.workloads import RANDOM_MODELS
from bolt import driver, verify
from bolt.bench.engines import Call, Engine, Opening
from bolt.bench.result import Measured
from bolt.errors import BoltError
from bolt.options import cache_dir, make
from bolt.report import Progress, silent
from bolt.target import Target
from bolt.timing import Protocol, interleave

_PRECISION = "fp16"
_PROTOCOL = Protocol(rounds=12, burst_s=0.05, warm_s=0.3, limit_s=12.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and a batch size."""

    name: str
    batch: int


def cases() -> list[Case]:
    """All rows of the workloads."""
    return [Case(name=model.name, batch=batch) for model in RANDOM_MODELS for batch in model.batches]


def engines(names: Sequence[str]) -> tuple[list[Engine], dict[str, str]]:
    """bolt and the named peers that can be used here, and why the others can't."""
    wanted = [e for e in gpu_engines.ENGINES if e.name in ("bolt", *names)]
    reasons = {e.name: gpu_engines.missing(e) for e in wanted}
    usable = [e for e in wanted if reasons[e.name] is None]
    return usable, {name: r.reason for name, r in reasons.items() if r is not None}


def prepared(
    case: Case, target: Target, budget_s: float, progress: Progress = silent, *, jobs: int = 0
) -> Opening:
    """The model's ONNX file and bolt's package for it.

    Raises:
        BoltError: the model can't be exported or compiled.
    """
    path = random_models.export(case.name, case.batch, cache_dir() / "random-models")
    options = make(
        target=target.name, precision=_PRECISION, budget=budget_s, verify=False, ab=False, jobs=jobs
    )
    artifact = driver.optimize(path, options, progress)
    return Opening(model=path, artifact=artifact.path, threads=0)


def measure(
    wanted: Sequence[Case], using: Sequence[Engine], target: Target, budget_s: float, deadline: float,
    progress: Progress = silent, *, jobs: int = 0,
) -> Iterator[Row]:  # fmt: skip
    """A row for each case, as they are done; no case is begun after the deadline."""
    for case in wanted:
        if time.monotonic() > deadline:
            return
        empty = Row(kind="model", name=case.name, case=f"batch {case.batch}")
        try:
            yield _measured(case, using, prepared(case, target, budget_s, progress, jobs=jobs), empty)
        except (BoltError, RuntimeError) as error:
            yield replace(empty, problem=f"{type(error).__name__}: {str(error)[:400]}")


def _measured(case: Case, using: Sequence[Engine], opening: Opening, empty: Row) -> Row:
    feeds = random_models.feeds(case.name, case.batch)
    want = gpu_engines.reference(opening.model, feeds)
    calls: dict[str, Call] = {}
    found: dict[str, Measured] = {}
    for engine in using:
        try:
            calls[engine.name] = call = engine.open(opening)(feeds)
            found[engine.name] = _checked(engine, gpu_engines.arrays(call()), want)
        except Exception as error:  # engines raise whatever they like; one that fails is named
            found[engine.name] = Measured(problem=f"{type(error).__name__}: {str(error)[:300]}")
    right = {name: call for name, call in calls.items() if not found[name].problem}
    samples = interleave(right, _PROTOCOL) if right else None
    if samples is not None:
        found |= {name: replace(found[name], timing=samples.timing(name)) for name in right}
    ratios = (
        {name: samples.ratio("bolt", name) for name in right if name != "bolt"}
        if samples is not None and "bolt" in right
        else {}
    )
    calls.clear()
    right.clear()
    _free()
    return replace(empty, engines=found, ratios=ratios)


def _checked(engine: Engine, got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> Measured:
    """bolt has to be right; peers that sum in fp16 may be further off, and are timed anyway."""
    compared = [verify.compare_model(g, w, precision=_PRECISION) for g, w in zip(got, want, strict=True)]
    problem = next((c.reason for c in compared if not c.ok), "") if engine.name == "bolt" else ""
    return Measured(error=max(c.max_rel_to_range for c in compared), problem=problem)


def _free() -> None:
    """Gives the GPU's memory back before the next model."""
    gc.collect()
    torch = importlib.import_module("torch")
    torch.cuda.empty_cache()
    if hasattr(torch, "_dynamo"):
        torch._dynamo.reset()
