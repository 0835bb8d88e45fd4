"""Two results against each other: what got slower, what faster, and what can't be told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bolt.bench.result import Result, Row
from bolt.timing import Ratio

NOISE = 0.03
"""A ratio has to change by more than this to count, even between steady runs."""

SLOWER, FASTER, SAME, DOUBTFUL = "slower", "faster", "same", "doubtful"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row and peer of the older result.

    Attributes:
        where: model, case, threads and precision.
        peer: "" when the row itself is missing or wrong.
        verdict: one of the four above; "doubtful" when the machine was not steady during either row.
        detail: the numbers, or what is wrong.
    """

    where: str
    peer: str
    verdict: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.detail}"


def changes(result: Result, before: Result) -> list[Change]:
    """What became of every row of `before`.

    Ratios are compared, not times: another machine state changes both engines alike. A change counts when the
    ranges of rounds lie apart, and by more than the noise.
    """
    rows = {row.key: row for row in result.rows}
    return [change for old in before.rows for change in _changes(rows.get(old.key), old)]


def regressions(result: Result, before: Result) -> list[str]:
    """Sentences about rows whose ratio over a peer fell by more than the noise, or that are missing."""
    return [str(change) for change in changes(result, before) if change.verdict == SLOWER]


def _changes(row: Row | None, old: Row) -> Iterator[Change]:
    if row is None:
        yield Change(where=old.where, peer="", verdict=SLOWER, detail="was not measured")
        return
    if row.wrong and not old.wrong:
        yield Change(where=old.where, peer="", verdict=SLOWER, detail=row.wrong)
    for peer, was in old.ratios.items():
        now = row.ratios.get(peer)
        if now is not None:
            verdict = _verdict(now, was) if row.steady and old.steady else DOUBTFUL
            detail = f"{_ratio(now)} over {peer}, was {_ratio(was)}"
            yield Change(where=old.where, peer=peer, verdict=verdict, detail=detail)


def _verdict(now: Ratio, was: Ratio) -> str:
    if now.high < was.low * (1 - NOISE):
        return SLOWER
    return FASTER if now.low > was.high * (1 + NOISE) else SAME


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
