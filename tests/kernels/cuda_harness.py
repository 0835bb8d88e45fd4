"""Runs one kernel of a CUDA family under the emulator (tests/cuda) and compares it with its spec's reference.

On a GPU instead where BOLT_TEST_DEVICE says so (real_gpu.py). The twin of `harness.py`: operands lie between
guard zones that read as NaN and must not be written, at addresses that are aligned to what their operand
states and to nothing more.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
from cuda import emulator
from kernels import harness, real_gpu
from kernels.harness import f32, like, operand, per_channel

from bolt import verify
from bolt.kernels.family import Candidate, Config, Family, Source
from bolt.ops.spec import Operand, Spec
from bolt.target import CUDA_TARGETS, Target
from bolt.types import EIGHT_BIT_FLOATS, LARGEST, STORED, DType, within

__all__ = ["NEEDS_EMULATOR", "Device", "check", "f32", "like", "operand", "per_channel", "run", "symbol"]

NEEDS_EMULATOR = (
    pytest.mark.skipif(bool(said := emulator.obstacle()), reason=said)
    if real_gpu.IS_EMULATED
    else pytest.mark.gpu
)
"""For modules whose tests run kernels; on a GPU where that is asked for."""

_GUARD_BYTES = 512
_CONSTANT_ALIGNMENT = 64
_SCRATCH_ALIGNMENT = 16
_TERMS = 1024
"""Products per sum that the default tolerance allows for."""

_CAPABILITIES = tuple(t.gpu.sm for t in CUDA_TARGETS if t.gpu)


class Device:
    """The pretended GPU of one target, as ctypes calls."""

    def __init__(self, target: Target) -> None:
        if not real_gpu.IS_EMULATED:
            pytest.skip("runs under the emulator only")
        assert target.gpu is not None
        os.environ.setdefault("FAKE_CUDA_DEVICES", ",".join(map(str, _CAPABILITIES)))
        os.environ.setdefault("FAKE_CUDA_MEMORY", str(8 << 30))
        self.cuda = emulator.driver()
        self._ordinal = _CAPABILITIES.index(target.gpu.sm)
        self.select()
        self.stream = ctypes.c_void_p()
        self.do("cudaStreamCreate", ctypes.byref(self.stream))

    def select(self) -> None:
        """Makes it the current device of the thread, without what an earlier kernel's failure left behind."""
        self.cuda.fake_cuda_reset()
        self.cuda.cudaGetLastError()
        self.do("cudaSetDevice", self._ordinal)

    def do(self, function: str, *arguments: Any) -> None:
        """Calls a function of the runtime, which must succeed."""
        code = getattr(self.cuda, function)(*arguments)
        if code:
            message = self.cuda.fake_cuda_message().decode() or _error(self.cuda, code)
            self.cuda.fake_cuda_reset()
            raise AssertionError(f"{function}: error {code}: {message}")

    def wait(self) -> None:
        """Until the stream's work is done."""
        self.do("cudaStreamSynchronize", self.stream)

    @contextmanager
    def memory(self, contents: np.ndarray) -> Iterator[int]:
        """Device memory with these contents, for a while; its address."""
        address = ctypes.c_void_p()
        self.do("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(1, contents.nbytes)))
        try:
            self.write(address.value or 0, contents)
            yield address.value or 0
        finally:
            self.do("cudaFree", address)

    def write(self, address: int, contents: np.ndarray) -> None:
        size = ctypes.c_size_t(contents.nbytes)
        self.do("cudaMemcpy", ctypes.c_void_p(address), ctypes.c_void_p(contents.ctypes.data), size, 1)

    def read(self, address: int, into: np.ndarray) -> None:
        size = ctypes.c_size_t(into.nbytes)
        self.do("cudaMemcpy", ctypes.c_void_p(into.ctypes.data), ctypes.c_void_p(address), size, 2)


def _error(cuda: ctypes.CDLL, code: int) -> str:
    cuda.cudaGetErrorString.restype = ctypes.c_char_p
    return (cuda.cudaGetErrorString(code) or b"").decode() if code > 0 else f"CUTLASS status {-code}"


@functools.cache
def device(target: Target) -> Device:
    """The device of a target; one per process."""
    return Device(target)


class Buffer:
    """Bytes around one operand: a copy on the host of what the device has."""

    def __init__(self, operand: Operand, *, page_end: bool) -> None:
        dims, strides = harness._static(operand.dims), harness._static(operand.strides)
        size = operand.dtype.size_bytes
        extent = size * (1 + sum((d - 1) * s for d, s in zip(dims, strides, strict=True)))
        self.dtype, alignment = operand.dtype, max(operand.alignment, size)
        if page_end:
            total = -(-extent // mmap.PAGESIZE) * mmap.PAGESIZE
            self.start = (total - extent) // alignment * alignment
        else:
            self.start = _GUARD_BYTES + alignment
            total = self.start + extent + _GUARD_BYTES
        self.bytes = np.full(total, 0xFF, np.uint8)
        self._strides = [s * size for s in strides]
        self._dims = dims

    @property
    def view(self) -> np.ndarray:
        raw = self.bytes[self.start :]
        words = np.dtype(f"u{self.dtype.size_bytes}")  # NumPy makes no strided views of all 8-bit floats
        flat = raw[: len(raw) // words.itemsize * words.itemsize].view(words)
        return np.lib.stride_tricks.as_strided(flat, self._dims, self._strides).view(self.dtype.np)

    def outside(self) -> np.ndarray:
        """The bytes that are no element of the view."""
        size = self.dtype.size_bytes
        places = np.zeros(self._dims, np.int64)
        for axis, (dim, stride) in enumerate(zip(self._dims, self._strides, strict=True)):
            shape = [1] * len(self._dims)
            shape[axis] = dim
            places = places + np.arange(dim).reshape(shape) * stride
        copy = self.bytes.copy()
        copy[(self.start + places.ravel()[:, None] + np.arange(size)).ravel()] = 0
        return copy


def symbol(sources: Sequence[Source], target: Target) -> Any:
    """The function the first source defines, linked with the others."""
    device(target)
    objects = [emulator.compile_source(source, target) for source in sources]
    function = emulator.load(emulator.link(objects))[sources[0].name]
    function.restype = ctypes.c_int
    function.argtypes = [ctypes.c_void_p] * 4
    return function


def run(
    family: Family,
    spec: Spec,
    arrays: Mapping[int, np.ndarray],
    target: Target,
    *,
    ints: Sequence[int] = (),
    config: Config | None = None,
    page_end: Iterable[int] = (),
    launches: int = 1,
    is_reversed: bool = False,
) -> np.ndarray:
    """Launches the kernel and returns output 0.

    Args:
        arrays: {operand: values} of every operand after the outputs.
        ints: the `d` array.
        config: default is the family's first.
        page_end: operands to place right before an untouchable page.
        launches: how often, with the same scratch.
        is_reversed: whether the last threads of a block go first.
    """
    if not real_gpu.IS_EMULATED:
        target = real_gpu.fitting(family, spec, target, config)
    candidate = _candidate(family, spec, target, config)
    config = candidate.config
    bound, at_end = spec.bind(ints), frozenset(page_end)
    if real_gpu.COMPILES_ONLY:
        real_gpu.want(candidate)
        return np.zeros(bound.out.dims, bound.out.dtype.np)
    buffers = [Buffer(o, page_end=i in at_end) for i, o in enumerate(bound.operands)]
    for index, values in arrays.items():
        buffers[index].view[...] = values
    constants = {
        i: np.asarray(arrays[i], np.float32 if bound.operands[i].dtype.is_float else None)
        for i in spec.constants
    }
    packed = family.pack(spec, config, target, constants)
    before = [b.bytes.copy() for b in buffers]
    scratch_bytes = family.scratch_bytes(spec, config, target)
    if real_gpu.IS_EMULATED:
        launcher = symbol((candidate.source(), *candidate.units()), target)
        device(target).cuda.fake_cuda_order(int(is_reversed))
        _launch(device(target), launcher, buffers, packed, ints, scratch_bytes, launches)
    else:
        _launch_on_gpu(candidate, buffers, packed, ints, scratch_bytes, launches)
    for index, (buffer, old) in enumerate(zip(buffers, before, strict=True)):
        changed = buffer.bytes if index else buffer.outside()
        buffer.bytes, now = old, buffer.bytes
        expected = buffer.bytes if index else buffer.outside()
        buffer.bytes = now
        assert np.array_equal(changed, expected), (
            f"wrote {'outside' if not index else 'into'} operand {index}"
        )
    return buffers[0].view.copy()


def _candidate(family: Family, spec: Spec, target: Target, config: Config | None) -> Candidate:
    """What is to run."""
    rejection = family.supports(spec, target)
    assert rejection is None, rejection
    configs = family.configs(spec, target)
    config = configs[0] if config is None else config
    assert config in configs, f"{config} is not one of the family's configs"
    candidate = Candidate(spec=spec, family=family, config=config, target=target)
    assert candidate.source() == candidate.source(), "rendering is not deterministic"
    return candidate


def _launch_on_gpu(
    candidate: Candidate,
    buffers: Sequence[Buffer],
    packed: Mapping[int, np.ndarray],
    ints: Sequence[int],
    scratch_bytes: int,
    launches: int,
) -> None:
    """The same as `_launch` by the child process of a real GPU."""
    scratch = np.full(scratch_bytes + 2 * _GUARD_BYTES, 0xFF, np.uint8)
    blocks, pointers = [b.bytes for b in buffers], [(i, b.start) for i, b in enumerate(buffers)]
    for index, values in packed.items():
        pointers[index] = len(blocks), _CONSTANT_ALIGNMENT
        blocks.append(_guarded(values))
    skip = _SCRATCH_ALIGNMENT
    launch = real_gpu.Launch(
        blocks=[*blocks, scratch], pointers=pointers, scratch=(len(blocks), skip), ints=ints,
        launches=launches,
    )  # fmt: skip
    real_gpu.run(candidate, launch)
    _check_scratch(scratch, skip, scratch_bytes)


def _check_scratch(scratch: np.ndarray, skip: int, scratch_bytes: int) -> None:
    assert (scratch[:skip] == 0xFF).all() and (scratch[skip + scratch_bytes :] == 0xFF).all(), (
        f"wrote outside its {scratch_bytes} bytes of scratch"
    )


def _launch(
    gpu: Device,
    launcher: Any,
    buffers: Sequence[Buffer],
    packed: Mapping[int, np.ndarray],
    ints: Sequence[int],
    scratch_bytes: int,
    launches: int,
) -> None:
    gpu.select()
    with ExitStack() as stack:
        places = [stack.enter_context(gpu.memory(b.bytes)) for b in buffers]
        addresses = [place + b.start for place, b in zip(places, buffers, strict=True)]
        for index, values in packed.items():
            addresses[index] = stack.enter_context(gpu.memory(_guarded(values))) + _CONSTANT_ALIGNMENT
        scratch = np.full(scratch_bytes + 2 * _GUARD_BYTES, 0xFF, np.uint8)  # floats in it read as NaN
        at = stack.enter_context(gpu.memory(scratch))
        pointers = (ctypes.c_void_p * len(addresses))(*addresses)
        dims = (ctypes.c_int64 * max(1, len(ints)))(*ints)
        skip = _SCRATCH_ALIGNMENT
        for _ in range(launches):
            code = launcher(pointers, dims, at + skip, gpu.stream)
            assert code == 0, f"the launcher returned {code}: {_error(gpu.cuda, code)}"
            gpu.wait()
        for place, buffer in zip(places, buffers, strict=True):
            gpu.read(place, buffer.bytes)
        gpu.read(at, scratch)
    _check_scratch(scratch, skip, scratch_bytes)


def _guarded(packed: np.ndarray) -> np.ndarray:
    """A packed constant behind and before bytes that read as NaN."""
    assert packed.ndim == 1, "packed constants are 1-D"
    raw = np.full(packed.nbytes + 2 * _GUARD_BYTES, 0xFF, np.uint8)
    raw[_CONSTANT_ALIGNMENT : _CONSTANT_ALIGNMENT + packed.nbytes] = packed.view(np.uint8)
    return raw


def check(
    family: Family,
    spec: Spec,
    target: Target,
    *,
    config: Config | None = None,
    exact: bool = False,
    tolerance: float | None = None,
    ints: Sequence[int] = (),
    values: Mapping[int, np.ndarray] | None = None,
    page_end: Iterable[int] = (),
    launches: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Runs the kernel on random (or the given) values and asserts that output 0 is right.

    It runs twice: the second time the last threads of a block go first, and each operand ends before an
    untouchable page.

    Args:
        exact: small-integer inputs and equality after rounding the reference to the output's type; else
            normal inputs and |got - want| <= tolerance * (|want| + max |want|).
        tolerance: default is `bolt.verify.tolerance` of the output's type.
        values: {operand: values} that replace the random ones.

    The other arguments are those of `run`. Returns the kernel's output.
    """
    if not real_gpu.IS_EMULATED:
        target = real_gpu.fitting(family, spec, target, config)
    bound, rng = spec.bind(ints), np.random.default_rng(seed)
    arrays = {i: harness.random_values(o, rng, exact=exact) for i, o in enumerate(bound.operands) if i}
    arrays |= dict(values or {})
    arrays = {i: _held(bound.operands[i], a) for i, a in arrays.items()}
    asked: dict[str, Any] = {"ints": ints, "config": config, "launches": launches}
    got = run(family, spec, arrays, target, page_end=page_end, **asked)
    if real_gpu.COMPILES_ONLY:
        return got
    every = range(len(bound.operands))
    again = run(family, spec, arrays, target, page_end=every, is_reversed=True, **asked)
    seen = [_plain(arrays[i]) for i in range(1, len(bound.operands))]
    want = np.broadcast_to(bound.reference(seen)[0], got.shape)
    if tolerance is None:
        tolerance = verify.tolerance(bound.out.dtype, _TERMS, getattr(spec, "math", "f32"))
    for result in (got, again):
        compare(result, want, bound.out.dtype, tolerance=None if exact else tolerance)
    return got


def _held(operand: Operand, values: np.ndarray) -> np.ndarray:
    """What reads back of values: rows of an operand may overlap."""
    reach = 1
    steps = [(s, d) for s, d in zip(operand.strides, operand.dims, strict=True) if s and d]
    for stride, dim in sorted(steps):
        if stride < reach and dim > 1:
            buffer = Buffer(operand, page_end=False)
            buffer.view[...] = values
            return buffer.view.copy()
        reach += stride * (dim - 1)
    return values


def _plain(values: np.ndarray) -> np.ndarray:
    """Values NumPy's functions can work with: narrower floats as fp32."""
    narrow = [t.np for t in (*STORED, *EIGHT_BIT_FLOATS)]
    return values.astype(np.float32) if values.dtype in narrow else values


def stored(values: np.ndarray, dtype: DType) -> np.ndarray:
    """What the type makes of fp32 or fp64 values: 16-bit floats clamp finite ones, 8-bit floats all."""
    if dtype in LARGEST:
        values = within(values, dtype)
    return _plain(values.astype(dtype.np))


def compare(got: np.ndarray, want: np.ndarray, dtype: DType, *, tolerance: float | None) -> None:
    """Asserts equality (`tolerance` None), or closeness as `check` defines it; NaN and inf must match."""
    with np.errstate(over="ignore", invalid="ignore"):
        want = stored(want, dtype)
    got = _plain(got)
    if tolerance is None or not dtype.is_float:
        wrong = ~((got == want) | ((got != got) & (want != want)))
    else:
        finite = np.isfinite(want)
        scale = np.abs(want[finite]).max() if finite.any() else 0.0
        with np.errstate(invalid="ignore"):
            close = np.abs(got - want) <= tolerance * (np.abs(want) + scale)
        wrong = ~np.where(finite, close, (got == want) | ((got != got) & (want != want)))
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} elements differ; "
            f"first at {first}: got {got[first]!r}, want {want[first]!r}"
        )
