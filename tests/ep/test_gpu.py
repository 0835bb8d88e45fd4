"""The execution provider on pretended GPUs (tests/cuda/driver.cc), in child processes."""

from __future__ import annotations

import ctypes.util
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from cuda import driver
from ep import gpu_toy, ort_versions, toy
from onnx import TensorProto, helper

from bolt.ep.artifact import Artifact
from bolt.ep.library import get_library_path

CHILD = Path(__file__).with_name("gpu_child.py")
TOY = gpu_toy.Toy()
MINOR = int(onnxruntime.__version__.split(".")[1])
ALONE = "shared_weights,binding,asynchronous,given_stream,wrong_options"
GRAPHS = "graph,graph_memory,graph_failure,graph_unbound,graph_terminated"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model that is one partition."""
    folder = tmp_path_factory.mktemp("alone") / "toy.bolt"
    return gpu_toy.artifact(folder, (TOY,), graph=toy.only_partition())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two partitions with nodes of the CPU before, between and after them."""
    return gpu_toy.artifact(tmp_path_factory.mktemp("chain") / "toy.bolt", (TOY,), (gpu_toy.Toy(scale=3.0),))


def play(
    scenario: str, artifact: Artifact, *arguments: str, devices: str = "80", package: Path | None = None,
    inside: Sequence[str] = (), **changes: str,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    environment = dict(driver.environment(devices, **changes))
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    command = [*inside, sys.executable, str(CHILD), scenario, str(artifact.path), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def passes(scenario: str, artifact: Artifact, *arguments: str, **how: Any) -> None:
    done = play(scenario, artifact, *arguments, **how)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


def test_partitions_between_nodes_of_the_cpu(chain: Artifact) -> None:
    passes("results,error_then_result,concurrent", chain)


def test_a_kernel_that_fails(chain: Artifact) -> None:
    passes("broken_kernel", chain)


def test_one_partition(alone: Artifact) -> None:
    passes(ALONE, alone)


def test_a_program_that_does_not_know_the_python_package(alone: Artifact) -> None:
    passes("raw", alone)


@pytest.mark.skipif(MINOR < 26, reason="ONNX Runtime has graphs since 1.26")
def test_graphs(alone: Artifact) -> None:
    passes(GRAPHS, alone)


@pytest.mark.parametrize("used", ["y", "z", "zy"])
def test_outputs_that_nobody_reads(tmp_path: Path, used: str) -> None:
    graph = toy.only_partition()
    graph.graph.node[0].output.append("z")
    del graph.graph.output[:]
    values = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", toy.K]) for n in "yz"}
    graph.graph.output.extend(values[n] for n in used)
    graph.graph.value_info.extend(values[n] for n in set("yz") - set(used))
    passes("dropped", gpu_toy.artifact(tmp_path / "a.bolt", (gpu_toy.Toy(outputs=2),), graph=graph), used)


def test_a_partition_inside_a_subgraph(tmp_path: Path) -> None:
    passes("branches", gpu_toy.artifact(tmp_path / "if.bolt", (TOY,), graph=toy.branches()))


@pytest.mark.skipif(MINOR < 27, reason="ONNX Runtime mixes devices since 1.27")
def test_the_library_without_a_package(alone: Artifact, tmp_path: Path) -> None:
    cpu = toy.artifact(tmp_path / "cpu.bolt", toy.Toy(), graph=toy.only_partition())
    passes("both_kinds", alone, str(cpu.model_path), get_library_path())


def test_a_session_that_is_given_several_devices(alone: Artifact) -> None:
    passes("several_at_once", alone, devices="80,86")


@pytest.mark.skipif(MINOR < 25, reason="ONNX Runtime knows plugins by name since 1.25")
def test_providers_by_name(alone: Artifact) -> None:
    passes("by_name", alone, devices="80,86")


def pretended_system(folder: Path) -> tuple[str, ...]:
    """A command that runs another where /sys/class/drm shows two NVIDIA GPUs."""
    for number, address in enumerate(("0000:0a:00.0", "0000:99:00.0")):
        device, card = folder / "pci" / address, folder / "class" / "drm" / f"card{number}"
        for path in (device, card):
            path.mkdir(parents=True)
        for name, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030000")):
            (device / name).write_text(f"{text}\n")
        (card / "device").symlink_to(device)
    script = f'mount --bind {shlex.quote(str(folder / "class"))} /sys/class && exec "$@"'
    return "unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"


def test_gpus_that_the_runtime_found_itself(alone: Artifact, tmp_path: Path) -> None:
    inside = pretended_system(tmp_path)
    try:
        subprocess.run([*inside, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this process may not mount anything, not even for itself")
    passes("hardware", alone, devices="80,86", inside=inside)


def test_memory_runs_out(alone: Artifact) -> None:
    passes("memory", alone, FAKE_CUDA_MEMORY=str(8 << 20))


def test_several_devices(alone: Artifact) -> None:
    passes("devices", alone, "9.0", "8.0", "8.6", devices="90,80,86")
    passes("devices", alone, "8.6", devices="90,80,86", CUDA_VISIBLE_DEVICES="2")


@pytest.mark.parametrize(
    ("devices", "said", "said_raw"),
    [
        ("", "the NVIDIA driver shows no GPU here", "CUDA_ERROR_NO_DEVICE"),
        ("90", "sm80 needs a GPU of sm80 or sm86", "the session is for GPU 0 (Pretended GPU sm_90"),
    ],
)
def test_no_gpu_that_fits(alone: Artifact, devices: str, said: str, said_raw: str) -> None:
    passes("refused", alone, said, "bolt optimize", devices=devices)
    passes("refused_raw", alone, said_raw, "bolt optimize", devices=devices)


def test_no_driver(alone: Artifact) -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver")
    passes("refused", alone, "there is no NVIDIA driver (libcuda.so.1)", LD_LIBRARY_PATH="")
    passes("refused_raw", alone, "there is no NVIDIA driver", "--gpus all", LD_LIBRARY_PATH="")


def test_a_package_for_the_cpu_leaves_the_gpu_alone(tmp_path: Path) -> None:
    passes("cpu_package", toy.artifact(tmp_path / "cpu.bolt", toy.Toy(), graph=toy.only_partition()))


@pytest.mark.network
@pytest.mark.parametrize("version", ort_versions.VERSIONS)
def test_every_supported_runtime(version: str, alone: Artifact, chain: Artifact, tmp_path: Path) -> None:
    check_runtime(version, ort_versions.install(version, tmp_path), alone, chain)


def check_runtime(version: str, package: Path, alone: Artifact, chain: Artifact) -> None:
    """Everything that onnxruntime `version` (in the folder `package`) can do, or its refusal."""
    minor = int(version.split(".")[1])
    if minor < 24:
        passes("refused", alone, "pip install -U", package=package)
        if version not in ort_versions.TOO_OLD:
            passes("refused_raw", alone, "is too old for it", "onnxruntime>=1.24.4", package=package)
        return
    passes("results", chain, package=package)
    for scenario in (ALONE, "raw", GRAPHS if minor >= 26 else "graph_refused"):
        passes(scenario, alone, package=package)
    passes("devices", alone, "9.0", "8.0", "8.6", devices="90,80,86", package=package)
    passes("several_at_once", alone, devices="80,86", package=package)
    cpu = toy.artifact(alone.path.parent / f"cpu-{version}.bolt", toy.Toy(), graph=toy.only_partition())
    both = "both_kinds" if minor >= 27 else "all_devices"
    passes(both, alone, str(cpu.model_path), get_library_path(), package=package)
    if minor >= 25:
        passes("by_name", alone, devices="80,86", package=package)
