"""The child process that runs kernels: a crash or an endless loop ends this process, not the search.

Started as `python -m bolt.search.worker LIBRARY`, LIBRARY being the native host library. Reads one JSON
request a line from stdin and answers each with one JSON line:

    {"op": "load", "library", "memory", "operands": [[offset, bytes, start]], "kernels": [{"symbol",
     "packed": {operand: [offset, bytes]}, "scratch_bytes"}], "ints", "threads", "rotate_bytes"} -> {}
    {"op": "check", "kernel": i} -> {}; operand 0's memory is then in the memory file
    {"op": "time", "kernels": [i, ...], "limit_s"} -> {"us": [[...], ...]}

Offsets are bytes into the memory file, which holds the operands' memory and the packed constants.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from bolt.module.host import Pool, aligned, open_library, pool

BURST_US = 1500.0
ROUNDS = 12
HOPELESS = 3.0
"""A candidate this many times slower than the best is not timed any further."""
BEHIND = 1.25
"""The same, once there are enough rounds to tell."""
SURE_ROUNDS = 5
MAX_COPIES = 256
_LINE = 64
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Turn:
    """Which copy of the constants is the next: of all kernels that share them, or one would find in the
    caches what another has just fetched."""

    next: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A loaded kernel with the operand pointers of each copy of its constants."""

    function: int
    pointers: Any
    sets: int
    turn: Turn
    scratch: np.ndarray
    scratch_bytes: int


class Session:
    """The kernels and operands of one load request."""

    def __init__(self, native: ctypes.CDLL, request: dict[str, Any]) -> None:
        self.native = native
        self.threads = int(request["threads"])
        self.pool: Pool = pool(native, self.threads)
        self.memory = np.memmap(request["memory"], np.uint8, "r+")
        self.operands = [tuple(row) for row in request["operands"]]
        self.arenas = [_copy(self.memory[offset : offset + size]) for offset, size, _ in self.operands]
        self.ints = np.array(request["ints"], np.int64)
        self.packed: dict[tuple[int, int], list[np.ndarray]] = {}
        self.turns: dict[tuple[tuple[int, int], ...], Turn] = {}
        library = ctypes.CDLL(request["library"])
        self.kernels = [self._kernel(library, row, request["rotate_bytes"]) for row in request["kernels"]]

    def _kernel(self, library: ctypes.CDLL, row: dict[str, Any], rotate_bytes: int) -> Kernel:
        packed = {int(index): tuple(place) for index, place in row["packed"].items()}
        total = sum(size for _, size in packed.values())
        sets = max(1, min(MAX_COPIES, rotate_bytes // total)) if total else 1
        pointers = (ctypes.c_void_p * (len(self.arenas) * sets))()
        for copy in range(sets):
            for index, (arena, (_, _, start)) in enumerate(zip(self.arenas, self.operands, strict=True)):
                address = arena.ctypes.data + start
                if index in packed:
                    address = self._copies(packed[index], sets)[copy].ctypes.data
                pointers[copy * len(self.arenas) + index] = address
        turn = self.turns.setdefault(tuple(packed.values()), Turn())
        share = -(-row["scratch_bytes"] // _LINE) * _LINE
        function = ctypes.cast(library[row["symbol"]], ctypes.c_void_p).value
        assert function is not None
        return Kernel(function, pointers, sets, turn, aligned(share * self.threads), share)

    def _copies(self, place: tuple[int, int], count: int) -> list[np.ndarray]:
        """At least `count` copies of packed constants; candidates with equal packing share them."""
        copies = self.packed.setdefault(place, [])
        while len(copies) < count:
            copies.append(_copy(self.memory[place[0] : place[0] + place[1]]))
        return copies

    def check(self, index: int) -> None:
        """Runs a kernel once on a fresh output and hands the output's memory back."""
        offset, size, _ = self.operands[0]
        fresh = self.memory[offset : offset + size].copy()
        self.arenas[0][:] = fresh
        self._call(self.kernels[index], 1)
        self.memory[offset : offset + size] = self.arenas[0]
        self.memory.flush()
        self.arenas[0][:] = fresh

    def time(self, indices: Sequence[int], limit_s: float) -> list[list[float]]:
        """Microseconds of each call of each kernel."""
        deadline = time.monotonic() + limit_s
        bursts = [partial(self._call, k, self._burst(k)) for k in (self.kernels[i] for i in indices)]
        return race(bursts, deadline)

    def _burst(self, kernel: Kernel) -> int:
        """Calls that take about BURST_US, found while warming up."""
        us = min(self._call(kernel, 2) + self._call(kernel, 1))
        return max(1, min(200, int(BURST_US / max(us, 0.1))))

    def _call(self, kernel: Kernel, calls: int) -> list[float]:
        us, turn = np.zeros(calls), kernel.turn
        self.native.bolt_kernel_run(
            kernel.function, ctypes.addressof(kernel.pointers), len(self.arenas), kernel.sets, turn.next,
            self.ints.ctypes.data, kernel.scratch.ctypes.data, kernel.scratch_bytes, self.threads,
            self.pool.handle, calls, us.ctypes.data,
        )  # fmt: skip
        turn.next = (turn.next + calls) % kernel.sets
        return [float(v) for v in us]


def race(bursts: Sequence[Callable[[], list[float]]], deadline: float) -> list[list[float]]:
    """Samples of each burst: in turn, until the slow ones are known or the deadline has passed."""
    alive = list(range(len(bursts)))
    samples: list[list[float]] = [[] for _ in bursts]
    for rounds in range(1, ROUNDS + 1):
        for i in alive:
            samples[i] += bursts[i]()
        best = min(_median(samples[i]) for i in alive)
        limit = best * (BEHIND if rounds >= SURE_ROUNDS else HOPELESS)
        alive = [i for i in alive if _median(samples[i]) <= limit]
        if time.monotonic() > deadline or (rounds >= SURE_ROUNDS and len(alive) == 1):
            break
    return samples


def _copy(data: np.ndarray) -> np.ndarray:
    arena = aligned(data.nbytes)
    arena[:] = data
    return arena


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


class Runner(Protocol):
    """What a load request makes."""

    def check(self, index: int) -> None:
        """Runs a kernel once on a fresh output and hands the output's memory back."""

    def time(self, indices: Sequence[int], limit_s: float) -> list[list[float]]:
        """Microseconds of each call of each kernel."""


def serve(load: Callable[[dict[str, Any]], Runner], requests: TextIO, replies: TextIO) -> None:
    """Answers requests until there are no more."""
    session: Runner | None = None
    for line in requests:
        request = json.loads(line)
        reply: dict[str, Any] = {}
        if request["op"] == "load":
            session = None  # its memory goes before the next one's comes
            session = load(request)
        elif session and request["op"] == "check":
            session.check(request["kernel"])
        elif session and request["op"] == "time":
            reply["us"] = session.time(request["kernels"], request["limit_s"])
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _end_with_parent() -> None:
    """Asks Linux to end this process, looping kernel and all, when its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def reply_pipe() -> TextIO:
    """Stdout, out of reach of whatever a kernel's library prints; this process ends with its parent."""
    _end_with_parent()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def main() -> None:
    """Serves the parent process."""
    serve(partial(Session, open_library(Path(sys.argv[1]))), sys.stdin, reply_pipe())


if __name__ == "__main__":
    main()
