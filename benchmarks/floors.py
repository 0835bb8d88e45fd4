"""Ratios bolt is meant to reach, beside those it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import geometric_mean

from benchmarks.workloads import FLOORS, Floor
from bolt.bench.result import Result

_MARGIN = 0.005
"""What two digits can't show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One floor with one number of threads and one batch size.

    Attributes:
        what: a person's name of it.
        least: the floor.
        value: what was measured.
        models: how many models it is about.
        below: those below the floor, with their ratios; only where each one counts.
    """

    what: str
    least: float
    value: float
    models: int
    below: tuple[str, ...] = ()

    @property
    def reached(self) -> bool:
        return self.value >= self.least - _MARGIN

    def __str__(self) -> str:
        said = "reached" if self.reached else "missed"
        names = f" ({', '.join(self.below)})" if self.below else ""
        return f"{self.what}: {self.value:.2f}x, floor {self.least:.2f}x: {said}{names}"


def batch(case: str) -> int:
    """The first size of the first input."""
    size = case.partition("x")[0]
    return int(size) if size.isdigit() else 1


def verdicts(result: Result) -> list[Verdict]:
    """All floors that rows say something about: batch 1 of every model, and batch 8 of those that have it."""
    places = sorted(
        {(row.threads, batch(row.case)) for row in result.rows if batch(row.case) in (1, 8)}, key=_order
    )
    return [v for floor in FLOORS for threads, size in places for v in _verdict(floor, result, threads, size)]


def _order(place: tuple[int, int]) -> tuple[int, int]:
    return place[1], place[0]


def ratios(result: Result, kind: str, peer: str, threads: int, size: int) -> dict[str, float]:
    """The ratio of each model; of several cases with the same batch size the first counts."""
    found: dict[str, float] = {}
    for row in result.rows:
        if (row.kind, row.threads, batch(row.case)) == (kind, threads, size) and peer in row.ratios:
            found.setdefault(row.model, row.ratios[peer].median)
    return found


def _unchanged(result: Result) -> set[str]:
    """Models bolt hands back as they are: both sides of their ratios are ONNX Runtime."""
    return {row.model for row in result.rows if row.coverage and not row.coverage.partitions}


def _verdict(floor: Floor, result: Result, threads: int, size: int) -> Iterator[Verdict]:
    found = ratios(result, floor.precision, floor.peer, threads, size)
    if floor.model not in ("", "every"):
        found = {name: ratio for name, ratio in found.items() if name == floor.model}
    if not found or floor.threads not in (0, threads):
        return
    where = f"{floor.precision} over {floor.peer}, {threads}T, batch {size}"
    if floor.model == "every":
        unchanged = _unchanged(result)
        judged = {name: ratio for name, ratio in found.items() if name not in unchanged}
        if judged:
            below = tuple(f"{n} {r:.2f}x" for n, r in judged.items() if r < floor.least - _MARGIN)
            what, value = f"slowest model, {where}", min(judged.values())
            yield Verdict(what=what, least=floor.least, value=value, models=len(judged), below=below)
        return
    what = f"{floor.model or f'geometric mean of {len(found)} models'}, {where}"
    yield Verdict(what=what, least=floor.least, value=geometric_mean(found.values()), models=len(found))
