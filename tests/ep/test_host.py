"""An artifact served by a C++ program: no Python and no compiler in that process."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import onnx
import onnxruntime
import pytest
from ep import toy

from bolt.ep.artifact import Artifact
from bolt.toolchain.host import find_compiler

OPTIMAL, PREFER_RECOMPILATION, UNSUPPORTED = 1, 2, 3
RUNTIMES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))

pytestmark = pytest.mark.skipif(not RUNTIMES, reason="this onnxruntime has no library for C programs")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("host") / "host"
    source = Path(__file__).with_name("host.cc")
    flags = ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror"]
    command = [*find_compiler().argv, *flags, str(source), "-ldl", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return program


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    odd = toy.Toy(report_threads=True)
    return toy.artifact(tmp_path_factory.mktemp("a") / "toy.bolt", odd, graph=toy.only_partition())


def serve(host: Path, artifact: Artifact, compatibility: str, global_threads: int = 0) -> list[str]:
    arguments = [RUNTIMES[0], artifact.library_path, artifact.model_path, compatibility, str(global_threads)]
    done = subprocess.run([host, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_results_and_compatibility(host: Path, artifact: Artifact) -> None:
    metadata = {m.key: m.value for m in onnx.load(artifact.model_path).metadata_props}
    lines = serve(host, artifact, metadata["ep_compatibility_info.BoltExecutionProvider"])
    assert lines[0] == f"judged {OPTIMAL}" and lines[-1] == "done"
    for line in lines[1:-1]:
        threads, second, last = (float(word) for word in line.split())
        assert threads >= 1 and (second, last) == (2 + 1, 2 + toy.K - 1)


@pytest.mark.parametrize(
    ("targets", "judged"),
    [
        (f"vax:vax:;x86-portable:{platform.machine()}:", PREFER_RECOMPILATION),
        ("vax:vax:", UNSUPPORTED),
    ],
)
def test_other_compatibility_texts(host: Path, artifact: Artifact, targets: str, judged: int) -> None:
    assert serve(host, artifact, f"bolt;schema=1;module_abi=1;{targets}")[0] == f"judged {judged}"


@pytest.mark.parametrize("threads", [1, 2])
def test_the_global_thread_pool_of_a_program(host: Path, artifact: Artifact, threads: int) -> None:
    lines = serve(host, artifact, "bolt", threads)
    seen = [float(line.split()[0]) for line in lines[1:-1]]
    assert 1 <= max(seen) <= threads and lines[-1] == "done"
