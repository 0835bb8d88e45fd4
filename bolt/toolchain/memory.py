"""Compiler processes at a time: as many as memory allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNLIMITED = 1 << 60


class Gate:
    """Lets jobs in while their memory fits; the first one always.

    Args:
        limit_bytes: what all jobs inside may take together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._used, self._inside = limit_bytes, 0, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Waits until `size_bytes` are free, and gives them back at the end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._inside or self._used + size_bytes <= self._limit)
            self._used, self._inside = self._used + size_bytes, self._inside + 1
        try:
            yield
        finally:
            with self._changed:
                self._used, self._inside = self._used - size_bytes, self._inside - 1
                self._changed.notify_all()


def available_bytes() -> int:
    """Memory that is free or can be freed (much, where the system does not tell)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return UNLIMITED
    sizes = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return sizes[0] if sizes else UNLIMITED
