"""Units of device code on a machine without a GPU: compiled and linked, their host side called by ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bolt.errors import ToolchainError
from bolt.kernels.family import Source
from bolt.target import Target
from bolt.toolchain import build, nvcc
from bolt.toolchain.build import Binary
from bolt.toolchain.host import for_target


def _missing() -> str:
    try:
        return "" if nvcc.find().cutlass else "no CUTLASS headers"
    except ToolchainError as error:
        return str(error)


needs_cutlass = pytest.mark.skipif(bool(reason := _missing()), reason=reason)

_INT = ctypes.c_int64


class Extra(ctypes.Structure):
    """BoltExtra of templates/include/bolt/cuda/launch.h."""

    _fields_ = (("data", ctypes.c_void_p), ("strides", _INT * 3))


class Gemm(ctypes.Structure):
    """BoltGemm of templates/include/bolt/cuda/launch.h."""

    _fields_ = (
        *((name, _INT) for name in ("batch", "m", "n", "k")),
        ("a", ctypes.c_void_p),
        *((name, _INT) for name in ("lda", "a_batch")),
        ("b", ctypes.c_void_p),
        *((name, _INT) for name in ("ldb", "b_batch")),
        ("d", ctypes.c_void_p),
        *((name, _INT) for name in ("ldd", "d_batch")),
        ("extras", Extra * 8),
        ("workspace", ctypes.c_void_p),
        *((name, _INT) for name in ("split_k", "swizzle")),
    )


class Conv(ctypes.Structure):
    """BoltConv of templates/include/bolt/cuda/launch.h."""

    _fields_ = (
        *((name, _INT) for name in ("n", "h", "w", "c", "k", "p", "q", "r", "s", "groups")),
        *((name, _INT * 2) for name in ("pad", "stride", "dilation")),
        ("x", ctypes.c_void_p),
        ("x_strides", _INT * 3),
        ("weights", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("y_strides", _INT * 3),
        ("extras", Extra * 8),
        ("workspace", ctypes.c_void_p),
        ("split_k", _INT),
    )


class Unit:
    """The three functions of a unit in a loaded library."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self._run, self._check = library[name], library[f"{name}_check"]
        self._workspace = library[f"{name}_workspace"]
        self._workspace.restype = _INT

    def run(self, arguments: ctypes.Structure) -> int:
        return int(self._run(ctypes.byref(arguments), None))

    def check(self, arguments: ctypes.Structure) -> int:
        return int(self._check(ctypes.byref(arguments)))

    def workspace(self, arguments: ctypes.Structure) -> int:
        return int(self._workspace(ctypes.byref(arguments)))


def compiled(sources: Sequence[Source], target: Target, folder: Path) -> list[Binary]:
    """The binaries of sources, compiled together; fails where one does not compile or spills."""
    compiler, cache = for_target(target), build.store(folder)
    found = list(build.build(sources, target, compiler=compiler, cache=cache, jobs=1, batched=True))
    for binary in found:
        assert isinstance(binary, Binary), str(binary)
        if binary.resources.kernels:
            assert binary.resources.spill_bytes == 0, (binary.name, binary.resources)
            assert binary.resources.registers <= 255
    return found  # type: ignore[return-value]


def loaded(binaries: Sequence[Binary], target: Target, folder: Path) -> ctypes.CDLL:
    """A library of compiled sources."""
    objects = build.distinct([(b.path,) for b in binaries])
    return ctypes.CDLL(str(build.link(objects, compiler=for_target(target), cache=build.store(folder))))


def launcher(
    text: str, name: str, stand_in: str, target: Target, folder: Path
) -> Callable[[Sequence[int], Sequence[int]], int]:
    """A launcher linked with host code that takes the place of its unit; called with addresses and ints."""
    sources = [Source(name=name, text=text), Source(name=f"{name}_unit", text=stand_in)]
    function = loaded(compiled(sources, target, folder), target, folder)[name]

    def call(addresses: Sequence[int], ints: Sequence[int]) -> int:
        pointers = (ctypes.c_void_p * len(addresses))(*addresses)
        dims: Any = (_INT * max(1, len(ints)))(*ints)
        return int(function(pointers, dims, None, None))

    return call
