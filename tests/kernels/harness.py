"""Runs one kernel of a family and compares it with its spec's float64 reference.

Operands live between guard zones: whatever a kernel reads outside an operand's dims and halo is NaN (or an
odd integer), and whatever it writes outside the output's dims is found. `page_end` puts operands at the end
of a page whose successor can't be touched, so that a single element too far is a crash.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import emulation
import numpy as np
import pytest

from bolt.kernels.family import Config, Family
from bolt.ops.spec import Operand, Spec
from bolt.target import CPU_TARGETS as _ROWS
from bolt.target import Target, by_name, runs_here
from bolt.templates import ROOT
from bolt.toolchain.host import Compiler, find_compiler, kernel_flags
from bolt.types import BF16, F32, S8, U8, DType, convert

ASKED = os.environ.get("BOLT_TEST_TARGETS")
ALL_TARGETS = (
    tuple(by_name(n) for n in ASKED.split(",")) if ASKED else tuple(t for t in _ROWS if runs_here(t))
)
"""The targets whose code this machine can execute, or those asked for (emulated where it cannot)."""

CPU_TARGETS = tuple(t for t in ALL_TARGETS if not t.has_vnni) or ALL_TARGETS
"""Those of them whose fp32 code differs: further products of a CPU leave it as it is."""

EVERY_TARGET = tuple(
    pytest.param(t, id=t.name, marks=pytest.mark.skipif(bool(said := emulation.obstacle(t)), reason=said))
    for t in _ROWS
)
"""All targets, emulated where need be; what can't be run here is skipped with the reason."""

GUARD = 67  # elements; odd, so that operands are aligned to their element size only
_PAGE = mmap.PAGESIZE
_STRICT = ("-Wextra", "-Werror", "-Wno-unused-const-variable")  # not every path reads every constant
_CALLER = Path(__file__).with_name("call_kernel.cc")


def f32(dims: Sequence[int | None], strides: Sequence[int | None] | None = None) -> Operand:
    """An fp32 operand; without `strides`, contiguous (then all dims but the first must be known)."""
    return operand(F32, dims, strides)


def operand(dtype: DType, dims: Sequence[int | None], strides: Sequence[int | None] | None = None) -> Operand:
    """An operand of any dtype; without `strides`, contiguous."""
    if strides is None:
        dense = Operand.dense(dtype, [d if d is not None else 1 for d in dims])
        assert None not in dims[1:], "give the strides of an operand with run-time dims"
        strides = dense.strides
    return Operand(dtype=dtype, dims=tuple(dims), strides=tuple(strides))


def like(out: Operand, strides: Sequence[int | None]) -> Operand:
    """An fp32 epilogue input: the dims of the output, its own strides (0 broadcasts)."""
    return f32(out.dims, strides)


def per_channel(out: Operand) -> Operand:
    """An epilogue input that is a vector along the innermost dim (bias)."""
    return like(out, (*[0] * (len(out.dims) - 1), 1))


def ints_of(spec: Spec, bound: Sequence[Operand]) -> tuple[int, ...]:
    """The `d` array that makes the operands of `spec` equal to the static operands `bound`."""
    return tuple(getattr(bound[s.operand], s.what)[s.axis] for s in spec.dynamic())


