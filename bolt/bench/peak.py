"""The speed limits of this machine, measured in the run whose results it is printed beside."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

from bolt.codegen.render import render
from bolt.errors import TargetError
from bolt.kernels.family import Source
from bolt.kernels.products import PRODUCTS, Product
from bolt.module import host
from bolt.options import cache_dir
from bolt.target import Target
from bolt.toolchain import build
from bolt.toolchain.host import find_compiler
from bolt.types import F32, DType

_ACCUMULATORS = 5 / 8
"""Share of the registers: enough to hide an instruction's latency, and no spills."""
_SLOTS = 256 * 16
_ROUNDS = 1_000_000
_REPEATS = 20


class _Task(ctypes.Structure):
    """`FmaTask` of templates/fma_peak.cc.jinja."""

    _fields_ = (("rounds", ctypes.c_int64), ("sink", ctypes.c_float * _SLOTS))


def peak_gflops(target: Target, threads: int, *, dtype: DType = F32, cache_root: Path | None = None) -> float:
    """1e9 operations per second of products on registers: the best of a few short runs.

    Args:
        target: whose instructions to time on this machine.
        threads: how many work at the same time.
        dtype: of what is multiplied; its input, where weights have another.
        cache_root: where the compiled measurement is kept.

    Raises:
        TargetError: the target has no products of that type.
        ToolchainError: there is no compiler.
    """
    product = next((p for p in PRODUCTS if p.a is dtype), None)
    if product is None or not product.runs_on(target):
        raise TargetError(f"{target.name} has no products of {dtype} to measure")
    root = cache_root or cache_dir()
    library = ctypes.CDLL(str(_library(product, target, root)))
    native = host.open_library(host.library_path(root))
    pool = host.pool(native, threads)
    task = _Task(rounds=_ROUNDS)
    entry = ctypes.cast(library.bolt_fma_task, ctypes.c_void_p)
    flops = 2.0 * product.size * target.vector_lanes * _accumulators(target) * _ROUNDS * threads
    best = float("inf")
    for _ in range(_REPEATS):
        start = time.perf_counter()
        native.bolt_pool_run(pool.handle, entry, threads, ctypes.addressof(task))
        best = min(best, time.perf_counter() - start)
    return flops / best * 1e-9


def _accumulators(target: Target) -> int:
    return int(target.vector_registers * _ACCUMULATORS)


def _library(product: Product, target: Target, root: Path) -> Path:
    text = render("fma_peak.cc.jinja", {"element": product.a.cpu, "accumulators": _accumulators(target)})
    source = Source(name="fma_peak", text=text)
    return build.library(source, target, compiler=find_compiler(), cache=build.store(root))
