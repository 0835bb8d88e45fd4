"""Packages for other machines than the one they are made on, and made by other compilers than the default."""

from __future__ import annotations

import platform
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import emulation
import numpy as np
import onnx
import onnx_models
import pytest

from bolt import types
from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.ep.context import context_nodes
from bolt.errors import ArtifactError
from bolt.options import make
from bolt.target import AARCH64_PORTABLE, TARGETS, by_name, runs_here
from bolt.toolchain.cache import file_sha256
from bolt.toolchain.host import Compiler, probe
from bolt.verify import compare_model

HOST = Path(__file__).with_name("run_module.cc")
CLANG = probe(("clang++",))
HERE = [t.name for t in TARGETS if runs_here(t)]
MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, int]]] = {
    "convnet": (lambda: onnx_models.convnet(batch="n", size="h"), {"n": 2, "h": 21, "h2": 18}),
    "attention": (lambda: onnx_models.attention_block(batch="n", length="s"), {"n": 2, "s": 7}),
}
OPEN = """
#include <dlfcn.h>
#include <stdio.h>
int main(int, char** argv) {
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == nullptr) return puts(dlerror()), 1;
  const bool whole = dlsym(library, "CreateEpFactories") && dlsym(library, "ReleaseEpFactory");
  puts(whole ? "found" : "missing");
}
"""

each_model = pytest.mark.parametrize("name", MODELS)
needs_aarch64 = pytest.mark.skipif(
    bool(emulation.obstacle(AARCH64_PORTABLE)), reason=emulation.obstacle(AARCH64_PORTABLE)
)
needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="this machine is no x86-64 one")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def package(name: str, cache: Path, target: str, **more: Any) -> Artifact:
    """The artifact of a model, without measuring and with every node in it."""
    build, sizes = MODELS[name]
    shapes = {symbol: (size,) for symbol, size in sizes.items()}
    asked = make(
        target=target, budget="0", threads=1, shapes=shapes, cache=cache, verify=False, ab=False, **more
    )
    artifact = optimize(build(), asked, everything=True)
    assert artifact.report["notes"]["flops_share"] == 1.0 and len(artifact.partitions) == 1
    return artifact


