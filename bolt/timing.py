"""Timing several engines in one process, fairly: interleaved bursts, with the others' threads asleep.

An engine's idle threads spin for a while before they sleep, and on a small machine that halves the speed of
whoever runs next. So every burst starts when the process has stopped using the processor, and its first calls
do not count. Engines take turns many times, since clocks and other programs change the speed of a machine
within seconds; ratios are therefore taken between bursts of the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Call = Callable[[], object]

_NAP_S = 0.002
_SETTLE_LIMIT_S = 0.3
_LONG_CALL_S = 0.1
_QUIET = 0.2
"""Share of a nap that the process may use the processor and still count as asleep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How long and how often engines are timed.

    Attributes:
        rounds: how often each engine gets its turn.
        burst_s: about how long a turn lasts.
        warm_s: how long an engine runs before its first turn, at least `warm_calls` times.
        warm_calls: calls at the start of a turn that do not count.
        limit_s: no round starts later than this, once `least_rounds` are done.
        least_rounds: rounds that are done in any case.
    """

    rounds: int = 16
    burst_s: float = 0.05
    warm_s: float = 0.3
    warm_calls: int = 2
    limit_s: float = 15.0
    least_rounds: int = 3


DEFAULT = Protocol()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds per call of one engine.

    Attributes:
        min_ms: the fastest call.
        median_ms: of all calls.
        low_ms: 10 % of the calls are faster.
        high_ms: 10 % of the calls are slower.
        runs: how many calls were counted.
    """

    min_ms: float
    median_ms: float
    low_ms: float
    high_ms: float
    runs: int

    @property
    def spread(self) -> float:
        """Width of the middle 80 % relative to the median."""
        return (self.high_ms - self.low_ms) / self.median_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times faster one engine is than another.

    Attributes:
        median: over the rounds.
        low: 10 % of the rounds are below.
        high: 10 % of the rounds are above.
        best: of the two engines' fastest calls.
    """

    median: float
    low: float
    high: float
    best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Every counted call: engine -> round -> milliseconds."""

    ms: Mapping[str, Sequence[Sequence[float]]]

    def timing(self, name: str) -> Timing:
        """Statistics of one engine over all rounds."""
        calls = sorted(ms for burst in self.ms[name] for ms in burst)
        return Timing(
            min_ms=calls[0],
            median_ms=statistics.median(calls),
            low_ms=quantile(calls, 0.1),
            high_ms=quantile(calls, 0.9),
            runs=len(calls),
        )

    def ratio(self, name: str, over: str) -> Ratio:
        """How many times faster `name` is than `over`, burst against burst of the same round."""
        pairs = zip(self.ms[over], self.ms[name], strict=True)
        ratios = sorted(statistics.median(slow) / statistics.median(fast) for slow, fast in pairs)
        return Ratio(
            median=statistics.median(ratios),
            low=quantile(ratios, 0.1),
            high=quantile(ratios, 0.9),
            best=self.timing(over).min_ms / self.timing(name).min_ms,
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The element below which about `share` of a sorted sequence lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def settle() -> None:
    """Waits until the threads of this process have stopped spinning."""
    deadline = time.perf_counter() + _SETTLE_LIMIT_S
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(_NAP_S)
        if time.process_time() - before < _QUIET * _NAP_S:
            return


def interleave(
    engines: Mapping[str, Call],
    protocol: Protocol = DEFAULT,
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[], None] = settle,
) -> Samples:
    """Times the engines in alternating bursts.

    Args:
        engines: what to call, by name.
        clock: seconds; tests pass their own.
        rest: called before each burst.
    """
    calls = {name: _calls_per_burst(call, protocol, clock) for name, call in engines.items()}
    samples: dict[str, list[list[float]]] = {name: [] for name in engines}
    order, deadline = list(engines), clock() + protocol.limit_s
    for index in range(protocol.rounds):
        if index >= protocol.least_rounds and clock() > deadline:
            break
        for name in order:
            rest()
            samples[name].append(_burst(engines[name], calls[name], protocol.warm_calls, clock))
        order.append(order.pop(0))  # nobody is always the one after a given other
    return Samples(ms=samples)


def _calls_per_burst(call: Call, protocol: Protocol, clock: Callable[[], float]) -> int:
    """Warms an engine up; how many of its calls fit into a burst."""
    call()
    start, fastest = clock(), float("inf")
    for _ in range(1_000):
        before = clock()
        call()
        fastest = min(fastest, clock() - before)
        if clock() - start >= protocol.warm_s:
            break
    return max(1, round(protocol.burst_s / max(fastest, 1e-7)))


def _burst(call: Call, count: int, warm_calls: int, clock: Callable[[], float]) -> list[float]:
    begin = clock()
    for _ in range(warm_calls):
        if clock() - begin < _LONG_CALL_S:  # one such call is enough
            call()
    ms = []
    for _ in range(count):
        start = clock()
        call()
        ms.append((clock() - start) * 1e3)
    return ms
