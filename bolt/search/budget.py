"""Spreading the time over the specs: the next piece of work is the one with the largest expected gain."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bolt.ops.spec import Spec

FIRST, LATER = 4, 8
"""Candidates in the first and in each later piece of a spec's work."""
DECAY = 0.4
"""What later pieces are expected to gain relative to the one before: estimates put the good ones first."""
FRUITLESS = 0.3
"""The same factor again after a piece that found nothing faster."""
_FLOPS_PER_US, _BYTES_PER_US, _CALL_US = 50e3, 10e3, 1.0


def expected_us(spec: Spec) -> float:
    """Rough time of one call of a bound spec, good enough to compare specs."""
    return max(spec.flops() / _FLOPS_PER_US, spec.bytes() / _BYTES_PER_US) + _CALL_US


@dataclass(slots=True)
class Clock:
    """The time budget.

    Attributes:
        budget_s: seconds allowed.
        now: the clock; tests give their own.
    """

    budget_s: float
    now: Callable[[], float] = time.monotonic
    start: float = field(init=False)

    def __post_init__(self) -> None:
        self.start = self.now()

    @property
    def spent_s(self) -> float:
        return self.now() - self.start

    @property
    def left_s(self) -> float:
        return self.budget_s - self.spent_s


@dataclass(frozen=True, slots=True)
class Piece:
    """Candidates [start, stop) of spec `index`."""

    index: int
    start: int
    stop: int


class Schedule:
    """Hands out pieces of work, most promising first.

    Args:
        gains: expected time of each spec (uses included): what there is to win.
        counts: how many candidates each spec has.
    """

    def __init__(self, gains: Sequence[float], counts: Sequence[int]) -> None:
        self._gain, self._count = list(gains), list(counts)
        self._done = [0] * len(self._count)

    def next(self) -> Piece | None:
        """The most promising piece, or None when all candidates were handed out."""
        open_ = self.promising()
        if not open_:
            return None
        index = open_[0]
        start = self._done[index]
        stop = min(start + (LATER if start else FIRST), self._count[index])
        self._done[index] = stop
        self._gain[index] *= DECAY
        return Piece(index, start, stop)

    def promising(self) -> list[int]:
        """The specs with candidates left, most promising first."""
        open_ = [i for i, count in enumerate(self._count) if self._done[i] < count]
        return sorted(open_, key=lambda i: (-self._gain[i], i))

    def fruitless(self, index: int) -> None:
        """Tells that the last piece of a spec found nothing faster."""
        self._gain[index] *= FRUITLESS

    @property
    def left(self) -> int:
        """Candidates not handed out yet."""
        return sum(self._count) - sum(self._done)
