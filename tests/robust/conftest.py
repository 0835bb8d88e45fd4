"""Fixtures: a place with a cache of its own, and the artifact that an undisturbed run makes there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from robust.command import QUICK, Place, call, make_place, provider_entry, small_model


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of objects with the provider's library."""
    return provider_entry(tmp_path_factory.mktemp("provider") / "objects")


@pytest.fixture
def place(tmp_path: Path, objects: Path) -> Place:
    made = make_place(tmp_path, objects)
    small_model(made.work / "small.onnx")
    return made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, objects: Path) -> Place:
    """A place where the small model was optimized undisturbed; for reading only."""
    made = make_place(tmp_path_factory.mktemp("finished"), objects)
    small_model(made.work / "small.onnx")
    call(made, "optimize", "small.onnx", "-o", made.out, *QUICK).well()
    return made


@pytest.fixture
def warm(tmp_path: Path, finished: Place) -> Place:
    """A copy of `finished`, to be damaged."""
    shutil.copytree(finished.root, tmp_path / "warm")
    return Place(root=tmp_path / "warm")
