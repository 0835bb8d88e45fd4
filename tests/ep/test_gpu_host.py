"""A C++ program that uses the provider on a pretended GPU asynchronously, on a stream of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnxruntime
import pytest
from cuda import driver
from ep import gpu_toy, toy

from bolt.toolchain.host import find_compiler

RUNTIMES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))

pytestmark = pytest.mark.skipif(not RUNTIMES, reason="this onnxruntime has no library for C programs")


def test_a_run_that_nothing_waits_for(tmp_path: Path) -> None:
    program = tmp_path / "host"
    source = Path(__file__).with_name("gpu_host.cc")
    flags = ["-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror"]
    command = [*find_compiler().argv, *flags, str(source), "-ldl", "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[:3000]
    artifact = gpu_toy.artifact(tmp_path / "a.bolt", (gpu_toy.Toy(),), graph=toy.only_partition())
    arguments = [RUNTIMES[0], artifact.library_path, artifact.model_path]
    done = subprocess.run(
        [program, *arguments], env=driver.environment(), capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stdout + done.stderr