class Buffer:
    """Memory of one bound operand with guard zones around it."""

    def __init__(self, operand: Operand, halo: Sequence[tuple[int, int]], *, page_end: bool) -> None:
        dims, strides = _static(operand.dims), _static(operand.strides)
        before = sum(h[0] * s for h, s in zip(halo, strides, strict=True))
        extent = 1 + before + sum((d - 1 + h[1]) * s for d, h, s in zip(dims, halo, strides, strict=True))
        dtype = operand.dtype.np
        self.memory = _memory(dtype, extent, page_end=page_end)
        self.start = len(self.memory) - extent + before if page_end else GUARD + before
        self.memory[:] = _sentinel(dtype)
        widened = tuple(d + sum(h) for d, h in zip(dims, halo, strict=True))
        _view(self.memory, self.start - before, widened, strides)[...] = 0
        self.view = _view(self.memory, self.start, dims, strides)
        if not any(map(any, halo)):
            self.view[...] = _sentinel(dtype)

    def outside_view(self) -> np.ndarray:
        """The bytes of everything that is not an element of the view."""
        copy = self.memory.copy()
        index = _view(
            np.arange(len(copy)), self.start, self.view.shape, [s // copy.itemsize for s in self.view.strides]
        )
        copy[index.ravel()] = 0
        return copy.view(np.uint8)


def _static(values: Iterable[int | None]) -> tuple[int, ...]:
    out = tuple(values)
    assert None not in out, "bind the spec first"
    return out  # type: ignore[return-value]


def _view(memory: np.ndarray, start: int, dims: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    steps = [s * memory.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(memory[start:], tuple(dims), steps)


def _sentinel(dtype: np.dtype) -> Any:
    if dtype.kind == "f" or dtype == BF16.np:
        return np.nan
    return True if dtype.kind == "b" else 113


_KEEP: list[mmap.mmap] = []  # mappings with a closed page stay for the life of the process


def _memory(dtype: np.dtype, extent: int, *, page_end: bool) -> np.ndarray:
    if not page_end:
        return np.empty(extent + 2 * GUARD, dtype)
    pages = -(-extent * dtype.itemsize // _PAGE)
    mapping = mmap.mmap(-1, (pages + 1) * _PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address + pages * _PAGE), ctypes.c_size_t(_PAGE), 0) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")
    _KEEP.append(mapping)
    return np.frombuffer(mapping, dtype, count=pages * _PAGE // dtype.itemsize)


Block = tuple[np.ndarray, int]
"""Memory, and the index in it of an operand's element 0. Blocks may share their memory."""


def call(
    text: str,
    name: str,
    target: Target,
    blocks: Sequence[Block],
    ints: Sequence[int] = (),
    *,
    scratch_bytes: int = 0,
    parts: int = 1,
) -> None:
    """Calls the function `name` of the translation unit `text` for all parts, the last one first."""
    if not runs_here(target):
        _call_emulated(text, name, target, blocks, ints, scratch_bytes=scratch_bytes, parts=parts)
        return
    addresses = [memory.ctypes.data + start * memory.itemsize for memory, start in blocks]
    _call(compile_kernel(text, name, target), addresses, ints, scratch_bytes, parts)


def _call_emulated(
    text: str,
    name: str,
    target: Target,
    blocks: Sequence[Block],
    ints: Sequence[int],
    *,
    scratch_bytes: int,
    parts: int,
) -> None:
    """The same in an emulated process, whose file format tests/kernels/call_kernel.cc tells."""
    memories = list({id(memory): memory for memory, _ in blocks}.values())
    places = {id(memory): index for index, memory in enumerate(memories)}
    operands = [n for memory, start in blocks for n in (places[id(memory)], start * memory.itemsize)]
    sizes = [memory.nbytes for memory in memories]
    head = [len(memories), len(blocks), len(ints), scratch_bytes, parts, *sizes, *operands, *ints]
    program, library = emulation.program(_CALLER, target.arch), _library(text, target, _compiler(target))
    with tempfile.TemporaryDirectory() as folder:
        request, result = Path(folder, "request"), Path(folder, "result")
        request.write_bytes(np.array(head, np.int64).tobytes() + b"".join(m.tobytes() for m in memories))
        emulation.run(target.arch, program, library, name, request, result)
        data = result.read_bytes()
    for memory, end in zip(memories, np.cumsum(sizes), strict=True):
        memory.view(np.uint8)[:] = np.frombuffer(data[end - memory.nbytes : end], np.uint8)


def compile_kernel(text: str, name: str, target: Target) -> Callable[..., None]:
    """The compiled function `name` of the translation unit `text`."""
    function = _opened(_library(text, target, _compiler(target)))[name]
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return function


@functools.cache
def _headers() -> str:
    return "".join(p.read_text() for p in sorted((ROOT / "include").rglob("*.h")))


def _compiler(target: Target) -> Compiler:
    """$CXX, else g++, on its own architecture; else a cross compiler."""
    return find_compiler(os.environ.get("CXX", "g++") if runs_here(target) else None, arch=target.arch)


@functools.cache
def _library(text: str, target: Target, compiler: Compiler) -> Path:
    flags = (*kernel_flags(compiler, target), *_STRICT, "-shared", f"-I{ROOT / 'include'}")
    state = _headers() + compiler.identity
    return emulation.compiled(text, [*compiler.argv, *flags], link=("-lm",), headers=state)


@functools.cache
def _opened(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def random_values(operand: Operand, rng: np.random.Generator, *, exact: bool) -> np.ndarray:
    """Small integers when `exact`, else normal values; broadcast dims are 1."""
    shape = tuple(d if s else 1 for d, s in zip(_static(operand.dims), operand.strides, strict=True))
    kind = operand.dtype.np.kind
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if kind == "u":
        return rng.integers(0, 7, shape).astype(operand.dtype.np)
    if exact or kind == "i":
        return rng.integers(-3, 4, shape).astype(operand.dtype.np)
    return rng.standard_normal(shape).astype(operand.dtype.np)


def run(
    family: Family,
    spec: Spec,
    arrays: Mapping[int, np.ndarray],
    *,
    ints: Sequence[int] = (),
    target: Target,
    config: Config | None = None,
    parts: int = 1,
    page_end: Iterable[int] = (),
) -> np.ndarray:
    """Calls the kernel for all parts (last one first) and returns output 0.

    Args:
        family: the family under test.
        spec: may have run-time dims and strides; `ints` binds them.
        arrays: {operand: values} of every operand after the output.
        ints: the `d` array.
        target: where to run.
        config: default is the family's first.
        parts: number of shares.
        page_end: operands to place right before an untouchable page.
    """
    rejection = family.supports(spec, target)
    assert rejection is None, rejection
    configs = family.configs(spec, target)
    config = configs[0] if config is None else config
    assert config in configs, f"{config} is not one of the family's configs"
    bound, at_end = spec.bind(ints), frozenset(page_end)
    buffers = [
        Buffer(o, bound.halo().get(i, ((0, 0),) * len(o.dims)), page_end=i in at_end)
        for i, o in enumerate(bound.operands)
    ]
    for index, values in arrays.items():
        buffers[index].view[...] = values
    constants = {i: arrays[i] for i in spec.constants}
    packed = {i: _with_guard(a) for i, a in family.pack(spec, config, target, constants).items()}
    blocks = [(packed[i], GUARD) if i in packed else (b.memory, b.start) for i, b in enumerate(buffers)]
    name = f"bolt_test_{family.name}"
    text = family.render(spec, config, target, name)
    assert text == family.render(spec, config, target, name), "rendering is not deterministic"
    outside = [b.outside_view() for b in buffers]
    scratch_bytes = family.scratch_bytes(spec, config, target)
    call(text, name, target, blocks, ints, scratch_bytes=scratch_bytes, parts=parts)
    for index, (buffer, expected) in enumerate(zip(buffers, outside, strict=True)):
        assert np.array_equal(buffer.outside_view(), expected), f"wrote outside operand {index}"
    for index, values in arrays.items():
        same = np.array_equal(
            buffers[index].view,
            np.broadcast_to(values, buffers[index].view.shape),
            equal_nan=values.dtype.kind == "f",
        )
        assert same, f"changed input operand {index}"
    return buffers[0].view.copy()


def _with_guard(packed: np.ndarray) -> np.ndarray:
    assert packed.ndim == 1, "packed constants are 1-D"
    guarded = np.full(len(packed) + 2 * GUARD, _sentinel(packed.dtype), packed.dtype)
    guarded[GUARD:-GUARD] = packed
    return guarded


def _call(
    kernel: Callable[..., None], addresses: Sequence[int], ints: Sequence[int], scratch_bytes: int, parts: int
) -> None:
    pointers = (ctypes.c_void_p * len(addresses))(*addresses)
    dims = (ctypes.c_int64 * max(1, len(ints)))(*ints)
    for part in reversed(range(parts)):
        scratch = np.full(scratch_bytes + 128, 0xFF, np.uint8)  # floats in it read as NaN
        offset = -scratch.ctypes.data % 64
        kernel(pointers, dims, scratch.ctypes.data + offset, part, parts)
        assert (scratch[:offset] == 0xFF).all() and (scratch[offset + scratch_bytes :] == 0xFF).all(), (
            f"part {part} wrote outside its {scratch_bytes} bytes of scratch"
        )


def check(
    family: Family,
    spec: Spec,
    ints: Sequence[int] = (),
    *,
    target: Target,
    config: Config | None = None,
    parts: int = 1,
    exact: bool = True,
    tolerance: float = 4e-6,
    page_end: Iterable[int] = (),
    values: Mapping[int, np.ndarray] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Runs the kernel on random (or the given) values and asserts that output 0 is right.

    Args:
        exact: small-integer inputs and exact equality; else normal inputs and
            |got - want| <= tolerance * (|want| + mean |want|).
        tolerance: see `exact`.
        values: {operand: values} that replace the random ones.
        seed: of the random values.

    The other arguments are those of `run`. Returns the kernel's output.
    """
    bound, rng = spec.bind(ints), np.random.default_rng(seed)
    arrays = {i: random_values(o, rng, exact=exact) for i, o in enumerate(bound.operands) if i}
    arrays |= dict(values or {})
    got = run(family, spec, arrays, ints=ints, target=target, config=config, parts=parts, page_end=page_end)
    want = bound.reference([arrays[i] for i in range(1, len(bound.operands))])[0]
    if spec.out.dtype in (U8, S8) and spec.op != "pointwise":
        want = rounded(want, spec.out.dtype)
    compare(got, np.broadcast_to(want, got.shape), tolerance=None if exact else tolerance)
    return got


TOLERANCES = {F32: 4e-6, BF16: 1e-2, U8: 4e-6, S8: 4e-6}
"""How close results of products of a type come; sums of integers up to 2^24 are exact."""


def rounded(values: np.ndarray, dtype: DType) -> np.ndarray:
    """Real numbers as kernels store them in a type: to nearest even, integers saturated."""
    if dtype.is_float:
        return convert(values, dtype).astype(np.float64)
    limits = np.iinfo(dtype.np)
    return np.clip(np.rint(values), limits.min, limits.max)


def compare(got: np.ndarray, want: np.ndarray, *, tolerance: float | None) -> None:
    """Asserts equality (`tolerance` None), or closeness as `check` defines it; NaN and inf must match."""
    if got.dtype == BF16.np:
        got = got.astype(np.float64)
        want = rounded(want, BF16) if tolerance is None else want
    if got.dtype.kind != "f":
        want, tolerance = want.astype(got.dtype), None
    if tolerance is None:
        wrong = ~((got == want) | ((got != got) & (want != want)))
    else:
        finite = np.isfinite(want)
        scale = np.abs(want[finite]).mean() if finite.any() else 0.0
        with np.errstate(invalid="ignore"):
            close = np.abs(got - want) <= tolerance * (np.abs(want) + scale)
        wrong = ~np.where(finite, close, (got == want) | ((got != got) & (want != want)))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} elements differ; "
            f"first at {first}: got {got[first]!r}, want {want[first]!r}"
        )
