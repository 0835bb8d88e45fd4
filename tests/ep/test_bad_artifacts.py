"""Whatever is wrong with an artifact is refused with a sentence that says what, where and what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ep import toy

from bolt.ep import package, session
from bolt.ep.artifact import Artifact
from bolt.errors import ArtifactError

TOY = toy.Toy()
X = np.ones((2, toy.K), np.float32)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return toy.artifact(tmp_path_factory.mktemp("good") / "toy.bolt", TOY, graph=toy.only_partition())


@pytest.fixture
def artifact(good: Artifact, tmp_path: Path) -> Artifact:
    """A copy to be damaged."""
    return good.save(tmp_path / "a.bolt")


def open_raw(folder: Path, good: Artifact) -> onnxruntime.InferenceSession:
    """A session by the execution provider alone, without the checks that Python makes before it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices(session._devices(good), {})
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def refused(folder: Path, good: Artifact, *words: str) -> None:
    with pytest.raises(Exception, match="FAIL") as caught:
        open_raw(folder, good)
    for word in words:
        assert word in str(caught.value)
    assert 'bolt: can\'t load node "p0"' in str(caught.value)


def variant_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["partitions"]["p0"]["variants"][0]


def module_path(artifact: Artifact) -> Path:
    return artifact.path / variant_of(dict(artifact.manifest))["module"]["path"]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_untouched_copy_runs(artifact: Artifact, good: Artifact) -> None:
    np.testing.assert_allclose(open_raw(artifact.path, good).run(None, {"x": X})[0], TOY.expected(X))


@pytest.mark.parametrize("at", [0, 100, -1])
def test_tampered_module(artifact: Artifact, good: Artifact, at: int) -> None:
    flip(module_path(artifact), at)
    refused(artifact.path, good, "damaged or was changed", module_path(artifact).name, "bolt optimize")
    with pytest.raises(ArtifactError, match="damaged or was changed"):
        artifact.verify()


def test_tampered_weights(artifact: Artifact, good: Artifact) -> None:
    flip(artifact.path / "weights.bin", 5)
    refused(artifact.path, good, "damaged or was changed", "weights.bin")


def test_truncated_weights(artifact: Artifact, good: Artifact) -> None:
    os.truncate(artifact.path / "weights.bin", 11)
    refused(artifact.path, good, "truncated", "weights.bin", "11 bytes")
    with pytest.raises(ArtifactError, match="11 bytes"):
        artifact.verify()


@pytest.mark.parametrize("name", ["weights.bin", "module", "manifest.json"])
def test_missing_file(artifact: Artifact, good: Artifact, name: str) -> None:
    path = module_path(artifact) if name == "module" else artifact.path / name
    path.unlink()
    refused(artifact.path, good, "can't find", path.name, "No such file")


def test_missing_or_tampered_library(artifact: Artifact) -> None:
    flip(artifact.library_path, 4000)
    with pytest.raises(ArtifactError, match=r"libbolt_ep\.so is damaged or was changed"):
        artifact.session()
    artifact.library_path.unlink()
    with pytest.raises(ArtifactError, match=r"libbolt_ep\.so is missing"):
        artifact.session()


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("../a.bolt/modules/x.so", '".." part'),
        ("modules/../../x", '".." part'),
        ("..", '".." part'),
        ("/etc/passwd", "absolute"),
        ("", "empty path"),
        ("modules\u0000x", "NUL"),
        ("modules", "not a regular file"),
        ("a" * 5000, "can't find"),
    ],
)
@pytest.mark.parametrize("field", ["module", "weights"])
def test_path_out_of_the_artifact(
    artifact: Artifact, good: Artifact, path: str, word: str, field: str
) -> None:
    edit(artifact.path, lambda m: variant_of(m)[field].update(path=path))
    refused(artifact.path, good, word)


@pytest.mark.parametrize("field", ["module", "weights"])
def test_link_out_of_the_artifact(artifact: Artifact, good: Artifact, field: str, tmp_path: Path) -> None:
    path = artifact.path / variant_of(dict(artifact.manifest))[field]["path"]
    shutil.move(path, tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    refused(artifact.path, good, "leads out of the artifact")


def test_link_inside_the_artifact_is_fine(artifact: Artifact, good: Artifact) -> None:
    path = module_path(artifact)
    shutil.move(path, artifact.path / "real.so")
    path.symlink_to("../real.so")
    assert open_raw(artifact.path, good).run(None, {"x": X})


def test_manifest_outside_the_model_folder(artifact: Artifact, good: Artifact) -> None:
    model = (artifact.path / "model.onnx").read_bytes()
    (artifact.path / "model.onnx").write_bytes(model.replace(b"manifest.json", b"../m/est.json"))
    refused(artifact.path, good, '".." part')


def test_wrong_target(artifact: Artifact, good: Artifact) -> None:
    edit(artifact.path, lambda m: variant_of(m).update(target="sparc", arch="sparc64"))
    refused(artifact.path, good, "sparc is for sparc64, this machine is", "bolt optimize --target")


def test_missing_and_unknown_cpu_features(artifact: Artifact, good: Artifact) -> None:
    edit(artifact.path, lambda m: variant_of(m).update(features=["avx9000"]))
    refused(artifact.path, good, "needs the CPU feature avx9000", "does not know")


def test_target_option_picks_a_variant(tmp_path: Path) -> None:
    """Of two variants the first runs; the option asks for the other; a third does not exist."""
    fast, plain = toy.Toy(target="x86-avx2", scale=5.0), TOY
    artifact = package.write(
        tmp_path / "two.bolt",
        name="two",
        model=toy.only_partition(),
        partitions=[package.Partition(name="p0", variants=(toy.variant(fast), toy.variant(plain)))],
        source_sha256="0" * 64,
        report={},
        tools={},
    )
    assert artifact.targets == ("x86-avx2", "x86-portable")
    here = json.loads(subprocess.run(
        [sys.executable, "-P", "-c",
         "import json, bolt.target as t; print(json.dumps(t.runs_here(t.X86_AVX2)))"],
        capture_output=True, check=True,
    ).stdout)  # fmt: skip
    best = fast if here else plain
    np.testing.assert_allclose(artifact.session().run(None, {"x": X})[0], best.expected(X))
    options = {"target": "x86-portable"}
    np.testing.assert_allclose(artifact.session(ep_options=options).run(None, {"x": X})[0], plain.expected(X))
    with pytest.raises(Exception, match="for the asked target vax"):
        artifact.session(ep_options={"target": "vax"})


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (toy.Toy(abi_version=99), ("ABI version 99", "bolt optimize")),
        (toy.Toy(weights_bytes=4), ("wants 4 bytes of weights",)),
        (toy.Toy(weights_sha256="f" * 64), ("wants weights with sha256 ffff",)),
        (toy.Toy(fail_create=True), ("could not start: the toy refuses to start",)),
        (toy.Toy(dtype=7), ("output 0", "ONNX type 1 in the model and 7 in the module")),
    ],
    ids=str,
)
def test_module_that_does_not_belong(
    odd: toy.Toy, words: tuple[str, ...], tmp_path: Path, good: Artifact
) -> None:
    artifact = toy.artifact(tmp_path / "odd.bolt", odd, graph=toy.only_partition())
    refused(artifact.path, good, *words)


