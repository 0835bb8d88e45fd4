"""Folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bolt.errors import ArtifactError

MANIFEST = "manifest.json"
_REPLACED = "replaced"
_STALE_S = 60.0
"""A folder this old whose lock is free belongs to no process; a younger one may not be locked yet."""


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A temporary folder that becomes `destination` when the body ends well, and vanishes when it does not.

    It lies next to the destination, so that the last step is one rename on one file system. An artifact
    that is already there is replaced; anything else is left alone.

    Raises:
        ArtifactError: the destination is in the way, can't be written, or the disk is full.
    """
    check_free(destination)
    with _explained(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        _sweep(destination)
        folder = Path(tempfile.mkdtemp(prefix=prefix(destination), dir=destination.parent))
        try:
            with _held(folder):
                folder.chmod(0o755)
                yield folder
                _publish(folder, destination)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def check_free(destination: Path) -> None:
    """Only an artifact or an empty folder may be replaced, in a folder that can be written.

    Raises:
        ArtifactError: something else is in the way, or the folder can't be written.
    """
    with _explained(destination):
        parent = next(p for p in destination.parents if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise PermissionError(f"{parent} is not a folder that can be written")
        is_artifact = (destination / MANIFEST).is_file()
        is_free = not destination.exists() or (destination.is_dir() and not any(destination.iterdir()))
    if not is_artifact and not is_free:
        raise ArtifactError(
            f"{destination} exists and is not an artifact; choose another folder or remove it"
        )


@contextmanager
def _explained(destination: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"the artifact {destination} can't be written ({error}); nothing was changed there. "
            "Free some space or choose another folder"
        ) from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Locks a folder for as long as this process works in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(destination: Path) -> None:
    """Removes what killed processes left next to the destination."""
    for folder in destination.parent.glob(f"{prefix(destination)}*"):
        try:
            if time.time() - folder.stat().st_mtime < _STALE_S:
                continue
            with _held(folder):
                _put_back(folder, destination)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its process is alive, or it is gone by now


def _publish(folder: Path, destination: Path) -> None:
    if not destination.exists():
        folder.rename(destination)
        return
    old = Path(tempfile.mkdtemp(prefix=prefix(destination), dir=destination.parent))
    try:
        destination.rename(old / _REPLACED)
        folder.rename(destination)
    finally:
        _put_back(old, destination)
        shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path, destination: Path) -> None:
    """Undoes a replacement that was interrupted half way."""
    if (old / _REPLACED).exists() and not destination.exists():
        os.rename(old / _REPLACED, destination)


def prefix(destination: Path) -> str:
    """How the temporary folders of a destination begin; short, however long its name is."""
    return f".bolt-writing-{hashlib.sha256(os.fsencode(destination.name)).hexdigest()[:16]}-"
