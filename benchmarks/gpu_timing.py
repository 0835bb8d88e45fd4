"""Timing kernels of several engines on a GPU, interleaved.

Each engine's calls are captured into a CUDA graph, so that not the launches are timed but the kernels. The
calls of a graph go through several sets of operands in turn, together larger than the L2 cache twice over:
every call finds its operands in memory, whoever ran before. Engines take turns; ratios are taken within a
round.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bolt.timing import Samples

Enqueue = Callable[[int], None]
"""Puts one call with the operands of set i on torch's current stream."""

COLD_BYTES = 256 << 20
MOST_SETS = 64
ROUNDS = 16
_BURST_MS = 2.0
_MOST_CALLS = 400
_WARM_ROUNDS = 2


def sets_for(bytes_of_set: int) -> int:
    """How many sets of operands make a cold memory."""
    return max(2, min(MOST_SETS, -(-COLD_BYTES // max(1, bytes_of_set))))


@dataclass(slots=True)
class Burst:
    """A captured graph of calls."""

    torch: Any
    graph: Any
    calls: int

    def ms(self) -> float:
        """Milliseconds of one call."""
        start, stop = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.graph.replay()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop)) / self.calls


def burst(enqueue: Enqueue, sets: int, calls: int) -> Burst:
    """A graph of `calls` calls, through the sets in turn."""
    torch = importlib.import_module("torch")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in range(calls):
            enqueue(call % sets)
    return Burst(torch, graph, calls)


def fitting(enqueue: Enqueue, sets: int) -> Burst:
    """A graph that takes about `_BURST_MS`, and uses every set."""
    torch = importlib.import_module("torch")
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):  # libraries make handles and choose algorithms in the first calls
        for index in (0, *range(sets)):
            enqueue(index)
    torch.cuda.synchronize()
    trial = burst(enqueue, sets, sets)
    trial.ms()
    calls = max(sets, min(_MOST_CALLS, int(_BURST_MS / max(trial.ms(), 1e-4))))
    return burst(enqueue, sets, calls)


def contest(engines: Mapping[str, Enqueue], sets: int, rounds: int = ROUNDS) -> Samples:
    """Times all engines in turn."""
    bursts = {name: fitting(enqueue, sets) for name, enqueue in engines.items()}
    order = list(bursts)
    samples: dict[str, list[list[float]]] = {name: [] for name in bursts}
    for index in range(_WARM_ROUNDS + rounds):
        for name in order:
            bursts[name].ms()  # the caches hold what this engine leaves, not what the one before left
            found = [bursts[name].ms() for _ in range(3)]
            if index >= _WARM_ROUNDS:
                samples[name].append(found)
        order.append(order.pop(0))
    return Samples(ms=samples)
