"""The wheel holds every tracked file of the package, and nothing else."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BROUGHT_ALONG = {"google", "cuda"}  # protobuf, whose exceptions onnx raises; the module of cuda-python
PLACES = {"bolt/": "bolt/", "graph/": "bolt/graph/", "templates/": "bolt/templates/"}


def tracked():
    done = subprocess.run(["git", "ls-files", *PLACES], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if (ROOT / name).exists()]


def in_wheel(name):
    place = next(p for p in PLACES if name.startswith(p))
    return PLACES[place] + name.removeprefix(place)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("scikit_build_core", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        folder,
        ".",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_every_tracked_file_is_in_the_wheel(wheel):
    missing = sorted({in_wheel(name) for name in tracked()} - set(wheel.namelist()))
    assert not missing


def test_the_wheel_works_on_any_platform_and_installs_nothing_outside_bolt(wheel):
    assert wheel.filename.endswith("-py3-none-any.whl")
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bolt"}


def imported():
    """Top-level packages that the tracked sources import, wherever in a file."""
    for name in tracked():
        if name.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / name).read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    yield node.module.split(".")[0]


def test_every_import_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [*project["dependencies"], *(n for e in project["optional-dependencies"].values() for n in e)]
    declared = {re.split("[<>=! ]", name)[0].replace("-", "_") for name in named}
    foreign = set(imported()) - sys.stdlib_module_names - {"bolt"} - BROUGHT_ALONG
    assert foreign <= declared, f"not declared in pyproject.toml: {sorted(foreign - declared)}"
