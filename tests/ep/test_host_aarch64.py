"""A package for aarch64, served by the C++ program of test_host.py and ONNX Runtime's aarch64 library."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import emulation
import numpy as np
import onnx
import onnx_models
import pytest

from bolt.driver import optimize
from bolt.ep.artifact import Artifact
from bolt.options import make
from bolt.target import AARCH64_PORTABLE

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(
        bool(emulation.obstacle(AARCH64_PORTABLE)), reason=emulation.obstacle(AARCH64_PORTABLE)
    ),
]
HOST = Path(__file__).with_name("host.cc")
VERSIONS = ("1.23.2", "1.31.1")
OPTIMAL = 1
CORE = """\
processor\t: {}
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Softmax(Relu(x @ w)), x of dims [3, 37], as host.cc feeds it."""
    folder = tmp_path_factory.mktemp("aarch64")
    asked = make(target=AARCH64_PORTABLE.name, budget="0", threads=1, cache=folder, verify=False, ab=False)
    return optimize(model(), asked, everything=True)


def model() -> onnx.ModelProto:
    b = onnx_models.ModelBuilder()
    x = b.input("x", [3, 37])
    hidden = b.add("Relu", b.add("MatMul", x, b.weights("w", (37, 37))))
    b.add("Softmax", hidden, outputs=["y"], axis=-1)
    return b.output("y", [3, 37]).model()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system root with a /proc/cpuinfo of an Arm core: ONNX Runtime crashes on that of this machine."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "proc").mkdir()
    (folder / "proc" / "cpuinfo").write_text("".join(CORE.format(i) for i in range(os.cpu_count() or 1)))
    (folder / "lib").symlink_to(emulation.sysroot("aarch64") / "lib")
    return folder


def runtime(version: str, folder: Path) -> Path:
    """The library of that ONNX Runtime for aarch64, downloaded."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    platforms = ("--platform=manylinux_2_27_aarch64", "--platform=manylinux_2_28_aarch64")
    wanted = ("--python-version=3.11", f"--dest={folder}", f"onnxruntime=={version}")
    subprocess.run([*command, *platforms, *wanted], check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [n for n in wheel.namelist() if "/libonnxruntime" in n])
    return next(folder.rglob("libonnxruntime.so*"))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_results(artifact: Artifact, root: Path, version: str, threads: int, tmp_path: Path) -> None:
    text = "bolt;schema=1;module_abi=1;aarch64-portable:aarch64:"
    program = emulation.program(HOST, "aarch64")
    arguments = (runtime(version, tmp_path), artifact.library_path, artifact.model_path, text, str(threads))
    lines = emulation.run("aarch64", program, *arguments, root=root).splitlines()
    assert lines[0] == f"judged {OPTIMAL}" and lines[-1] == "done" and len(lines) == 7
    y = onnx_models.run(model(), {"x": np.ones((3, 37), np.float32)})["y"]
    for line in lines[1:-1]:
        np.testing.assert_allclose([float(w) for w in line.split()], [y[0, 0], y[0, 1], y[2, 36]], rtol=1e-5)
