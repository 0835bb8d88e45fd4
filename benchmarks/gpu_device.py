"""The GPU that is measured, and what a measurement on it depends on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bolt import gpu
from bolt.bench.machine import commit
from bolt.ep.library import bolt_version
from bolt.errors import TargetError, ToolchainError
from bolt.target import Target, by_name, detect_cuda
from bolt.toolchain import nvcc

DRY_TARGET = "sm90a"
"""What a dry run builds for."""

_ASKED = "clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"
_PACKAGES = ("torch", "triton", "onnxruntime", "transformers", "torchvision", "nvidia-cutlass", "numpy")


def target(*, dry_run: bool) -> Target:
    """The target of this machine's GPU, or what a dry run builds for.

    Raises:
        TargetError: there is no GPU, or none bolt compiles for.
    """
    if dry_run:
        return by_name(DRY_TARGET)
    if reason := gpu.query().reason:
        raise TargetError(
            f"there is no NVIDIA GPU to measure on: {reason}; --dry-run builds everything without one"
        )
    return detect_cuda()


def facts(target: Target) -> dict[str, Any]:
    """Plain JSON about GPU, driver, clocks and versions."""
    devices = gpu.query().devices
    return {
        "device": devices[0].description if devices else "no GPU (dry run)",
        "target": target.name,
        "clocks": _clocks(),
        "system": platform.platform(terse=True),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit() or _carried_commit(),
        "versions": {"bolt": bolt_version(), "python": platform.python_version(), **_versions()},
    }


def _clocks() -> str:
    """What nvidia-smi tells about clocks; settings are never changed."""
    program = shutil.which("nvidia-smi")
    if not program:
        return "clocks unknown"
    command = [program, f"--query-gpu={_ASKED}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    values = done.stdout.strip().splitlines()
    return f"{_ASKED.replace(',', ' ')}: {values[0]}" if values else "clocks unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        found["nvcc"] = ".".join(map(str, nvcc.find().version))
    except ToolchainError:
        pass
    return found


def _carried_commit() -> str | None:
    """The commit that `python -m benchmarks carry` wrote down beside the wheels."""
    folder = os.environ.get("BOLT_CARRIED")
    path = Path(folder, "commit.txt") if folder else None
    return path.read_text().strip() if path and path.exists() else None
