"""The store of measurements: what was timed once is not timed again, here or on an equal machine."""

from __future__ import annotations

import json
import logging
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

from bolt.errors import ModelError, ToolchainError
from bolt.search.measure import Measurement

SCHEMA = 2
_BUSY_S = 30.0
_JOURNALS = ("-wal", "-shm")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Everything that can change a measurement.

    Attributes:
        candidate: spec, family, config and target.
        object: cache key of the compiled kernel: source, flags, compiler, headers.
        device: the CPU's model name.
        threads: threads and shares.
        dims: the run-time dims and strides.
        rotate_bytes: how cold the constants were.
    """

    candidate: str
    object: str
    device: str
    threads: int
    dims: tuple[int, ...]
    rotate_bytes: int

    def row(self) -> tuple[Any, ...]:
        """As the store's key columns hold it."""
        dims = json.dumps(self.dims)
        return self.candidate, self.object, self.device, self.threads, dims, self.rotate_bytes


_KEYS = tuple(f.name for f in fields(Key))
_VALUES = tuple(f.name for f in fields(Measurement))
_COLUMNS = (*_KEYS, *_VALUES)
_CREATE = f"CREATE TABLE IF NOT EXISTS records ({', '.join(_COLUMNS)}, PRIMARY KEY ({', '.join(_KEYS)}))"
_PUT = f"INSERT OR REPLACE INTO records VALUES ({', '.join('?' * len(_COLUMNS))})"
_GET = f"SELECT {', '.join(_VALUES)} FROM records WHERE {' AND '.join(f'{k} = ?' for k in _KEYS)}"
_KNOWS = "SELECT 1 FROM records WHERE candidate = ? LIMIT 1"


class Records:
    """The SQLite store in one file; several processes may use it at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _open(path)

    @classmethod
    def below(cls, cache_root: Path) -> Self:
        """The store of a cache folder."""
        return cls(cache_root / f"records-{SCHEMA}.sqlite")

    def get(self, key: Key) -> Measurement | None:
        """The measurement, or None."""
        row = self._db.execute(_GET, key.row()).fetchone()
        return None if row is None else Measurement(**dict(zip(_VALUES, row, strict=True)))

    def put(self, key: Key, measurement: Measurement) -> None:
        """Adds or replaces a measurement; it is on disk when this returns."""
        try:
            with self._db:
                self._db.execute(_PUT, (*key.row(), *astuple(measurement)))
        except sqlite3.OperationalError as error:
            _log.warning("a measurement was not kept: %s (%s)", self.path, error)

    def knows(self, candidate: str) -> bool:
        """Whether there is any record of a candidate (by its key)."""
        return self._db.execute(_KNOWS, (candidate,)).fetchone() is not None

    def export(self) -> list[dict[str, Any]]:
        """All records as plain JSON, in a deterministic order."""
        rows = self._db.execute(f"SELECT {', '.join(_COLUMNS)} FROM records ORDER BY {', '.join(_KEYS)}")
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    def merge(self, rows: Iterable[dict[str, Any]]) -> int:
        """Adds exported records; of two for one key the one with more timed calls stays.

        Returns:
            How many were added or replaced.

        Raises:
            ModelError: a row is no record.
        """
        changed = 0
        for row in rows:
            key, measurement = _parse(row)
            known = self.get(key)
            if known is None or known.calls < measurement.calls:
                self.put(key, measurement)
                changed += 1
        return changed

    def count(self) -> int:
        """How many records there are."""
        return int(self._db.execute("SELECT count(*) FROM records").fetchone()[0])

    def clear(self) -> None:
        """Forgets everything."""
        with self._db:
            self._db.execute("DELETE FROM records")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def device_name() -> str:
    """The CPU's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _connect(path)
    except (OSError, sqlite3.OperationalError) as error:
        raise ToolchainError(
            f"the tuning records {path} can't be opened ({error}). "
            "Free some space (`bolt cache prune`) or set BOLT_CACHE_DIR to another folder"
        ) from error
    except sqlite3.DatabaseError as error:
        aside = path.with_suffix(".damaged")
        _log.warning("%s is damaged (%s); moved to %s, tuning starts anew", path, error, aside)
        path.replace(aside)
        for journal in _JOURNALS:  # of the damaged file: SQLite would replay it into the new one
            path.with_name(path.name + journal).unlink(missing_ok=True)
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(_CREATE)
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        db.execute(f"SELECT {', '.join(_COLUMNS)} FROM records LIMIT 0")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _parse(row: dict[str, Any]) -> tuple[Key, Measurement]:
    try:
        dims: Sequence[int] = json.loads(row["dims"]) if isinstance(row["dims"], str) else row["dims"]
        key = Key(**{**{name: row[name] for name in _KEYS}, "dims": tuple(dims)})
        return key, Measurement(**{name: row[name] for name in _VALUES})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"this is no tuning record ({error!r}): {str(row)[:200]}") from error
