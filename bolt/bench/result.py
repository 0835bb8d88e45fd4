"""What a benchmark found, as values that go to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bolt.bench.bandwidth import Curve
from bolt.bench.layers import Layer
from bolt.errors import ModelError
from bolt.timing import Ratio, Timing

SCHEMA = 1

UNSTEADY = 0.1
"""Change of the machine's limit during a row from which on the row is doubtful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One engine on one case.

    Attributes:
        error: largest error of its outputs relative to their range; None when it gave none.
        problem: why it was not timed ("" when it was), or what is wrong with its results.
        timing: None when it was not timed.
        note: how it was set up, where there is something to say.
    """

    error: float | None = None
    problem: str = ""
    timing: Timing | None = None
    note: str = ""


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
        precision: what bolt computed in, one of `bolt.bench.opening.PRECISIONS`.
        target: what it compiled for; "" is the best target of the machine.
        peak_after_gflops: the fp32 limit right after; far from the one before, something else was running.
        peaks: limits of products of other precisions, GFLOP/s.
        bandwidth: (bytes, GB/s) of reading arrays of so many bytes.
        cores: that the process and all its threads were kept on; () when they were not.
        commit: of bolt.
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
    precision: str = "fp32"
    target: str = ""
    peak_after_gflops: float | None = None
    peaks: Mapping[str, float] = field(default_factory=dict)
    bandwidth: Curve = ()
    cores: tuple[int, ...] = ()
    commit: str | None = None

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What makes rows of two results comparable."""
        return self.model, self.case, self.threads, self.kind

    @property
    def kind(self) -> str:
        """Precision, and target unless that is the machine's best: what rows that are averaged share."""
        return f"{self.precision} {self.target}".strip()

    @property
    def where(self) -> str:
        """The key for a person."""
        kind = "" if self.kind == "fp32" else f" {self.kind}"
        return f"{self.model} {self.case} {self.threads}T{kind}"

    @property
    def steady(self) -> bool:
        """Whether the machine was as fast after the row as before."""
        if not self.peak_gflops or not self.peak_after_gflops:
            return True
        return abs(self.peak_after_gflops / self.peak_gflops - 1) <= UNSTEADY

    @property
    def wrong(self) -> str:
        """What keeps this row from being a success: bolt missing, failing or wrong ("" when nothing)."""
        return self.problem or (
            self.engines["bolt"].problem if "bolt" in self.engines else "bolt took no part"
        )


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

    def of(self, kind: str) -> Result:
        """The rows of one kind."""
        return replace(self, rows=tuple(row for row in self.rows if row.kind == kind))

    def with_rows(self, rows: Iterable[Row]) -> Result:
        """Rows added; newer ones take the place of older ones."""
        known = {row.key: row for row in (*self.rows, *rows)}
        return replace(self, rows=tuple(known.values()))

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

    def _json(self) -> str:
        """One line for each row, so that files stay small and can still be compared line by line."""
        data = self.to_dict()
        found = ",\n".join(json.dumps(row) for row in data.pop("rows"))
        head = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
        return f'{{{head},\n"rows": [\n{found}\n]}}\n'

    def save(self, path: Path) -> None:
        """Writes JSON; what was there stays whole until it is written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.part")
        draft.write_text(self._json())
        draft.replace(path)


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
        "layers": tuple(_layer(layer) for layer in d["layers"]),
        "bandwidth": tuple((int(size), float(speed)) for size, speed in d.get("bandwidth", ())),
        "cores": tuple(d.get("cores", ())),
    }
    return Row(**{**d, **made})


def _layer(d: Mapping[str, Any]) -> Layer:
    return Layer(**{**d, "mnk": tuple(d["mnk"]) if d.get("mnk") else None})


def _measured(d: Mapping[str, Any]) -> Measured:
    return Measured(**{**d, "timing": Timing(**d["timing"]) if d["timing"] else None})
