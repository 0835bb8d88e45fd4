"""What measuring on a GPU found, as a file that later slices extend."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from bolt.bench.result import Measured
from bolt.bench.table import table
from bolt.errors import ModelError
from bolt.timing import Ratio, Timing

SCHEMA = 1

TARGETS: Mapping[tuple[str, str], float] = {
    ("gemm", "cublaslt"): 0.95,
    ("gemm fused", "cublaslt"): 1.0,
    ("gemm fused", "unfused"): 1.0,
    ("conv", "cudnn"): 0.95,
    ("conv fused", "cudnn"): 1.0,
    ("conv fused", "unfused"): 1.0,
    ("model", "eager"): 1.2,
    ("model", "compile"): 1.0,
    ("model", "ort_cuda"): 1.0,
}
"""(kind of row, peer) -> the geometric mean that bolt is meant to reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One problem.

    Attributes:
        kind: "gemm", "gemm fused", "conv", "conv fused" or "model".
        name: the problem's name.
        case: epilogue of a kernel, batch size of a model.
        engines: by name.
        ratios: peer -> how many times faster bolt is.
        kernel: family and config bolt chose ("" for a model).
        tensor_share: share of the GPU's peak on tensor cores that bolt reaches (of its data sheet).
        memory_share: the same of its memory's bandwidth, each operand moved once.
        problem: why there is nothing ("" when there is).
    """

    kind: str
    name: str
    case: str
    engines: Mapping[str, Measured] = field(default_factory=dict)
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    kernel: str = ""
    tensor_share: float | None = None
    memory_share: float | None = None
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later row replaces."""
        return self.kind, self.name, self.case

    @property
    def wrong(self) -> str:
        """What keeps this row from being a success ("" when nothing)."""
        bolt = self.engines.get("bolt")
        return self.problem or (bolt.problem if bolt else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuResult:
    """All rows.

    Attributes:
        machine: see `benchmarks.gpu_device.facts`.
        missing: engine -> why it took no part.
    """

    machine: Mapping[str, Any]
    missing: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def with_rows(self, rows: Iterable[Row]) -> GpuResult:
        """Rows added; newer ones take the place of older ones."""
        known = {row.key: row for row in (*self.rows, *rows)}
        return replace(self, rows=tuple(known.values()))

    def with_rows_before(self, rows: Iterable[Row]) -> GpuResult:
        """Older rows added, where there are no newer ones."""
        return replace(self, rows=tuple(rows)).with_rows(self.rows)

    def save(self, path: Path) -> None:
        """Writes JSON; what was there stays whole until it is written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")
        draft.replace(path)


def load(path: Path) -> GpuResult:
    """The result in a file.

    Raises:
        ModelError: it holds none.
    """
    try:
        data = json.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise ModelError(f"{path} has schema {data['schema']}, this reads {SCHEMA}; measure again")
        return GpuResult(
            machine=data["machine"], missing=data["missing"], rows=tuple(_row(d) for d in data["rows"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is no result of the GPU benchmark ({error!r}); give its JSON file"
        ) from error


def _row(d: Mapping[str, Any]) -> Row:
    engines = {
        name: Measured(**{**m, "timing": Timing(**m["timing"]) if m["timing"] else None})
        for name, m in d["engines"].items()
    }
    return Row(**{**d, "engines": engines, "ratios": {n: Ratio(**r) for n, r in d["ratios"].items()}})


def text(result: GpuResult) -> str:
    """The whole report: machine, a line per row with the ratios first, means beside their targets."""
    kinds = dict.fromkeys(row.kind for row in result.rows)
    tables = [table(_lines([r for r in result.rows if r.kind == kind])) for kind in kinds]
    return "\n\n".join(
        p for p in (_machine(result), *tables, "\n".join(means(result)), _problems(result)) if p
    )


def _machine(result: GpuResult) -> str:
    m = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    return f"{m['device']}; {m['clocks']}; {m['date']}\ncommit {m['commit'] or 'unknown'}; {versions}"


def _lines(rows: Sequence[Row]) -> list[list[str]]:
    peers = list(dict.fromkeys(name for row in rows for name in row.engines if name != "bolt"))
    head = [rows[0].kind, "case", *(f"x {p}" for p in peers), "bolt us", *(f"{p} us" for p in peers)]
    head += ["of tensor peak", "of bandwidth", "error", "kernel"]
    return [head, *(_cells(row, peers) for row in rows)]


def _cells(row: Row, peers: Sequence[str]) -> list[str]:
    ratios = [f"{row.ratios[p].median:.2f}" if p in row.ratios else "-" for p in peers]
    times = [_us(row.engines.get(name)) for name in ("bolt", *peers)]
    bolt = row.engines.get("bolt")
    error = f"{bolt.error:.0e}" if bolt and bolt.error is not None else "-"
    shares = [f"{s:.0%}" if s is not None else "-" for s in (row.tensor_share, row.memory_share)]
    return [row.name, row.case, *ratios, *times, *shares, error, row.kernel[:60]]


def _us(measured: Measured | None) -> str:
    return f"{measured.timing.median_ms * 1e3:.1f}" if measured and measured.timing else "-"


def mean(result: GpuResult, kind: str, peer: str) -> float | None:
    """Geometric mean of the ratios over a peer."""
    found = [row.ratios[peer].median for row in result.rows if row.kind == kind and peer in row.ratios]
    return geometric_mean(found) if found else None


def means(result: GpuResult) -> list[str]:
    """A line for each mean and its target."""
    lines = []
    for (kind, peer), goal in TARGETS.items():
        value = mean(result, kind, peer)
        if value is not None:
            said = "reached" if value >= goal else "missed"
            lines.append(f"geometric mean, {kind} over {peer}: {value:.3f}x (target {goal:.2f}x: {said})")
    return lines


def _problems(result: GpuResult) -> str:
    lines = [f"{name}: {reason}" for name, reason in result.missing.items()]
    for row in result.rows:
        where = f"{row.kind} {row.name} {row.case}"
        lines += [f"{where}: {row.problem}"] if row.problem else []
        lines += [f"{where}: {name}: {m.problem}" for name, m in row.engines.items() if m.problem]
    return "\n".join(lines)
