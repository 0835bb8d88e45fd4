"""Artifacts are written, copied and verified whole or not at all, and equal input gives equal bytes."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ep import toy
from onnx import TensorProto, helper, numpy_helper

from bolt.ep import package
from bolt.ep.artifact import MODULE_ABI, SCHEMA, Artifact
from bolt.ep.library import EP_NAME, SOURCE
from bolt.errors import ArtifactError
from bolt.toolchain.host import INCLUDE

TOY = toy.Toy()
X = np.ones((2, toy.K), np.float32)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return toy.artifact(tmp_path_factory.mktemp("good") / "toy.bolt", TOY, toy.Toy(scale=3.0))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write(folder: Path, *variants: package.Variant, **changes: Any) -> Artifact:
    """One partition per variant."""
    names = tuple(f"p{i}" for i in range(len(variants)))
    arguments: dict[str, Any] = {
        "name": "toy",
        "model": toy.model(names),
        "partitions": [
            package.Partition(name=n, variants=(v,)) for n, v in zip(names, variants, strict=True)
        ],
        "source_sha256": "0" * 64,
        "report": {"regions": ["é"]},
        "tools": {},
    }
    return package.write(folder, **(arguments | changes))


def test_content_of_an_artifact(good: Artifact) -> None:
    assert good.partitions == ("p0", "p1") and good.targets == ("x86-portable",)
    assert good.report == {"regions": []}
    assert set(good.manifest["files"]) == set(content(good.path)) - {"manifest.json"}
    good.verify()
    metadata = {m.key: m.value for m in onnx.load(good.model_path).metadata_props}
    assert metadata["ep_compatibility_info.BoltExecutionProvider"].startswith("bolt;schema=1;module_abi=1;")


def test_numbers_that_python_and_cxx_share() -> None:
    header = (INCLUDE / "bolt" / "module_abi.h").read_text()
    assert f"#define BOLT_MODULE_ABI_VERSION {MODULE_ABI}u\n" in header
    assert f"kManifestSchema = {SCHEMA};" in (SOURCE / "manifest.h").read_text()
    assert f'kEpName[] = "{EP_NAME}";' in (SOURCE / "ep.h").read_text()


def test_equal_input_gives_equal_bytes(good: Artifact, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); from ep import toy;"
        "toy.artifact(Path(sys.argv[1]), toy.Toy(), toy.Toy(scale=3.0))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-P", "-c", code, str(tmp_path / seed), str(Path(__file__).parents[1])]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(good.path)


def test_weights_are_aligned_and_equal_ones_are_stored_once(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    weights = [
        source.standard_normal((3, 5)).astype(np.float32).T,
        b"abc",
        None,
        source.integers(-9, 9, 5000).astype(np.int8),
        b"abc",
    ]
    module = toy.build(TOY)
    artifact = write(
        tmp_path / "a.bolt",
        *(package.Variant(target="x86-portable", module_path=module, weights=w) for w in weights),
    )
    data = (artifact.path / "weights.bin").read_bytes()
    slices = [artifact.manifest["partitions"][f"p{i}"]["variants"][0]["weights"] for i in range(5)]
    assert slices[2] is None and slices[1] == slices[4]
    for entry, given in zip(slices, weights, strict=True):
        if entry is not None:
            expected = given if isinstance(given, bytes) else np.ascontiguousarray(given).tobytes()
            got = data[entry["offset"] : entry["offset"] + entry["bytes"]]
            assert got == expected and entry["offset"] % 4096 == 0
            assert entry["sha256"] == hashlib.sha256(expected).hexdigest()
    assert [p.name for p in (artifact.path / "modules").iterdir()] == [
        hashlib.sha256(module.read_bytes()).hexdigest()[:16] + ".so"
    ]


def test_runs_after_the_folder_moved(good: Artifact, tmp_path: Path) -> None:
    expected = good.session().run(None, {"x": X})[0]
    copy = good.save(tmp_path / "deep" / "er" / "name with spaces é.bolt")
    assert content(copy.path) == content(good.path)
    moved = Artifact.load(copy.path.rename(tmp_path / "moved"))
    np.testing.assert_array_equal(moved.session().run(None, {"x": X})[0], expected)


def test_relative_paths(good: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good.save(tmp_path / "r.bolt")
    monkeypatch.chdir(tmp_path)
    artifact = Artifact.load("r.bolt")
    assert artifact.session(path_or_bytes="r.bolt/model.onnx").run(None, {"x": X})
    monkeypatch.chdir(tmp_path / "r.bolt")
    assert artifact.session(path_or_bytes="model.onnx").run(None, {"x": X})


def test_replaces_an_artifact_but_nothing_else(good: Artifact, tmp_path: Path) -> None:
    other = write(tmp_path / "a.bolt", toy.variant(TOY))
    good.save(other.path)
    assert content(other.path) == content(good.path)
    good.save(good.path)
    good.verify()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("mine", "file"):
        with pytest.raises(ArtifactError, match="exists and is not an artifact"):
            good.save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    good.save(tmp_path / "empty")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bolt", "empty", "file", "mine"]


def test_a_damaged_artifact_is_not_copied(good: Artifact, tmp_path: Path) -> None:
    bad = good.save(tmp_path / "bad")
    (bad.path / "weights.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"weights\.bin is damaged"):
        bad.save(tmp_path / "copy")
    (bad.path / "weights.bin").unlink()
    with pytest.raises(ArtifactError, match=r"weights\.bin is missing"):
        bad.save(tmp_path / "copy")
    assert [p.name for p in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_failure_leaves_everything_as_it_was(
    good: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    failure: BaseException, replaces: bool, after: int,
) -> None:  # fmt: skip
    if replaces:
        write(tmp_path / "a.bolt", toy.variant(TOY))
    before, calls, copyfile = content(tmp_path), [0], shutil.copyfile

    def fail(source: Path, destination: Path) -> object:
        calls[0] += 1
        if calls[0] > after:
            raise failure
        return copyfile(source, destination)

    monkeypatch.setattr(shutil, "copyfile", fail)
    wanted = ArtifactError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(wanted) as caught:
        write(tmp_path / "a.bolt", toy.variant(TOY), toy.variant(toy.Toy(scale=3.0)))
    assert wanted is KeyboardInterrupt or "No space left" in str(caught.value)
    with pytest.raises(wanted):
        good.save(tmp_path / "a.bolt")
    assert content(tmp_path) == before and len(list(tmp_path.iterdir())) == int(replaces)


def test_a_disk_that_fills_up(good: Artifact, tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    code = (
        "import resource, sys; from bolt.ep.artifact import Artifact\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "Artifact.load(sys.argv[1]).save(sys.argv[2])"
    )
    command = [sys.executable, "-P", "-c", code, str(good.path), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "bolt.errors.ArtifactError" in done.stderr and "can't be written" in done.stderr
    assert not list(tmp_path.iterdir())


def test_model_too_large_for_one_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered; the tensors must lie beside the model, and the caller's model stays whole."""
    monkeypatch.setattr(package, "PROTOBUF_LIMIT_BYTES", 2000)
    graph = toy.only_partition()
    table = np.random.default_rng(0).standard_normal((40, toy.K)).astype(np.float32)
    graph.graph.initializer.append(numpy_helper.from_array(table, "table"))
    graph.graph.node.append(helper.make_node("Identity", ["table"], ["t"]))
    graph.graph.output.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, table.shape))
    before = graph.SerializeToString(deterministic=True)
    artifact = write(tmp_path / "a.bolt", toy.variant(TOY), model=graph)
    assert graph.SerializeToString(deterministic=True) == before
    assert "model.data" in artifact.manifest["files"] and artifact.model_path.stat().st_size < 2000
    y, t = artifact.session().run(None, {"x": X})
    np.testing.assert_array_equal(t, table)
    np.testing.assert_allclose(y, TOY.expected(X))
    artifact.save(tmp_path / "b.bolt").verify()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"model": toy.model(("p0", "p1"))},
            r"EPContext nodes for \['p0', 'p1'\], the partitions are \['p0'\]",
        ),
        ({"model": toy.model(())}, r"EPContext nodes for \[\]"),
        ({"partitions": [package.Partition(name="p0", variants=())]}, "partitions without a variant: p0"),
    ],
)
def test_nodes_and_partitions_have_to_match(tmp_path: Path, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ArtifactError, match=word):
        write(tmp_path / "a.bolt", toy.variant(TOY), **changes)
    assert not list(tmp_path.iterdir())


def test_missing_module_is_named(tmp_path: Path) -> None:
    variant = package.Variant(target="x86-portable", module_path=tmp_path / "gone.so")
    with pytest.raises(ArtifactError, match=r"gone\.so"):
        write(tmp_path / "a.bolt", variant)
    assert not list(tmp_path.iterdir())
