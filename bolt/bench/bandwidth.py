"""How fast this machine reads memory, measured in the run whose results it is printed beside."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bolt.kernels.family import Source
from bolt.module import host
from bolt.options import cache_dir
from bolt.target import Target
from bolt.templates import ROOT
from bolt.toolchain import build
from bolt.toolchain.host import find_compiler

SIZES = (256 << 10, 2 << 20, 12 << 20, 128 << 20)
"""Bytes read again and again, of all threads together: what fits into the first caches, and what does not."""

_BYTES = 96 << 20
_REPEATS = 5
_SLOTS = 256 * 16
_GRAIN = 8 * 16
"""Floats a thread reads at a time, for the widest vectors."""

Curve = tuple[tuple[int, float], ...]
"""(bytes, GB/s) in order of bytes."""


class _Task(ctypes.Structure):
    """`ReadTask` of templates/read_peak.cc."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("floats", ctypes.c_int64),
        ("rounds", ctypes.c_int64),
        ("sink", ctypes.c_float * _SLOTS),
    )


def bandwidth(
    target: Target, threads: int, *, sizes: Sequence[int] = SIZES, cache_root: Path | None = None
) -> Curve:
    """GB/s of reading arrays of these sizes with `threads` threads: the best of a few short runs each.

    Raises:
        ToolchainError: there is no compiler.
    """
    root = cache_root or cache_dir()
    library = ctypes.CDLL(str(_library(target, root)))
    entry = ctypes.cast(library.bolt_read_task, ctypes.c_void_p)
    native = host.open_library(host.library_path(root))
    pool = host.pool(native, threads)
    data = np.ones(max(sizes) // 4, np.float32)
    found = []
    for size in sizes:
        floats = size // 4 // threads // _GRAIN * _GRAIN
        rounds = max(1, _BYTES // size)
        task = _Task(data=data.ctypes.data, floats=floats, rounds=rounds)
        best = float("inf")
        for _ in range(_REPEATS):
            start = time.perf_counter()
            native.bolt_pool_run(pool.handle, entry, threads, ctypes.addressof(task))
            best = min(best, time.perf_counter() - start)
        found.append((size, 4.0 * floats * threads * rounds / best * 1e-9))
    return tuple(found)


def at(curve: Curve, bytes_: int) -> float:
    """GB/s for so many bytes: of the smallest size measured that holds them, else of the largest."""
    return next((speed for size, speed in curve if bytes_ <= size), curve[-1][1])


def _library(target: Target, root: Path) -> Path:
    source = Source(name="read_peak", text=(ROOT / "read_peak.cc").read_text())
    return build.library(source, target, compiler=find_compiler(), cache=build.store(root))
