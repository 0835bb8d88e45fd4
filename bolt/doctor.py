"""What this machine has of what bolt needs."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bolt import gpu
from bolt.errors import BoltError
from bolt.options import cache_dir, cores
from bolt.target import TARGETS, detect, runs_here

_LITTLE_SPACE = 2 << 30
_LOAD = """
import onnxruntime, bolt
onnxruntime.register_execution_provider_library("bolt-doctor", bolt.get_library_path())
names = [d.ep_name for d in onnxruntime.get_ep_devices()]
assert bolt.get_ep_name() in names, names
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: "ok", "note" (works without it) or "bad" (bolt can't work).
        detail: what was found, and what to do when it is not ok.
    """

    name: str
    status: str
    detail: str


def examine(*, deep: bool = True) -> tuple[Finding, ...]:
    """All findings.

    Args:
        deep: also build the execution provider and load it (seconds, the first time).
    """
    looks = (*_LOOKS, _provider) if deep else _LOOKS
    return tuple(look() for look in looks)


def _guarded(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, status="ok", detail=look())
    except BoltError as error:
        return Finding(name=name, status="bad", detail=str(error))


def _python() -> Finding:
    detail = f"Python {platform.python_version()}, bolt {importlib.metadata.version('bolt-ep')}"
    return Finding(name="python", status="ok", detail=detail)


def _compiler() -> Finding:
    from bolt.toolchain.host import find_compiler

    return _guarded("compiler", lambda: find_compiler().identity)


def _targets() -> Finding:
    runnable = ", ".join(t.name for t in TARGETS if runs_here(t))
    return _guarded("targets", lambda: f"{detect().name} (this machine runs {runnable})")


def _cores() -> Finding:
    return Finding(name="cores", status="ok", detail=f"{cores()} usable")


def _runtime() -> Finding:
    from bolt.ep.session import load_runtime

    return _guarded("onnxruntime", lambda: str(load_runtime().__version__))


def _provider() -> Finding:
    """Loading happens in a child process: a library that does not fit may end it."""
    try:
        done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return Finding(name="provider", status="bad", detail="loading it took longer than 300 s")
    if done.returncode == 0:
        return Finding(name="provider", status="ok", detail="onnxruntime loads bolt's library")
    said = done.stderr.strip().splitlines()
    return Finding(name="provider", status="bad", detail=said[-1] if said else f"exit {done.returncode}")


def _gpu() -> Finding:
    found = gpu.query()
    listed = "; ".join(device.description for device in found.devices)
    return Finding(name="gpu", status="note", detail=listed or f"{found.reason}; CUDA kernels are not timed")


def _nvcc() -> Finding:
    from bolt.toolchain import nvcc

    try:
        device = nvcc.find()
    except BoltError as error:
        return Finding(name="nvcc", status="note", detail=f"{error} (for CUDA targets only)")
    return Finding(name="nvcc", status="ok", detail=f"{device.identity}, {device.path}")


def _cutlass() -> Finding:
    from bolt.toolchain import nvcc

    try:
        headers = nvcc.find_cutlass()
    except BoltError as error:
        return Finding(name="cutlass", status="note", detail=str(error))
    if headers is None:
        return Finding(name="cutlass", status="note", detail=f"not installed. {nvcc.ADVICE}")
    return Finding(name="cutlass", status="ok", detail=f"{headers.version}, {headers.root}")


def _cache() -> Finding:
    from bolt.storage import parts

    root = cache_dir()
    size = sum(part.bytes for part in parts(root))
    return Finding(name="cache", status="ok", detail=f"{root}, {size / 1e6:.0f} MB")


def _disk() -> Finding:
    folder = next(p for p in (cache_dir(), *cache_dir().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    status = "ok" if free > _LITTLE_SPACE else "note"
    return Finding(name="disk", status=status, detail=f"{free / 1e9:.1f} GB free below {folder}")


_LOOKS = (_python, _compiler, _targets, _cores, _runtime, _nvcc, _cutlass, _gpu, _cache, _disk)
