"""The pretended CUDA driver (driver.cc) for programs that run as child processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cuda import emulator


def library() -> Path:
    """The compiled library, which runs translated kernels too (emulator.py)."""
    return emulator.library()


def environment(devices: str = "80", **changes: str) -> Mapping[str, str]:
    """What a child process gets so that it sees GPUs of these compute capabilities ("80,90")."""
    kept = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return kept | {"LD_LIBRARY_PATH": str(library().parent), "FAKE_CUDA_DEVICES": devices} | changes
