"""Asking the driver (a made-up one) for GPUs, and the target of the GPU that is there."""

import enum
import subprocess
import sys
from types import SimpleNamespace

import pytest
from cuda import driver

from bolt import gpu, target
from bolt.errors import TargetError
from bolt.gpu import Device, Found
from bolt.target import CUDA_TARGETS, SM80, SM86, SM89, SM90A, by_name, runs_here, runs_on

A100 = Device(
    ordinal=0, name="A100", sm=80, multiprocessors=108, memory_bytes=80 << 30, driver="580.1", cuda=(13, 0)
)


class Code(enum.IntEnum):
    OK = 0
    NO_DEVICE = 100


class Driver:
    """What bolt asks of `cuda.bindings.driver`, for devices given as (name, major, minor)."""

    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT="count",
    )

    def __init__(self, *devices, init=Code.OK):
        self.devices, self.init = devices, init

    def cuInit(self, flags):
        return (self.init,)

    def cuGetErrorName(self, code):
        return Code.OK, b"CUDA_ERROR_" + code.name.encode()

    def cuDriverGetVersion(self):
        return Code.OK, 13020

    def cuDeviceGetCount(self):
        return Code.OK, len(self.devices)

    def cuDeviceGet(self, ordinal):
        return Code.OK, ordinal

    def cuDeviceGetName(self, length, handle):
        return Code.OK, self.devices[handle][0].encode().ljust(length, b"\0")

    def cuDeviceTotalMem(self, handle):
        return Code.OK, 24 << 30

    def cuDeviceGetAttribute(self, name, handle):
        _, major, minor = self.devices[handle]
        return Code.OK, {"major": major, "minor": minor, "count": 72}[name]


@pytest.fixture
def query(monkeypatch):
    """`gpu.query` with another driver."""

    def ask(driver):
        monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=driver))
        monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver))
        return gpu.query.__wrapped__()

    return ask


@pytest.fixture
def machine(monkeypatch):
    """A machine with these devices."""
    return lambda *devices, reason="": monkeypatch.setattr(gpu, "query", lambda: Found(devices, reason))


def device(sm):
    return Device(
        ordinal=0, name="X", sm=sm, multiprocessors=1, memory_bytes=1 << 30, driver="580.1", cuda=(13, 0)
    )


def test_devices_are_described(query, monkeypatch, tmp_path):
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  x\n"
    )
    monkeypatch.setattr(gpu, "_RELEASE", tmp_path / "version")
    found = query(Driver(("NVIDIA A10", 8, 6), ("NVIDIA H200", 9, 0)))
    assert [(d.ordinal, d.name, d.sm) for d in found.devices] == [
        (0, "NVIDIA A10", 86),
        (1, "NVIDIA H200", 90),
    ]
    assert (found.devices[0].driver, found.devices[0].cuda) == ("580.65.06", (13, 2))
    assert found.devices[0].identity == "NVIDIA A10, driver 580.65.06 (CUDA 13.2)"
    assert "compute capability 8.6, 72 multiprocessors, 24 GiB" in found.devices[0].description


def test_no_device_is_no_error(query):
    assert query(Driver()) == Found((), "the driver lists no device")
    refused = query(Driver(init=Code.NO_DEVICE))
    assert refused.devices == ()
    assert refused.reason == "the NVIDIA driver refuses (cuInit: CUDA_ERROR_NO_DEVICE)"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "pip install 'bolt-ep[cuda]'" in gpu.query.__wrapped__().reason


@pytest.mark.parametrize(("sm", "best"), [(80, SM80), (86, SM86), (87, SM86), (89, SM89), (90, SM90A)])
def test_cuda_is_the_best_row_of_the_first_device(machine, sm, best):
    machine(device(sm), A100)
    assert by_name("cuda") is best


def test_cuda_without_a_gpu_says_what_to_name_instead(machine):
    machine(reason="there is no NVIDIA driver")
    with pytest.raises(TargetError, match=r"there is no NVIDIA driver\. Name the GPU .*sm90a"):
        by_name("cuda")


def test_a_gpu_that_no_target_fits_is_named(machine):
    machine(device(70))
    with pytest.raises(TargetError, match=r"no target for X, .*compute capability 7\.0"):
        by_name("cuda")


def test_code_runs_on_its_own_and_later_minor_capabilities(machine):
    machine(device(89))
    assert [t.name for t in CUDA_TARGETS if runs_here(t)] == ["sm89", "sm86", "sm80"]
    assert not runs_on(SM90A, 100)
    assert not runs_on(target.X86_AVX2, 80)


def test_no_gpu_runs_no_cuda_target(machine):
    machine()
    assert not any(runs_here(t) for t in CUDA_TARGETS)


@pytest.mark.parametrize(
    ("devices", "said"),
    [("75,90", "[75, 90]"), ("", "[] the NVIDIA driver refuses (cuInit: CUDA_ERROR_NO_DEVICE)")],
)
def test_a_driver_is_asked_through_cuda_python(devices, said):
    pytest.importorskip("cuda.bindings.driver")
    script = "from bolt import gpu; f = gpu.query(); print([d.sm for d in f.devices], f.reason)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=driver.environment(devices), capture_output=True, text=True
    )
    assert done.stdout.strip() == said, done.stderr
