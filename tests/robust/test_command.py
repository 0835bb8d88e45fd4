"""Whatever is wrong around `bolt optimize`: one clear line, the right exit code, nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from robust.command import (
    QUICK,
    Place,
    as_ordinary_user,
    call,
    contents,
    make_place,
    save_input,
    small_model,
)


def nothing_written(place: Place) -> None:
    assert not place.out.exists()
    assert not (place.cache / "artifacts").exists()
    assert place.left() == []


def test_a_compiler_that_is_not_there(place: Place) -> None:
    done = call(place, "optimize", "small.onnx", "-o", place.out, environment={"BOLT_CXX": "/nowhere/g++"})
    done.refused(5, "/nowhere/g++", "Install g++")
    nothing_written(place)


def test_no_compiler_at_all(place: Place) -> None:
    """An empty PATH, and python without its packages of compilers."""
    (place.tmp / "bin").mkdir()
    (place.root / "blocked").mkdir()
    (place.root / "blocked" / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ziglang' else real(name, *a)\n"
    )
    (place.tmp / "bin").rmdir()
    empty = {"PATH": str(place.root / "blocked"), "PYTHONPATH": str(place.root / "blocked")}
    done = call(place, "optimize", "small.onnx", "-o", place.out, environment={**empty, "CXX": ""})
    done.refused(5, "no C++ compiler", "Install g++")
    nothing_written(place)


def test_a_compiler_that_fails(place: Place) -> None:
    """It answers what it is, and then compiles nothing."""
    fake = place.root / "g++"
    fake.write_text('#!/bin/sh\ncase "$1" in -dump*|--version) exec g++ "$1";; esac\nexit 3\n')
    fake.chmod(0o755)
    done = call(place, "optimize", "small.onnx", "-o", place.out, "--cxx", fake, *QUICK)
    done.refused(5, "exit code 3")
    nothing_written(place)


@pytest.mark.parametrize("name", ["out.bolt", "out.bolt/notes.txt"])
def test_an_output_that_is_something_else(place: Place, name: str) -> None:
    (place.work / name).parent.mkdir(exist_ok=True)
    (place.work / name).write_text("mine")
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).refused(7, "is not an artifact")
    assert (place.work / name).read_text() == "mine"
    assert not (place.cache / "artifacts").exists()
    assert place.left() == []


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [("folder.onnx", None, "folder.onnx"), ("empty.onnx", b"", "empty"), ("text.onnx", b"hello", "ONNX")],
)
def test_what_is_no_model(place: Place, name: str, content: bytes | None, word: str) -> None:
    if content is None:
        (place.work / name).mkdir()
    else:
        (place.work / name).write_bytes(content)
    call(place, "optimize", name, "-o", place.out, *QUICK).refused(3, word)
    nothing_written(place)


@pytest.mark.parametrize(
    ("shape", "code", "word"),
    [
        ("y=1,8", 3, "no input or dynamic dim 'y'"),
        ("x=1,9", 3, "has dims"),
        ("x=1,8,1", 3, "has dims"),
        ("n=0", 2, "below 1"),
    ],
)
def test_shapes_that_do_not_fit(place: Place, shape: str, code: int, word: str) -> None:
    done = call(place, "optimize", "small.onnx", "-o", place.out, *QUICK, "--shape", shape)
    done.refused(code, word)
    nothing_written(place)


def test_unicode_and_blanks_in_every_path(tmp_path: Path, objects: Path) -> None:
    """With verification, so that the child process meets them too."""
    place = make_place(tmp_path / "ein Größe 模型 'quoted' $x", objects)
    model = small_model(place.work / "mein 模型.onnx")
    out = place.work / "der Ört.bolt"
    call(place, "optimize", model, "-o", out, "--budget", "0", "--threads", "1", "--no-ab").well()
    given = save_input(place.work / "x é.npy")
    call(place, "run", out, "--input", f"x={given}").well()
    assert "bolt runs 2 of 2" in call(place, "explain", out).out
    assert place.left() == []


def test_names_as_long_as_the_system_allows(place: Place) -> None:
    model = (place.work / "small.onnx").rename(place.work / ("m" * 245 + ".onnx"))
    call(place, "optimize", model, *QUICK).well()
    assert (place.work / ("m" * 245 + ".bolt") / "manifest.json").is_file()
    assert place.left() == []


def test_inputs_that_do_not_fit(finished: Place, tmp_path: Path) -> None:
    (tmp_path / "junk.npz").write_bytes(b"PK\x03\x04 no archive")
    wide = save_input(tmp_path / "x.npy")
    refusals = {
        "x=nowhere.npy": "can't be read",
        str(tmp_path / "junk.npz"): "can't be read",
        f"z={wide}": "no input 'z'",
    }
    for text, word in refusals.items():
        call(finished, "run", finished.out, "--input", text).refused(3, word)


def lock(*folders: Path) -> None:
    """Takes away the right to write."""
    for path in (p for folder in folders for p in (folder, *folder.rglob("*"))):
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_working_directory_that_can_not_be_written(place: Place) -> None:
    lock(place.work)
    call(place, "optimize", "small.onnx", *QUICK, before=as_ordinary_user).refused(
        7, "small.bolt", "can't be written"
    )
    assert place.left() == []


def test_a_cache_that_can_not_be_written(place: Place) -> None:
    lock(place.cache)
    done = call(place, "optimize", "small.onnx", "-o", place.out, *QUICK, before=as_ordinary_user)
    done.refused(5, "BOLT_CACHE_DIR")
    assert not place.out.exists()
    assert place.left() == []


def test_a_cache_that_can_not_be_written_still_serves(place: Place) -> None:
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK, before=as_ordinary_user).well()
    first = contents(place.out)
    shutil.rmtree(place.out)
    lock(place.cache)
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK, before=as_ordinary_user).well()
    assert contents(place.out) == first


def test_a_cache_that_is_a_file(place: Place) -> None:
    shutil.rmtree(place.cache)
    place.cache.write_text("a file")
    call(place, "optimize", "small.onnx", "-o", place.out, *QUICK).refused(5, "BOLT_CACHE_DIR")
    assert not place.out.exists()
    assert place.left() == []
