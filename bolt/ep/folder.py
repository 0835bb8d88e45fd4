"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bolt.errors import ArtifactError

MANIFEST = "manifest.json"


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A temporary folder that becomes `destination` when the body ends well, and vanishes when it does not.

    It lies next to the destination, so that the last step is one rename on one file system. An artifact
    that is already there is replaced; anything else is left alone.

    Raises:
        ArtifactError: the destination is in the way, can't be written, or the disk is full.
    """
    try:
        _check_free(destination)
        destination.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
        try:
            folder.chmod(0o755)
            yield folder
            _publish(folder, destination)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ArtifactError(
            f"the artifact {destination} can't be written ({error}); nothing was changed there. "
            "Free some space or choose another folder"
        ) from error


def _check_free(destination: Path) -> None:
    """Only an artifact or an empty folder may be replaced."""
    if not destination.exists():
        return
    if not destination.is_dir() or (any(destination.iterdir()) and not (destination / MANIFEST).is_file()):
        raise ArtifactError(
            f"{destination} exists and is not an artifact; choose another folder or remove it"
        )


def _publish(folder: Path, destination: Path) -> None:
    if not destination.exists():
        folder.rename(destination)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{destination.name}.old.", dir=destination.parent))
    try:
        destination.rename(old / "replaced")
        try:
            folder.rename(destination)
        except OSError:
            os.rename(old / "replaced", destination)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
