"""Damaged caches are rebuilt; damaged, incomplete and foreign artifacts are refused by `bolt run`."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from robust.command import QUICK, Place, call, contents, save_input

from bolt.ep.artifact import Artifact
from bolt.errors import ArtifactError


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def foreign(path: Path) -> None:
    """Says that the modules need what no machine has."""
    manifest = json.loads(path.read_text())
    for variant in variants(manifest):
        variant["features"] = ["no_such_feature"]
    path.write_text(json.dumps(manifest))


def other_target(path: Path) -> None:
    manifest = json.loads(path.read_text())
    for variant in variants(manifest):
        variant["arch"] = "riscv64"
    path.write_text(json.dumps(manifest))


def variants(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [v for p in manifest["partitions"].values() for v in p["variants"]]


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "tampered module": ("modules/*.so", flip),
    "truncated module": ("modules/*.so", halve),
    "missing module": ("modules/*.so", Path.unlink),
    "tampered weights": ("weights.bin", flip),
    "truncated weights": ("weights.bin", halve),
    "missing weights": ("weights.bin", Path.unlink),
    "tampered library": ("libbolt_ep.so", flip),
    "missing library": ("libbolt_ep.so", Path.unlink),
    "truncated model": ("model.onnx", halve),
    "missing model": ("model.onnx", Path.unlink),
    "truncated manifest": ("manifest.json", halve),
    "another feature": ("manifest.json", foreign),
    "another architecture": ("manifest.json", other_target),
}
BY_COMMAND = ("tampered module", "missing weights", "truncated model", "another feature")


@pytest.mark.parametrize("damage", BY_COMMAND)
def test_damaged_artifacts_are_refused_by_the_command(damage: str, warm: Place) -> None:
    pattern, change = DAMAGE[damage]
    change(next(warm.out.glob(pattern)))
    call(warm, "run", warm.out).refused(7, "out.bolt")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_artifacts_open_no_session(damage: str, warm: Place) -> None:
    pattern, change = DAMAGE[damage]
    change(next(warm.out.glob(pattern)))
    with pytest.raises(Exception) as caught:
        Artifact.load(warm.out).session()
    # ONNX Runtime's errors have no common base; the sentence inside is the provider's.
    assert isinstance(caught.value, ArtifactError) or "onnxruntime" in type(caught.value).__module__
    assert len(str(caught.value)) > 20


def test_moved_and_renamed(warm: Place, tmp_path: Path) -> None:
    moved = tmp_path / "some where" / "else"
    moved.parent.mkdir()
    warm.out.rename(moved)
    shutil.rmtree(warm.cache)
    x = save_input(tmp_path / "x.npy")
    call(warm, "run", moved, "--input", f"x={x}").well()


def test_inputs_of_another_type_or_size(warm: Place, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", np.zeros((1, 9), np.float32))
    call(warm, "run", warm.out, "--input", f"x={tmp_path / 'wide.npy'}").refused(3, "float32 (n, 8)")
    np.save(tmp_path / "double.npy", np.zeros((1, 8)))
    call(warm, "run", warm.out, "--input", f"x={tmp_path / 'double.npy'}").refused(3, "float64")


def test_every_entry_of_the_cache_damaged(warm: Place, finished: Place) -> None:
    """Objects cut short, records that are no database, an artifact with a changed file: all made again."""
    before = contents(warm.cache)
    source = random.Random(0)
    provider = next((warm.cache / "objects").rglob("libbolt_ep.so"))
    for path in warm.cache.rglob("*"):
        if path.is_file() and path.parent != provider.parent:
            source.choice((flip, halve))(path) if path.stat().st_size else None
    for path in warm.cache.glob("records-*.sqlite*"):
        path.write_bytes(b"no database" * 1000)
    shutil.rmtree(warm.out)
    call(warm, "optimize", "small.onnx", "-o", warm.out, *QUICK).well()
    assert contents(warm.out) == contents(finished.out)
    after = contents(warm.cache)
    rebuilt = [name for name in before if name.startswith("objects/") and name.endswith((".o", ".so"))]
    assert rebuilt and all(after[name] == before[name] for name in rebuilt)
    call(warm, "cache", "show").well()


def test_records_damaged_in_the_middle(place: Place) -> None:
    """The head of the file is whole, a page behind it is not."""
    call(place, "optimize", "small.onnx", "-o", place.out, "--budget", "1s", "--no-ab", "--no-verify").well()
    (path,) = place.cache.glob("records-*.sqlite")
    size = path.stat().st_size
    assert size > 8192
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    shutil.rmtree(place.cache / "artifacts")
    done = call(place, "optimize", "small.onnx", "-o", place.out, *QUICK)
    done.well()
    assert "damaged" in done.err
    assert list(place.cache.glob("records-*.damaged"))


def test_a_cache_emptied_between_two_runs(warm: Place, finished: Place) -> None:
    call(warm, "cache", "clear").well()
    provider = Path("objects") / next((finished.cache / "objects").rglob("libbolt_ep.so")).parent.relative_to(
        finished.cache / "objects"
    )
    shutil.copytree(finished.cache / provider, warm.cache / provider)
    call(warm, "optimize", "small.onnx", "-o", warm.out, *QUICK).well()
    assert contents(warm.out) == contents(finished.out)
