"""What a benchmark found, as values that go to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bolt.bench.layers import Layer
from bolt.errors import ModelError
from bolt.timing import Ratio, Timing

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One engine on one case.

    Attributes:
        error: largest error of its outputs relative to their range; None when it gave none.
        problem: why it was not timed ("" when it was).
        timing: None when it was not timed.
    """

    error: float | None = None
    problem: str = ""
    timing: Timing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a model bolt runs.

    Attributes:
        nodes: ONNX nodes bolt runs.
        left: nodes left to ONNX Runtime.
        partitions: how many pieces bolt's part has.
        flops_share: bolt's share of the model's floating-point operations.
    """

    nodes: int
    left: int
    partitions: int
    flops_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case of one model with one number of threads.

    Attributes:
        model: its name.
        case: the inputs' sizes.
        threads: threads of every engine.
        engines: by name.
        ratios: peer -> how many times faster bolt is.
        peak_gflops: the machine's fp32 limit, measured right before.
        coverage: what bolt runs.
        layers: bolt's steps.
        problem: why there is nothing ("" when there is).
    """

    model: str
    case: str
    threads: int
    engines: Mapping[str, Measured] = field(default_factory=dict)
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    peak_gflops: float | None = None
    coverage: Coverage | None = None
    layers: tuple[Layer, ...] = ()
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes rows of two results comparable."""
        return self.model, self.case, self.threads

    @property
    def wrong(self) -> str:
        """What keeps this row from being a success: bolt missing, failing or wrong ("" when nothing)."""
        return self.problem or self.engines["bolt"].problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole benchmark run.

    Attributes:
        machine: see `bolt.bench.machine.facts`.
        options: how it was run.
        missing: engine -> why it took no part.
        rows: what was found.
    """

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    missing: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def peers(self) -> tuple[str, ...]:
        """Engines bolt was timed against."""
        return tuple(dict.fromkeys(peer for row in self.rows for peer in row.ratios))

    def mean_ratio(self, peer: str, threads: int | None = None) -> float | None:
        """Geometric mean of the ratios over `peer`, each model counting once."""
        models: dict[str, list[float]] = {}
        for row in self.rows:
            if peer in row.ratios and threads in (None, row.threads):
                models.setdefault(row.model, []).append(row.ratios[peer].median)
        means = [geometric_mean(ratios) for ratios in models.values()]
        return geometric_mean(means) if means else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"schema": SCHEMA, **asdict(self)}

    def save(self, path: Path) -> None:
        """Writes JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def load(path: Path) -> Result:
    """The result in the file `path`.

    Raises:
        ModelError: it holds none.
    """
    try:
        data = json.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise ModelError(f"{path} has schema {data['schema']}, this bolt reads {SCHEMA}; measure again")
        return Result(
            machine=data["machine"], options=data["options"], missing=data["missing"], rows=rows(data["rows"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no result of a benchmark ({error!r}); give its JSON file") from error


def rows(data: Iterable[Mapping[str, Any]]) -> tuple[Row, ...]:
    """Rows from plain JSON."""
    return tuple(_row(d) for d in data)


def _row(d: Mapping[str, Any]) -> Row:
    made = {
        "engines": {name: _measured(m) for name, m in d["engines"].items()},
        "ratios": {name: Ratio(**r) for name, r in d["ratios"].items()},
        "coverage": Coverage(**d["coverage"]) if d["coverage"] else None,
        "layers": tuple(Layer(**layer) for layer in d["layers"]),
    }
    return Row(**{**d, **made})


def _measured(d: Mapping[str, Any]) -> Measured:
    return Measured(**{**d, "timing": Timing(**d["timing"]) if d["timing"] else None})