def test_module_of_another_target_than_the_manifest_says(artifact: Artifact, good: Artifact) -> None:
    edit(artifact.path, lambda m: variant_of(m).update(target="x86-other"))
    refused(artifact.path, good, "was built for x86-portable, the manifest says x86-other")


def test_library_that_is_no_module(artifact: Artifact, good: Artifact) -> None:
    entry = artifact.manifest["files"]["libbolt_ep.so"]
    edit(
        artifact.path, lambda m: variant_of(m)["module"].update(path="libbolt_ep.so", sha256=entry["sha256"])
    )
    refused(artifact.path, good, "not a bolt module")


def test_file_that_is_no_library(artifact: Artifact, good: Artifact) -> None:
    entry = artifact.manifest["files"]["report.json"]
    edit(artifact.path, lambda m: variant_of(m)["module"].update(path="report.json", sha256=entry["sha256"]))
    refused(artifact.path, good, "can't load module")


def test_node_with_other_inputs_than_the_module(tmp_path: Path, good: Artifact) -> None:
    graph = toy.only_partition()
    graph.graph.node[0].input.append("x")
    artifact = toy.artifact(tmp_path / "n.bolt", TOY, graph=graph)
    refused(artifact.path, good, "the node has 2 inputs, its module 1")


def test_model_from_memory_without_its_place(good: Artifact) -> None:
    options = onnxruntime.SessionOptions()
    options.add_provider_for_devices(session._devices(good), {})
    with pytest.raises(Exception, match=r"ep\.context_file_path"):
        onnxruntime.InferenceSession(good.model_path.read_bytes(), options)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"threads": "2"}, r"no option ep\.boltexecutionprovider\.threads"),
        ({"intra_op_num_threads": "many"}, 'is "many"; it must be a number'),
        ({"intra_op_num_threads": "-1"}, 'is "-1"; it must be a number'),
    ],
)
def test_options_that_mean_nothing(good: Artifact, options: dict[str, str], word: str) -> None:
    with pytest.raises(Exception, match=word):
        good.session(ep_options=options)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not valid JSON at byte 0"),
        ("{", "not valid JSON"),
        ("[]", "the manifest is not an object"),
        ("{}", 'has no "schema"'),
        ('{"schema": 2, "partitions": {}}', "schema is version 2"),
        ('{"schema": "1"}', "schema is not an integer"),
        ('{"schema": 1}', 'has no "partitions"'),
        ('{"schema": 1, "partitions": {}}', 'partition "p0" is not in'),
        ('{"schema": 1, "partitions": {"p0": {"variants": []}}}', "no variant of partition"),
        ('{"schema": 1, "schema": 1}', "the same member twice"),
        ("[" * 100000, "nesting is too deep"),
    ],
    ids=lambda value: value[:20],
)
def test_junk_manifest(artifact: Artifact, good: Artifact, text: str, word: str) -> None:
    (artifact.path / "manifest.json").write_text(text)
    refused(artifact.path, good, word)
    if not text.startswith('{"schema": 1, "p'):
        with pytest.raises((ArtifactError, RecursionError)):
            Artifact.load(artifact.path)


def test_loading_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an artifact"):
        Artifact.load(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 7}))
    with pytest.raises(ArtifactError, match="has schema 7"):
        Artifact.load(tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", "a/../../b"])
def test_manifest_that_lists_a_file_outside(artifact: Artifact, name: str) -> None:
    edit(artifact.path, lambda m: m["files"].update({name: {"bytes": 1, "sha256": ""}}))
    with pytest.raises(ArtifactError, match="not inside the artifact"):
        Artifact.load(artifact.path)


def test_a_bad_session_leaves_the_process_well(artifact: Artifact, good: Artifact) -> None:
    """The same file names, damaged and whole, one after the other in one process."""
    whole = (artifact.path / "weights.bin").read_bytes()
    for _ in range(3):
        flip(artifact.path / "weights.bin", 3)
        refused(artifact.path, good, "damaged")
        (artifact.path / "weights.bin").write_bytes(whole)
        np.testing.assert_allclose(open_raw(artifact.path, good).run(None, {"x": X})[0], TOY.expected(X))
