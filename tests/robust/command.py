"""The command line in child processes, each with folders of its own, as a user would start it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx_models import ModelBuilder

import bolt

QUICK = ("--budget", "0", "--threads", "1", "--no-ab", "--no-verify")
FOREIGN = (".ses",)
"""What ONNX Runtime leaves in the folder of temporary files."""
_PR_CAPBSET_DROP, _OVERRIDE_PERMISSIONS = 24, (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Folders of one user: working directory, cache and temporary files."""

    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def out(self) -> Path:
        return self.work / "out.bolt"

    def environment(self, **changes: str) -> dict[str, str]:
        """Of every process started here; HOME identifies them."""
        own = {"BOLT_CACHE_DIR": self.cache, "TMPDIR": self.tmp, "HOME": self.root}
        return {**os.environ, **{name: str(path) for name, path in own.items()}, **changes}

    def left(self) -> list[str]:
        """What a finished command has to have cleaned up: temporary, partial and staged files, processes."""
        folders = (self.tmp, self.cache / "objects" / "tmp")
        found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        files = [str(path) for path in found if path.name not in FOREIGN]
        staged = [str(path) for path in self.root.rglob(".bolt-writing-*")]
        return [*files, *staged, *(f"process {text}" for text in self.processes())]

    def processes(self) -> list[str]:
        """Command lines of the processes started here that still run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                mine = f"HOME={self.root}\0".encode() in (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended, or is not ours
            if mine and command:
                found.append(command)
        return found


def make_place(root: Path, objects: Path) -> Place:
    """A place whose cache has the compiled library of the provider and nothing else."""
    place = Place(root=root)
    for folder in (place.work, place.tmp):
        folder.mkdir(parents=True)
    shutil.copytree(objects, place.cache / "objects")
    return place


def provider_entry(root: Path) -> Path:
    """A store of objects below `root` with the provider's library, which takes long to compile."""
    entry = Path(bolt.get_library_path()).parent
    shutil.copytree(entry, root / entry.parent.name / entry.name)
    return root


def small_model(path: Path) -> Path:
    """y = relu(x @ w + b) with an open batch."""
    b = ModelBuilder()
    x = b.input("x", ["n", 8])
    y = b.add("Relu", b.add("Gemm", x, b.weights("w", (8, 16)), b.weights("b", (16,))))
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(b.output(y, ["n", 16]).model(), path)
    return path


def start(
    place: Place,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """Starts `bolt` in a process group of its own, as a shell does."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
        if before:
            before()

    return subprocess.Popen(
        [sys.executable, "-m", "bolt", *map(str, arguments)],
        cwd=place.work,
        env=place.environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


def as_ordinary_user() -> None:
    """Runs in a child before bolt: takes from root what lets it ignore the permissions of files."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in _OVERRIDE_PERMISSIONS:
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError("the capability can't be dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, code: int, *words: str) -> None:
        """Asserts one clear error: this exit code, these words, no traceback, no talk of a bug of ours."""
        assert self.code == code, self
        assert "Traceback" not in self.err and "internal error" not in self.err, self.err
        assert "error: " in self.err, self.err
        for word in words:
            assert word in self.err, self.err

    def well(self) -> None:
        """Asserts success without a traceback."""
        assert self.code == 0, self
        assert "Traceback" not in self.err, self.err


def finish(process: subprocess.Popen[str], *, timeout_s: float = 240.0) -> Ended:
    """Waits for the end; ends it when that takes too long."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            process.kill()
    return Ended(code=process.returncode, out=out, err=err)


def call(place: Place, *arguments: object, **how: object) -> Ended:
    """Runs `bolt` to its end (see `start`)."""
    return finish(start(place, *arguments, **how))  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by relative path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def save_input(path: Path, rows: int = 3) -> Path:
    """An input of `small_model` as .npy."""
    np.save(path, np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32))
    return path
