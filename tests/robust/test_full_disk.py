"""No space, or files that may not grow: a clear error, nothing partial, and a cache that works afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from robust.command import QUICK, Place, call, contents

from bolt.errors import CompileError, ToolchainError
from bolt.toolchain.run import run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, str], Path]]:
    """Mounts a disk of a given size over a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root can mount a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def limit_files(size: int) -> Callable[[], None]:
    """What a child runs first so that no file of it grows beyond `size`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [3000, 100_000])
def test_files_that_may_not_grow(size: int, place: Place, finished: Place) -> None:
    """The limit strikes the records, or the copy of the provider's library."""
    done = call(place, "optimize", "small.onnx", "-o", place.out, *QUICK, before=limit_files(size))
    assert done.code in (5, 7)
    done.refused(done.code)
    assert not place.out.exists()
    assert place.left() == []
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).well()
    assert contents(place.out) == contents(finished.out)


def test_a_full_output_disk(warm: Place, finished: Place, small_disk: Callable[[Path, str], Path]) -> None:
    disk = small_disk(warm.work / "disk", "128k")
    done = call(warm, "optimize", "small.onnx", "-o", disk / "out.bolt", *QUICK)
    done.refused(7, "No space left", "nothing was changed")
    assert list(disk.iterdir()) == []
    assert warm.left() == []
    call(warm, "optimize", "small.onnx", "-o", warm.work / "other.bolt", *QUICK).well()
    assert contents(warm.work / "other.bolt") == contents(finished.out)


@pytest.mark.parametrize("size", ["32k", "128k", "400k"])
def test_a_full_cache_disk(
    size: str, place: Place, finished: Place, small_disk: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """The space ends with the records, with the provider's library, or with the artifact."""
    objects = place.cache / "objects"
    shutil.move(objects, tmp_path / "objects")
    disk = small_disk(place.cache, size)
    if size == "400k":
        shutil.copytree(tmp_path / "objects", disk / "objects")
    done = call(place, "optimize", "small.onnx", "-o", place.out, *QUICK)
    done.refused(done.code)
    assert done.code in (5, 7)
    assert not place.out.exists()
    assert place.left() == []
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    shutil.copytree(tmp_path / "objects", disk / "objects", dirs_exist_ok=True)
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).well()
    assert contents(place.out) == contents(finished.out)


def test_a_full_disk_of_temporary_files(
    place: Place, finished: Place, small_disk: Callable[[Path, str], Path]
) -> None:
    """Compilers work inside the cache, and Python finds another folder by itself."""
    filler = small_disk(place.tmp, "4k") / "filler"
    filler.write_bytes(bytes(4096))
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).well()
    filler.unlink()
    assert place.left() == []
    assert contents(place.out) == contents(finished.out)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("as: out.o: No space left on device", ToolchainError),
        ("g++: fatal error: Killed signal terminated program cc1plus", ToolchainError),
        ("error: expected ';'", CompileError),
    ],
)
def test_the_machine_is_not_the_source(said: str, error: type[ToolchainError], tmp_path: Path) -> None:
    """What is the machine's fault must not go on record as a failure of the kernel."""
    with pytest.raises(ToolchainError) as caught:
        run(["sh", "-c", f'echo "{said}" >&2; exit 1'], cwd=tmp_path)
    assert type(caught.value) is error
