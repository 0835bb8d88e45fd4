"""A content-addressed store of files: equal keys mean equal contents.

An entry is a folder `<root>/<first two digits>/<key>/` that appears by one rename, so a reader sees all of
it or nothing, whoever is killed and whenever. `entry.json` inside has the sha256 of each file; an entry that
does not match is dropped and built again. Deleting any part of the store is safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bolt.errors import ToolchainError

SCHEMA = 1
_ENTRY = "entry.json"
_TEMPORARY = "tmp"
_STALE_S = 3600.0


def make_key(**parts: Any) -> str:
    """sha256 of the canonical JSON of `parts` and the schema version."""
    text = json.dumps({"schema": SCHEMA, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much the store holds."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Store:
    """The store below `root` (created when first written)."""

    root: Path

    def get(self, key: str) -> Path | None:
        """The entry's folder, or None when it does not exist or is damaged (then it is dropped)."""
        entry = self._entry(key)
        if not entry.is_dir():
            return None
        if not _is_whole(entry):
            self._drop(entry)
            return None
        _touch(entry)
        return entry

    def put(self, key: str, files: Mapping[str, Path]) -> Path:
        """Moves `files` (name in the entry -> existing file) into the store and returns the entry's folder.

        Raises:
            ToolchainError: the folder can't be written, or the disk is full.
        """
        with self.workspace() as folder:
            (staged := folder / "entry").mkdir()
            for name, path in files.items():
                shutil.move(path, staged / name)
            hashes = {name: file_sha256(staged / name) for name in files}
            (staged / _ENTRY).write_text(json.dumps({"schema": SCHEMA, "files": hashes}, sort_keys=True))
            return self._publish(staged, self._entry(key))

    def drop(self, key: str) -> None:
        """Forgets an entry, if there is one."""
        if (entry := self._entry(key)).is_dir():
            self._drop(entry)

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A temporary folder on the store's own disk; removed at the end.

        Raises:
            ToolchainError: the folder, or what the body writes, can't be written.
        """
        with self._explained():
            parent = self.root / _TEMPORARY
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def size(self) -> Size:
        """Entries and their bytes."""
        sizes = [_bytes_of(entry) for entry in self._entries()]
        return Size(entries=len(sizes), bytes=sum(sizes))

    def prune(self, max_bytes: int, *, grace_s: float = 600.0) -> int:
        """Drops the entries unused for longest until `max_bytes` are left; returns the bytes freed.

        Args:
            grace_s: entries used less than this long ago stay, because a running process may hold them.
        """
        self._drop_stale()
        aged = sorted(
            (mtime, _bytes_of(entry), entry) for entry in self._entries() if (mtime := _mtime(entry))
        )
        left, freed = sum(size for _, size, _ in aged), 0
        for mtime, size, entry in aged:
            if left - freed <= max_bytes or mtime > time.time() - grace_s:
                break
            self._drop(entry)
            freed += size
        return freed

    def clear(self) -> int:
        """Drops everything; returns the bytes freed."""
        return self.prune(-1, grace_s=-_STALE_S)

    def _entry(self, key: str) -> Path:
        return self.root / key[:2] / key

    def _entries(self) -> Iterator[Path]:
        for folder in self.root.glob("[0-9a-f][0-9a-f]"):
            yield from (entry for entry in folder.iterdir() if entry.is_dir())

    def _publish(self, staged: Path, entry: Path) -> Path:
        entry.parent.mkdir(exist_ok=True)
        for _ in range(8):
            try:
                staged.rename(entry)
                return entry
            except OSError:
                if not entry.is_dir():
                    raise
            if _is_whole(entry):  # another process was first: its bytes are as good
                return entry
            self._drop(entry)
        raise ToolchainError(f"{entry} keeps being replaced by something damaged; delete it and try again")

    def _drop(self, entry: Path) -> None:
        """Takes an entry out of sight by one rename, then deletes it."""
        with self.workspace() as folder:
            try:
                entry.rename(folder / "dropped")
            except FileNotFoundError:
                pass  # another process dropped it

    def _drop_stale(self) -> None:
        """Removes what killed processes left in the temporary folder."""
        for folder in (self.root / _TEMPORARY).glob("*"):
            if (mtime := _mtime(folder)) and mtime < time.time() - _STALE_S:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ToolchainError(
                f"the cache folder {self.root} can't be written ({error.strerror or error}). "
                "Free some space (`bolt cache prune`) or set BOLT_CACHE_DIR to another folder"
            ) from error


def _is_whole(entry: Path) -> bool:
    try:
        listed = json.loads((entry / _ENTRY).read_text())
        return listed["schema"] == SCHEMA and all(
            file_sha256(entry / name) == digest for name, digest in listed["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _bytes_of(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0


def _mtime(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        pass  # a read-only store still serves; its entries just look older than they are
