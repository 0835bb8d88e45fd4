"""What a package needs against what this machine has; nothing but the NVIDIA driver is asked about GPUs."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from bolt.target import cpu_flags

CUDA = "cuda"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def obstacle(libraries: Mapping[str, str], partitions: Iterable[Mapping[str, Any]]) -> str:
    """Why a package can't run on this machine, "" when it can.

    Args:
        libraries: of its manifest.
        partitions: the values of its manifest's `partitions`.
    """
    if libraries and platform.machine() not in libraries:
        return f"it is for {', '.join(libraries)}, this machine is {platform.machine()}"
    for partition in partitions:
        reasons = [variant_obstacle(variant) for variant in partition["variants"]]
        if all(reasons):
            return "; ".join(dict.fromkeys(reasons))
    return ""


def variant_obstacle(variant: Mapping[str, Any]) -> str:
    """Why this machine can't run a variant of a manifest, "" when it can."""
    if is_for_gpu(variant):
        return _gpu_obstacle(variant)
    if variant["arch"] != platform.machine():
        return f"{variant['target']} is for {variant['arch']}, this machine is {platform.machine()}"
    missing = sorted(set(variant["features"]) - cpu_flags())
    return f"{variant['target']} needs {', '.join(missing)}, which this CPU has not" if missing else ""


def is_for_gpu(variant: Mapping[str, Any]) -> bool:
    """Whether a variant of a manifest runs on a GPU."""
    return bool(variant["arch"] == CUDA)


def _gpu_obstacle(variant: Mapping[str, Any]) -> str:
    here, reason = capabilities()
    if any(name in variant["features"] for name in here):
        return ""
    wanted = f"{variant['target']} needs a GPU of {' or '.join(variant['features'])}"
    return f"{wanted}, {reason or 'this machine has ' + ', '.join(here)}"


@cache
def capabilities() -> tuple[tuple[str, ...], str]:
    """The compute capabilities of the GPUs the driver shows ("sm80", ...), or why there are none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), "and there is no NVIDIA driver (libcuda.so.1) here"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return (), "and the NVIDIA driver shows no GPU here (check nvidia-smi and CUDA_VISIBLE_DEVICES)"
    return tuple(f"sm{_capability(driver, ordinal)}" for ordinal in range(count.value)), ""


def _capability(driver: ctypes.CDLL, ordinal: int) -> int:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(handle), ordinal)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle)
    return 10 * major.value + minor.value
