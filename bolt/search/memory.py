"""The file through which the search hands data to its child process."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self, cast

import numpy as np

_PAGE = 4096

Place = tuple[int, int]
"""(offset, bytes) inside the file."""


class MemoryFile:
    """A file in memory that ends with this process; equal blobs can share a place.

    Attributes:
        path: where the child opens it, as long as this process keeps it open.
    """

    def __init__(self) -> None:
        self._file, self.path = _anonymous() if hasattr(os, "memfd_create") else _temporary()
        self._shared: dict[bytes, Place] = {}

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


def _anonymous() -> tuple[IO[bytes], Path]:
    """A file without a name: nothing is left behind, however this process ends."""
    descriptor = os.memfd_create("bolt-operands")
    return os.fdopen(descriptor, "w+b"), Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _temporary() -> tuple[IO[bytes], Path]:
    file = tempfile.NamedTemporaryFile(prefix="bolt-")
    return cast(IO[bytes], file), Path(file.name)
