"""What bolt keeps in its cache folder, how large it is, and how to make it smaller."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bolt.toolchain.build import store

ARTIFACTS = "artifacts"
MODELS = "models"
_PARTS = {
    "objects": "compiled kernels and libraries",
    ARTIFACTS: "packages",
    "failed": "sources that did not compile",
    MODELS: "models and images of the demo and the benchmarks",
}
_RECORDS = "records-*"
_GRACE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the cache folder.

    Attributes:
        name: of its folder or files.
        what: what is in it.
        bytes: on disk.
    """

    name: str
    what: str
    bytes: int


def parts(root: Path) -> tuple[Part, ...]:
    """The parts of the cache folder `root`."""
    folders = [Part(name=n, what=what, bytes=_bytes_below(root / n)) for n, what in _PARTS.items()]
    records = sum(p.stat().st_size for p in root.glob(_RECORDS))
    return (*folders, Part(name="records", what="measurements", bytes=records))


def prune(root: Path, max_bytes: int) -> int:
    """Drops what was unused for longest until `max_bytes` are left; measurements stay.

    Returns:
        The bytes freed.
    """
    before = sum(part.bytes for part in parts(root))
    shutil.rmtree(root / "failed", ignore_errors=True)
    if sum(part.bytes for part in parts(root)) > max_bytes:
        shutil.rmtree(root / MODELS, ignore_errors=True)  # they can be fetched again
    keep = max(0, max_bytes - sum(p.bytes for p in parts(root) if p.name == "records"))
    _prune_artifacts(root / ARTIFACTS, keep // 2)
    store(root).prune(keep - _bytes_below(root / ARTIFACTS))
    return before - sum(part.bytes for part in parts(root))


def clear(root: Path) -> int:
    """Drops everything, measurements included; returns the bytes freed."""
    freed = sum(part.bytes for part in parts(root))
    for name in _PARTS:
        shutil.rmtree(root / name, ignore_errors=True)
    for path in root.glob(_RECORDS):
        path.unlink(missing_ok=True)
    return freed


def _prune_artifacts(folder: Path, max_bytes: int) -> None:
    aged = sorted((path.stat().st_mtime, path) for path in _folders(folder))
    sizes = {path: _bytes_below(path) for _, path in aged}
    left = sum(sizes.values())
    for mtime, path in aged:
        if left <= max_bytes or mtime > time.time() - _GRACE_S:
            return
        shutil.rmtree(path, ignore_errors=True)
        left -= sizes[path]


def _folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_dir())


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