def expected(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs of a model, and ONNX Runtime's outputs for them."""
    build, sizes = MODELS[name]
    feeds = onnx_models.feeds(build(), **sizes)
    return feeds, onnx_models.run(build(), feeds)


def agree(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> None:
    assert list(got) == list(want)
    for output, array in want.items():
        assert compare_model(got[output], array).require(output)


def run_emulated(
    artifact: Artifact, feeds: Mapping[str, np.ndarray], *, threads: int
) -> dict[str, np.ndarray]:
    """Runs the artifact's only partition by tests/run_module.cc on the machine it is for."""
    node = next(node for node, _ in context_nodes(onnx.load(artifact.model_path).graph))
    (variant,) = artifact.manifest["partitions"][artifact.partitions[0]]["variants"]
    arch = by_name(variant["target"]).arch
    work = artifact.path.parent
    (work / "request").write_bytes(_request(artifact, variant, [feeds[i] for i in node.input], threads))
    module = artifact.path / variant["module"]["path"]
    emulation.run(arch, emulation.program(HOST, arch), module, work / "request", work / "result")
    return dict(zip(node.output, _outputs((work / "result").read_bytes()), strict=True))


def _request(artifact: Artifact, variant: Mapping[str, Any], inputs: list[np.ndarray], threads: int) -> bytes:
    weights, part = b"", variant["weights"]
    if part is not None:
        weights = (artifact.path / part["path"]).read_bytes()[part["offset"] : part["offset"] + part["bytes"]]
    head = [len(weights), threads, len(inputs)]
    for array in inputs:
        dtype = types.from_numpy(array.dtype)
        assert dtype is not None
        head += [dtype.onnx, array.nbytes, array.ndim, *array.shape]
    return np.array(head, np.int64).tobytes() + weights + b"".join(a.tobytes() for a in inputs)


def _outputs(data: bytes) -> list[np.ndarray]:
    """The arrays in a result of tests/run_module.cc."""
    at, heads = 8, []
    for _ in range(struct.unpack_from("<q", data)[0]):
        dtype, size, rank = struct.unpack_from("<3q", data, at)
        heads.append((types.from_onnx(dtype), size, struct.unpack_from(f"<{rank}q", data, at + 24)))
        at += 8 * (3 + rank)
    arrays = []
    for kind, size, dims in heads:
        assert kind is not None
        arrays.append(np.frombuffer(data[at : at + size], kind.np).reshape(dims))
        at += size
    return arrays


def elf_machine(path: Path) -> int:
    """e_machine of an ELF file: 62 is x86-64, 183 is AArch64."""
    return int(struct.unpack_from("<H", path.read_bytes(), 18)[0])


@needs_aarch64
@each_model
def test_a_module_for_aarch64(name: str, cache: Path) -> None:
    artifact = package(name, cache, "aarch64-portable")
    feeds, want = expected(name)
    for threads in (1, 3):
        agree(run_emulated(artifact, feeds, threads=threads), want)


@needs_aarch64
@needs_x86
@each_model
def test_one_package_for_several_machines(name: str, cache: Path) -> None:
    targets = (*HERE[:2], AARCH64_PORTABLE.name)
    artifact = package(name, cache, ",".join(targets))
    assert artifact.targets == targets
    artifact.verify()
    untried = [r for r in artifact.report["rejections"] if r["stage"] == "verify"]
    assert [r["subject"] for r in untried] == ["aarch64-portable"]
    feeds, want = expected(name)
    for options in ({}, *({"target": name} for name in HERE[:2])):
        session = artifact.session(threads=2, ep_options=options)
        names = [o.name for o in session.get_outputs()]
        agree(dict(zip(names, session.run(None, feeds), strict=True)), want)
    with pytest.raises(Exception, match="is for aarch64, this machine is x86_64"):
        artifact.session(ep_options={"target": "aarch64-portable"})


@needs_aarch64
@needs_x86
def test_the_variants_are_those_of_single_packages(cache: Path) -> None:
    """What is run for aarch64 alone is byte for byte what the package for several machines carries."""
    several = package("convnet", cache, "x86-portable,aarch64-portable")
    (partition,) = several.manifest["partitions"].values()
    for variant in partition["variants"]:
        alone = package("convnet", cache, variant["target"])
        (only,) = alone.manifest["partitions"].values()
        assert only["variants"][0]["module"] == variant["module"]


@needs_aarch64
@needs_x86
def test_a_provider_for_every_architecture(cache: Path) -> None:
    several = package("convnet", cache, "x86-portable,aarch64-portable")
    assert several.libraries == {"x86_64": "libbolt_ep.so", "aarch64": "libbolt_ep.aarch64.so"}
    assert set(several.libraries.values()) < set(several.manifest["files"])
    alone = package("convnet", cache, "aarch64-portable")
    assert alone.libraries == {"aarch64": "libbolt_ep.so"}
    assert elf_machine(several.path / "libbolt_ep.so") == 62
    assert elf_machine(several.path / "libbolt_ep.aarch64.so") == 183
    assert file_sha256(alone.path / "libbolt_ep.so") == file_sha256(several.path / "libbolt_ep.aarch64.so")


@needs_aarch64
@needs_x86
def test_a_package_for_other_machines_says_so(cache: Path) -> None:
    artifact = package("convnet", cache, "aarch64-portable")
    with pytest.raises(ArtifactError, match="is for aarch64, this machine is x86_64; run it there"):
        artifact.session()


@needs_aarch64
def test_the_provider_loads_on_aarch64(cache: Path, tmp_path: Path) -> None:
    """All symbols it needs are there, and it has those ONNX Runtime looks for."""
    artifact = package("convnet", cache, "aarch64-portable")
    source = tmp_path / "open.cc"
    source.write_text(OPEN)
    program = emulation.program(source, "aarch64")
    assert emulation.run("aarch64", program, artifact.library_path) == "found\n"


@pytest.mark.skipif(not isinstance(CLANG, Compiler), reason=str(CLANG))
@each_model
def test_a_package_made_by_clang(name: str, cache: Path) -> None:
    artifact = package(name, cache, "auto", compiler="clang++")
    assert any("clang" in tool for tool in artifact.manifest["tools"].values())
    feeds, want = expected(name)
    session = artifact.session(threads=2)
    names = [o.name for o in session.get_outputs()]
    agree(dict(zip(names, session.run(None, feeds), strict=True)), want)
