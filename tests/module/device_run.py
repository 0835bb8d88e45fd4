"""Runs the module of a whole program on the emulated GPU (tests/cuda)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cuda import emulator
from kernels.cuda_harness import Device, device

from bolt import dims as D
from bolt.kernels.family import Candidate
from bolt.module.load import _Table, _Tensor
from bolt.module.plan import plan
from bolt.module.render import render_module
from bolt.program import Program, Step
from bolt.search.candidates import enumerate_candidates
from bolt.target import Target

_ERROR_BYTES = 512
_GUARD = 4096
_CALLERS_ALIGNMENT = 16
"""Bytes of whose odd multiples inputs and outputs start: what a module asks of its caller, and no more."""

_ALLOCATORS_ALIGNMENT = 256
"""The same for weights and workspace, which the provider allocates."""

_Workspace = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Output = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)
_Run = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
)


class _Context(ctypes.Structure):
    _fields_ = (
        ("host", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("parallel_for", ctypes.c_void_p),
        ("workspace", _Workspace),
        ("output", _Output),
        ("stream", ctypes.c_void_p),
        ("tick", ctypes.c_void_p),
    )


def picks(program: Program, target: Target, sizes: Mapping[str, int]) -> dict[str, Candidate]:
    """The analytic pick for each spec."""
    found: dict[str, Candidate] = {}
    for step in program.steps:
        if isinstance(step, Step) and step.spec.key not in found:
            ints = [D.evaluate(i, sizes) for i in step.ints()]
            found[step.spec.key] = enumerate_candidates(step.spec, target, ints=ints).candidates[0]
    return found


def built(program: Program, target: Target, sizes: Mapping[str, int]) -> tuple[Path, np.ndarray]:
    """The module of the kernels that would ship, and its weights."""
    chosen = picks(program, target, sizes)
    rendered = render_module(program, plan(program, sizes, in_place=False), chosen, target, sizes)
    quiet = '#pragma GCC diagnostic ignored "-Wunused-variable"\n'  # a size may be stated and not needed
    sources = [replace(rendered.source, text=quiet + rendered.source.text), *rendered.further]
    for candidate in chosen.values():
        sources += [candidate.source(), *candidate.units()]
    unique = {source.name: source for source in sources}
    path = emulator.link(emulator.compile_source(s, target) for s in unique.values())
    return path, rendered.weights


def run(
    program: Program,
    inputs: Sequence[np.ndarray],
    target: Target,
    sizes: Mapping[str, int],
    *,
    orders: Sequence[bool] = (False, True),
) -> list[np.ndarray]:
    """The program's outputs, computed by the kernels that would ship.

    They are computed once for each of `orders`, in a workspace that holds what the run before left there.

    Args:
        orders: whether the last threads of a block go first.
    """
    path, weights = built(program, target, sizes)
    library = emulator.load(path)
    library.bolt_module.restype = ctypes.POINTER(_Table)
    with _Session(library.bolt_module().contents, weights, device(target)) as session:
        return session.run(inputs, orders)


class _Session:
    """A module with its weights in device memory."""

    def __init__(self, table: _Table, weights: np.ndarray, gpu: Device) -> None:
        self.table, self.weights, self.gpu = table, weights, gpu
        self.handle = ctypes.c_void_p()
        self.stack = ExitStack()

    def __enter__(self) -> _Session:
        self.gpu.select()
        at = self.stack.enter_context(_guarded(self.gpu, self.weights, _ALLOCATORS_ALIGNMENT, is_read=True))
        self._do(self.table.create, at, ctypes.byref(self.handle))
        return self

    def __exit__(self, *exception: object) -> None:
        self.table.destroy(self.handle)
        self.stack.close()

    def run(self, inputs: Sequence[np.ndarray], orders: Sequence[bool]) -> list[np.ndarray]:
        arrays = [np.ascontiguousarray(a) for a in inputs]
        shapes = [np.array(a.shape or (1,), np.int64) for a in arrays]
        found = [
            np.zeros(max(1, self.table.outputs[i].rank), np.int64) for i in range(self.table.output_count)
        ]
        bytes_ = ctypes.c_uint64()
        self._do(self.table.infer, self.handle, _list(shapes), _list(found), 1, ctypes.byref(bytes_))
        outputs = [
            np.empty(tuple(d[: self.table.outputs[i].rank]), _numpy(self.table.outputs[i].dtype))
            for i, d in enumerate(found)
        ]
        with ExitStack() as stack:

            def memory(array: np.ndarray, **how: Any) -> int:
                return stack.enter_context(_guarded(self.gpu, array, **how))

            tensors = (_Tensor * max(1, len(arrays)))(
                *(
                    _Tensor(memory(a, is_read=True), d.ctypes.data, a.ndim, self.table.inputs[i].dtype)
                    for i, (a, d) in enumerate(zip(arrays, shapes, strict=True))
                )
            )
            places = [memory(a) for a in outputs]
            clean = np.full(max(1, bytes_.value), 0xFF, np.uint8)  # floats in it read as NaN
            workspace = memory(clean, alignment=_ALLOCATORS_ALIGNMENT)
            context = _Context(
                threads=1,
                workspace=_Workspace(lambda _, size: workspace if size <= bytes_.value else None),
                output=_Output(lambda _, index, dims, rank: places[index]),
                stream=self.gpu.stream,
            )
            run = ctypes.cast(self.table.run, _Run)
            results = []
            for is_reversed in orders:
                self.gpu.cuda.fake_cuda_order(int(is_reversed))
                self._do(run, self.handle, ctypes.byref(tensors), ctypes.byref(context))
                self.gpu.wait()
                results.append(
                    [self._taken(place, array) for place, array in zip(places, outputs, strict=True)]
                )
            self.gpu.cuda.fake_cuda_order(0)
        for other in results[1:]:
            for one, two in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(one, two, "the order of threads or an old workspace matters")
        return results[0]

    def _taken(self, place: int, like: np.ndarray) -> np.ndarray:
        """The output at `place`, where nothing valid is left."""
        result = np.empty_like(like)
        self.gpu.read(place, result)
        self.gpu.write(place, np.full(like.nbytes, 0xFF, np.uint8))
        return result

    def _do(self, function: Any, *arguments: Any) -> None:
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        status = function(*arguments, error, _ERROR_BYTES)
        assert status == 0, error.value.decode()


@contextmanager
def _guarded(
    gpu: Device, array: np.ndarray, alignment: int = _CALLERS_ALIGNMENT, *, is_read: bool = False
) -> Iterator[int]:
    """Device memory with the array between zones that must stay as they are.

    Args:
        alignment: of the array.
        is_read: whether the array must stay as it is, too.
    """
    start = _GUARD + alignment
    raw = np.full(start + array.nbytes + _GUARD, 0xFF, np.uint8)
    raw[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    with gpu.memory(raw) as at:
        yield at + start
        after = np.empty_like(raw)
        gpu.read(at, after)
        same = after == raw
        assert same[:start].all() and same[start + array.nbytes :].all(), (
            "a kernel wrote outside the memory it was given"
        )
        assert not is_read or same.all(), "a kernel wrote into an input or a constant"


def _list(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))


def _numpy(code: int) -> np.dtype:
    from bolt.types import from_onnx

    dtype = from_onnx(code)
    assert dtype is not None
    return dtype.np
