"""The NVIDIA GPUs of this machine, as their driver describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_RELEASE = Path("/proc/driver/nvidia/version")
_NO_DRIVER = "there is no NVIDIA driver (libcuda.so.1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One GPU.

    Attributes:
        ordinal: the driver's number of it; CUDA_VISIBLE_DEVICES changes it.
        name: as the driver calls the model.
        sm: compute capability, 10 * major + minor.
        multiprocessors: how many it has.
        memory_bytes: of its memory.
        driver: its release.
        cuda: (major, minor) of the newest CUDA runtime it serves.
    """

    ordinal: int
    name: str
    sm: int
    multiprocessors: int
    memory_bytes: int
    driver: str
    cuda: tuple[int, int]

    @property
    def identity(self) -> str:
        """Model and driver: what a time depends on."""
        return f"{self.name}, driver {self.driver} (CUDA {self.cuda[0]}.{self.cuda[1]})"

    @property
    def description(self) -> str:
        """One line for a person."""
        size = f"{self.memory_bytes / 2**30:.0f} GiB"
        capability = f"compute capability {self.sm // 10}.{self.sm % 10}"
        return f"{self.identity}, {capability}, {self.multiprocessors} multiprocessors, {size}"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is.

    Attributes:
        devices: in the driver's order.
        reason: why there are none ("" when there are some).
    """

    devices: tuple[Device, ...] = ()
    reason: str = ""


@cache
def query() -> Found:
    """The devices, asked once; no package, no driver and no device are not errors."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return Found(reason="the package cuda-python is missing; pip install 'bolt-ep[cuda]'")
    try:
        return _ask(driver)
    except RuntimeError as error:
        missing = type(error).__name__ == "DynamicLibNotFoundError"  # of a package that older versions lack
        return Found(reason=_NO_DRIVER if missing else f"the NVIDIA driver refuses ({error})")


def _ask(driver: Any) -> Found:
    call(driver, driver.cuInit, 0)
    version = call(driver, driver.cuDriverGetVersion)
    cuda, count = (version // 1000, version % 1000 // 10), call(driver, driver.cuDeviceGetCount)
    devices = tuple(_device(driver, ordinal, cuda) for ordinal in range(count))
    return Found(devices, "" if devices else "the driver lists no device")


def _device(driver: Any, ordinal: int, cuda: tuple[int, int]) -> Device:
    handle, known = call(driver, driver.cuDeviceGet, ordinal), driver.CUdevice_attribute

    def attribute(name: str) -> int:
        code = getattr(known, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(call(driver, driver.cuDeviceGetAttribute, code, handle))

    major, minor = attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")
    name = call(driver, driver.cuDeviceGetName, 256, handle)
    return Device(
        ordinal=ordinal,
        name=bytes(name).split(b"\0")[0].decode(errors="replace"),
        sm=10 * major + minor,
        multiprocessors=attribute("MULTIPROCESSOR_COUNT"),
        memory_bytes=int(call(driver, driver.cuDeviceTotalMem, handle)),
        driver=_release(),
        cuda=cuda,
    )


def _release() -> str:
    """ "580.65.06", as the driver's kernel module tells it."""
    try:
        match = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", _RELEASE.read_text())
    except OSError:
        match = None
    return match[1] if match else "of unknown release"


def call(driver: Any, function: Any, *arguments: Any) -> Any:
    """What a driver function gives.

    Raises:
        RuntimeError: it failed; the message has the function's and the error's name.
    """
    code, *results = function(*arguments)
    if int(code):
        _, name = driver.cuGetErrorName(code)
        said = name.decode() if isinstance(name, bytes) else str(code)
        raise RuntimeError(f"{function.__name__}: {said}")
    return results[0] if len(results) == 1 else tuple(results) or None
