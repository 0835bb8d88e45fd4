"""The fp32 speed limit of this machine, measured in the run whose results it is printed beside."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from bolt.kernels.family import Source
from bolt.module import host
from bolt.options import cache_dir
from bolt.target import Target
from bolt.templates import ROOT
from bolt.toolchain import build
from bolt.toolchain.host import find_compiler

_ACCUMULATORS = 12
_SLOTS = 256 * 16
_ROUNDS = 1_000_000
_REPEATS = 20


class _Task(ctypes.Structure):
    """`FmaTask` of templates/fma_peak.cc."""

    _fields_ = (("rounds", ctypes.c_int64), ("sink", ctypes.c_float * _SLOTS))


def peak_gflops(target: Target, threads: int, *, cache_root: Path | None = None) -> float:
    """GFLOP/s of fused multiply-adds on registers with `threads` threads: the best of a few short runs.

    Raises:
        ToolchainError: there is no compiler.
    """
    root = cache_root or cache_dir()
    library = ctypes.CDLL(str(_library(target, root)))
    native = host.open_library(host.library_path(root))
    pool = host.pool(native, threads)
    task = _Task(rounds=_ROUNDS)
    entry = ctypes.cast(library.bolt_fma_task, ctypes.c_void_p)
    flops = 2.0 * target.vector_lanes * _ACCUMULATORS * _ROUNDS * threads
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        native.bolt_pool_run(pool.handle, entry, threads, ctypes.addressof(task))
        best = min(best, time.perf_counter() - start)
    return flops / best * 1e-9


def _library(target: Target, root: Path) -> Path:
    source = Source(name="fma_peak", text=(ROOT / "fma_peak.cc").read_text())
    return build.library(source, target, compiler=find_compiler(), cache=build.store(root))
