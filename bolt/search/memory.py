"""The file through which the search hands data to its child process."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

_PAGE = 4096
_SHARED = Path("/dev/shm")

Place = tuple[int, int]
"""(offset, bytes) inside the file."""


class MemoryFile:
    """A temporary file, kept in memory where the system has a folder for that; equal blobs share a place."""

    def __init__(self) -> None:
        in_memory = _SHARED.is_dir() and os.access(_SHARED, os.W_OK)
        self._file = tempfile.NamedTemporaryFile(prefix="bolt-", dir=_SHARED if in_memory else None)
        self._shared: dict[bytes, Place] = {}
        self.path = Path(self._file.name)

    def put(self, array: np.ndarray) -> Place:
        """Appends the array's bytes on a page of their own."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        offset = self._file.tell()
        self._file.write(data.data)
        self._file.write(b"\0" * (_PAGE - data.nbytes % _PAGE))
        self._file.flush()
        return offset, data.nbytes

    def put_shared(self, array: np.ndarray) -> Place:
        """The place of equal bytes that are already there, else a new one."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        digest = hashlib.sha256(data.data).digest()
        if digest not in self._shared:
            self._shared[digest] = self.put(data)
        return self._shared[digest]

    def view(self, place: Place, dtype: np.dtype) -> np.ndarray:
        """The bytes at `place` as the child sees and changes them."""
        offset, size = place
        return np.memmap(self.path, np.uint8, "r+", offset=offset, shape=(size,)).view(dtype)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """A file that is gone at the end."""
        memory = cls()
        try:
            yield memory
        finally:
            memory._file.close()
