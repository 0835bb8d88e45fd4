"""Where a measurement runs: on as many cores as it has threads, and on no others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def pin(threads: int) -> tuple[int, ...]:
    """Keeps this process and the threads it will start on `threads` cores; () where that can't be done."""
    if not hasattr(os, "sched_setaffinity"):
        return ()
    chosen = choose(threads, os.sched_getaffinity(0))
    os.sched_setaffinity(0, chosen)
    return chosen


def choose(
    threads: int, allowed: Iterable[int], siblings: Callable[[int], str] | None = None
) -> tuple[int, ...]:
    """The cores for so many threads.

    The first hardware thread of each core comes before any second one, and high numbers come first:
    interrupts and whatever else runs mostly land on core 0.

    Args:
        allowed: cores the process may use.
        siblings: what the system says about the hardware threads that share a core with the given one.
    """
    read = siblings or _siblings
    ordered = sorted(allowed, reverse=True)
    groups = [read(core) for core in ordered]
    first = [core for i, core in enumerate(ordered) if groups[i] not in groups[:i]]
    rest = [core for core in ordered if core not in first]
    return tuple(sorted([*first, *rest][: max(1, threads)]))


def _siblings(core: int) -> str:
    try:
        return Path(_TOPOLOGY.format(core)).read_text().strip()
    except OSError:
        return str(core)
