"""The native half of running modules and kernels from Python: thread pool and timing loops."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bolt.errors import ModuleError
from bolt.kernels.family import Source
from bolt.options import cache_dir
from bolt.templates import ROOT
from bolt.toolchain import build
from bolt.toolchain.host import find_compiler, portable

I32, I64, U64, PTR = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "bolt_pool_create": (PTR, [I32]),
    "bolt_pool_destroy": (None, [PTR]),
    "bolt_pool_run": (None, [PTR, PTR, ctypes.c_size_t, PTR]),
    "bolt_host_run": (I32, [PTR, PTR, PTR, PTR, I32, I32, PTR, PTR, ctypes.c_size_t]),
    "bolt_kernel_run": (None, [PTR, PTR, I32, I32, I32, PTR, PTR, U64, I64, PTR, I32, PTR]),
}


class HostStruct(ctypes.Structure):
    """`Host` of templates/host_pool.cc."""

    _fields_ = (
        ("pool", PTR),
        ("workspace", PTR),
        ("workspace_bytes", U64),
        ("output_count", I32),
        ("outputs", PTR),
        ("output_dims", PTR),
        ("output_ranks", PTR),
        ("step_us", PTR),
        ("last_us", ctypes.c_double),
    )


def library_path(cache_root: Path | None = None, compiler: str | None = None) -> Path:
    """The native library, compiled when the cache does not have it."""
    source = Source(name="host_pool", text=(ROOT / "host_pool.cc").read_text())
    return build.library(
        source,
        portable(),
        compiler=find_compiler(compiler),
        cache=build.store(cache_root or cache_dir()),
        extra=("-pthread",),
    )


@cache
def open_library(path: Path) -> ctypes.CDLL:
    """The native library at `path` with its signatures set."""
    library = ctypes.CDLL(str(path))
    for name, (restype, argtypes) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = restype, argtypes
    return library


@dataclass(frozen=True, slots=True)
class Pool:
    """A persistent pool of `threads`, the calling one included."""

    library: ctypes.CDLL
    handle: int | None
    threads: int


@cache
def pool(library: ctypes.CDLL, threads: int) -> Pool:
    """The process's pool of that many threads; it lives until the process ends.

    Raises:
        ModuleError: the system gives no more threads.
    """
    if threads == 1:
        return Pool(library, None, 1)
    handle = library.bolt_pool_create(threads)
    if not handle:
        raise ModuleError(f"no pool of {threads} threads could be started; ask for fewer threads")
    return Pool(library, handle, threads)


def aligned(bytes_: int) -> np.ndarray:
    """Page-aligned zeroed memory (uint8), on huge pages where the system has them."""
    memory = mmap.mmap(-1, max(bytes_, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel without transparent huge pages
    return np.frombuffer(memory, np.uint8, count=bytes_)
