"""Running a compiled module from Python: tuning, tests and A/B, without ONNX Runtime.

The ctypes twin of `templates/include/bolt/module_abi.h`.
"""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bolt import types
from bolt.errors import ModelError, ModuleError
from bolt.module.host import I32, I64, PTR, U64, HostStruct, aligned, library_path, open_library, pool
from bolt.types import DType

ABI_VERSION = 1
_ERROR_BYTES = 1024
_ALIGNMENT = 64


class _ValueInfo(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("dtype", I32), ("rank", I32), ("dims", ctypes.POINTER(I64)))


class _Tensor(ctypes.Structure):
    _fields_ = (("data", PTR), ("dims", PTR), ("rank", I32), ("dtype", I32))


_ERROR = [ctypes.c_char_p, ctypes.c_size_t]
_Create = ctypes.CFUNCTYPE(I32, PTR, ctypes.POINTER(PTR), *_ERROR)
_Destroy = ctypes.CFUNCTYPE(None, PTR)
_Infer = ctypes.CFUNCTYPE(I32, PTR, PTR, PTR, I32, ctypes.POINTER(U64), *_ERROR)


class _Table(ctypes.Structure):
    _fields_ = (
        ("abi_version", ctypes.c_uint32),
        ("target", ctypes.c_char_p),
        ("weights_sha256", ctypes.c_char_p),
        ("weights_bytes", U64),
        ("input_count", I32),
        ("output_count", I32),
        ("inputs", ctypes.POINTER(_ValueInfo)),
        ("outputs", ctypes.POINTER(_ValueInfo)),
        ("create", _Create),
        ("destroy", _Destroy),
        ("infer", _Infer),
        ("run", PTR),
        ("step_count", I32),
        ("step_names", ctypes.POINTER(ctypes.c_char_p)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output of a module; a dim is None where it is known at run time only."""

    name: str
    dtype: DType
    dims: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What a module says about one set of input dims.

    Attributes:
        dims: of each output.
        workspace_bytes: memory that `run` will ask for.
    """

    dims: tuple[tuple[int, ...], ...]
    workspace_bytes: int


def load(
    path: str | Path,
    weights: np.ndarray | None = None,
    *,
    cache_root: Path | None = None,
    compiler: str | None = None,
) -> Module:
    """Opens the module at `path`.

    Args:
        weights: the bytes the module was packed with, as any contiguous array; None for none.
        cache_root: where the native helper library is kept; None is the user's cache folder.
        compiler: what builds that library when the cache has none; None looks for one.

    Raises:
        ModuleError: it is no module, has another ABI version, or its weights do not fit.
    """
    return Module(Path(path), weights, open_library(library_path(cache_root, compiler)))


class Module:
    """A loaded module.

    Attributes:
        path: its shared library.
        target: name of the target it was compiled for.
        inputs: what `run` takes.
        outputs: what `run` returns.
    """

    def __init__(self, path: Path, weights: np.ndarray | None, native: ctypes.CDLL) -> None:
        self.path, self._native = path, native
        self._handle: int | None = None
        self._library, self._table = _open(path)
        self.target = self._table.target.decode()
        self.inputs = _values(self._table.inputs, self._table.input_count, path)
        self.outputs = _values(self._table.outputs, self._table.output_count, path)
        self._weights = _checked_weights(self._table, weights, path)
        self._workspaces: list[np.ndarray] = []
        handle = PTR()
        self._checked(self._table.create, _address(self._weights), ctypes.byref(handle))
        self._handle = handle.value

    def infer(self, dims: Sequence[Sequence[int]], *, threads: int = 1) -> Inferred:
        """Output dims and workspace for the dims of each input.

        Raises:
            ModelError: the dims do not fit the inputs.
            ModuleError: the module refuses them.
        """
        self._check_dims(dims)
        given = [_int64s(d) for d in dims]
        found = [_int64s([0] * len(value.dims)) for value in self.outputs]
        workspace = U64()
        self._checked(
            self._table.infer,
            self._handle,
            _addresses(given),
            _addresses(found),
            threads,
            ctypes.byref(workspace),
        )
        return Inferred(dims=tuple(tuple(map(int, d)) for d in found), workspace_bytes=workspace.value)

    def run(self, arrays: Sequence[np.ndarray], *, threads: int = 1) -> list[np.ndarray]:
        """The outputs for `arrays` (one per input).

        Raises:
            ModelError: an array does not fit its input.
            ModuleError: the run failed.
        """
        outputs, _ = self._run(arrays, threads, 1)
        return outputs

    def time_us(self, arrays: Sequence[np.ndarray], *, threads: int = 1, rounds: int = 10) -> np.ndarray:
        """Microseconds of each of `rounds` runs, one after the other."""
        _, us = self._run(arrays, threads, rounds)
        return us

    def profile(
        self, arrays: Sequence[np.ndarray], *, threads: int = 1, rounds: int = 10
    ) -> list[tuple[str, float]]:
        """(name, microseconds) of each step of a run: the shortest of `rounds` runs."""
        names = [self._table.step_names[i].decode() for i in range(self._table.step_count)]
        us = np.full(len(names) or 1, np.inf)
        self._run(arrays, threads, rounds, us)
        return list(zip(names, us.tolist(), strict=False))

    def close(self) -> None:
        """Destroys the module and unloads its library."""
        if self._handle is not None:
            self._table.destroy(self._handle)
            self._handle = None
            _ctypes.dlclose(self._library._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(
        self,
        arrays: Sequence[np.ndarray],
        threads: int,
        rounds: int,
        step_us: np.ndarray | None = None,
    ) -> tuple[list[np.ndarray], np.ndarray]:
        inputs = self._check_arrays(arrays)
        inferred = self.infer([a.shape for a in inputs], threads=threads)
        outputs = [np.empty(d, v.dtype.np) for d, v in zip(inferred.dims, self.outputs, strict=True)]
        input_dims, output_dims = [_int64s(a.shape) for a in inputs], [_int64s(a.shape) for a in outputs]
        tensors = (_Tensor * max(1, len(inputs)))(
            *(
                _Tensor(_address(a), _address(d), a.ndim, v.dtype.onnx)
                for a, d, v in zip(inputs, input_dims, self.inputs, strict=True)
            )
        )
        workspace, us = self._take_workspace(inferred.workspace_bytes), np.zeros(rounds)
        ranks, pointers, dims = (
            (I32 * len(outputs))(*(a.ndim for a in outputs)),
            _addresses(outputs),
            _addresses(output_dims),
        )
        host = HostStruct(
            pool(self._native, threads).handle, _address(workspace), workspace.nbytes, len(outputs),
            ctypes.addressof(pointers), ctypes.addressof(dims), ctypes.addressof(ranks),
            None if step_us is None else _address(step_us),
        )  # fmt: skip
        self._checked(
            self._native.bolt_host_run, ctypes.addressof(self._table), self._handle,
            ctypes.addressof(tensors), ctypes.addressof(host), threads, rounds, _address(us),
        )  # fmt: skip
        self._workspaces.append(workspace)
        return outputs, us

    def _take_workspace(self, bytes_: int) -> np.ndarray:
        """A free workspace that is large enough; several runs may be under way at the same time."""
        while self._workspaces:
            try:
                workspace = self._workspaces.pop()
            except IndexError:
                break  # another thread took the last one
            if workspace.nbytes >= bytes_:
                return workspace
        return aligned(bytes_)

    def _check_arrays(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if len(arrays) != len(self.inputs):
            raise ModelError(f"{self.path.name} takes {len(self.inputs)} inputs, {len(arrays)} were given")
        for array, value in zip(arrays, self.inputs, strict=True):
            if array.dtype != value.dtype.np:
                raise ModelError(
                    f"input {value.name!r} is {value.dtype.np}, the array given is {array.dtype}"
                )
        return [np.asarray(a, order="C") for a in arrays]

    def _check_dims(self, dims: Sequence[Sequence[int]]) -> None:
        for given, value in zip(dims, self.inputs, strict=True):
            fits = len(given) == len(value.dims) and all(
                w in (None, g) for g, w in zip(given, value.dims, strict=True)
            )
            if not fits:
                wanted = ", ".join("?" if d is None else str(d) for d in value.dims)
                raise ModelError(
                    f"input {value.name!r} has dims ({wanted}), the dims given are {tuple(given)}"
                )

    def _checked(self, function: Any, *arguments: Any) -> None:
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        if status := function(*arguments, error, _ERROR_BYTES):
            said = error.value.decode(errors="replace") or f"status {status} without a message"
            raise ModuleError(f"the module {self.path.name} failed: {said}")


def _open(path: Path) -> tuple[ctypes.CDLL, _Table]:
    try:
        library = ctypes.CDLL(str(path.absolute()))
        entry = library.bolt_module
    except (OSError, AttributeError) as error:
        raise ModuleError(f"{path} can't be loaded as a bolt module ({error}); build it again") from error
    entry.restype = ctypes.POINTER(_Table)
    table = entry().contents
    if table.abi_version != ABI_VERSION:
        raise ModuleError(
            f"{path} has module ABI {table.abi_version}, this bolt has {ABI_VERSION}; build it again"
        )
    return library, table


def _values(infos: Any, count: int, path: Path) -> tuple[Value, ...]:
    return tuple(_value(infos[i], path) for i in range(count))


def _value(info: _ValueInfo, path: Path) -> Value:
    dtype, name = types.from_onnx(info.dtype), info.name.decode()
    if dtype is None:
        raise ModuleError(f"{path}: {name!r} has ONNX type {info.dtype}, which bolt does not have")
    dims = tuple(None if info.dims[i] < 0 else int(info.dims[i]) for i in range(info.rank))
    return Value(name=name, dtype=dtype, dims=dims)


def _checked_weights(table: _Table, weights: np.ndarray | None, path: Path) -> np.ndarray:
    """The weights as 64-byte-aligned bytes."""
    flat = (
        np.empty(0, np.uint8) if weights is None else np.ascontiguousarray(weights).reshape(-1).view(np.uint8)
    )
    if flat.nbytes != table.weights_bytes:
        raise ModuleError(f"{path} needs {table.weights_bytes} bytes of weights, {flat.nbytes} were given")
    expected = (table.weights_sha256 or b"").decode()
    if expected and hashlib.sha256(flat.data).hexdigest() != expected:
        raise ModuleError(f"the weights given are not those {path} was built with; build it again")
    if flat.nbytes and flat.ctypes.data % _ALIGNMENT:
        copy = aligned(flat.nbytes)
        copy[:] = flat
        return copy
    return flat


def _int64s(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int64)


def _address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def _addresses(arrays: Sequence[np.ndarray]) -> Any:
    return (PTR * max(1, len(arrays)))(*(_address(a) for a in arrays))
