"""Inputs for running a model from the command line: files, or random values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bolt.errors import ModelError

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(uint16)": "uint16",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An input of a session.

    Attributes:
        name: of the input.
        dtype: NumPy's name of its type.
        dims: a number, or the name of an open dim ("" for a nameless one).
    """

    name: str
    dtype: str
    dims: tuple[int | str, ...]


def wanted(session: Any) -> tuple[Wanted, ...]:
    """The inputs of an ONNX Runtime session.

    Raises:
        ModelError: an input is not a tensor of numbers.
    """
    return tuple(_wanted(node) for node in session.get_inputs())


def read(
    texts: Sequence[str], inputs: Sequence[Wanted], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """The value of each input.

    Args:
        texts: `file.npz`, `name=file.npy` or `random`; what they do not give is random.
        inputs: what the model takes.
        shapes: dims of random inputs, by the input's name, or (size,) by the name of an open dim; an open dim
            of which nothing is said is 1.

    Raises:
        ModelError: a file can't be read, or holds something that is no input, or one of another type or dims.
    """
    given: dict[str, np.ndarray] = {}
    for text in texts:
        given |= _read(text)
    unknown = sorted(set(given) - {w.name for w in inputs})
    if unknown:
        names = ", ".join(w.name for w in inputs)
        raise ModelError(f"the model has no input {unknown[0]!r}; its inputs are {names}")
    for w in inputs:
        if w.name in given:
            _check(w, given[w.name])
    rng = np.random.default_rng(0)
    return {w.name: given[w.name] if w.name in given else _random(w, shapes, rng) for w in inputs}


def _wanted(node: Any) -> Wanted:
    if node.type not in _DTYPES:
        raise ModelError(f"input {node.name!r} is a {node.type}; the command line can't make one")
    dims = tuple(d if isinstance(d, (int, str)) else "" for d in node.shape)
    return Wanted(name=node.name, dtype=_DTYPES[node.type], dims=dims)


def _read(text: str) -> dict[str, np.ndarray]:
    if text == "random":
        return {}
    name, _, file = text.rpartition("=")
    path = Path(file)
    try:
        if name:
            return {name: np.load(path, allow_pickle=False)}
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile) as error:
        raise ModelError(
            f"{text!r} can't be read as input ({error}); give x.npz, name=x.npy or random"
        ) from error


def _check(w: Wanted, array: np.ndarray) -> None:
    pairs = zip(w.dims, array.shape, strict=False)
    same_rank = len(w.dims) == array.ndim or not w.dims  # no dims: a scalar, or nothing is known
    fits = same_rank and all(isinstance(d, str) or d == size for d, size in pairs)
    if not fits or str(array.dtype) != w.dtype:
        dims = ", ".join(str(d or "?") for d in w.dims)
        raise ModelError(
            f"input {w.name!r} has to be {w.dtype} ({dims}), the file holds {array.dtype} {array.shape}"
        )


def _random(w: Wanted, shapes: Mapping[str, Sequence[int]], rng: np.random.Generator) -> np.ndarray:
    named = {name: dims[0] for name, dims in shapes.items() if len(dims) == 1}
    shape = tuple(d if isinstance(d, int) else named.get(d, 1) for d in w.dims)
    if w.name in shapes and w.dims:
        shape = tuple(shapes[w.name])
        if len(shape) != len(w.dims) or any(
            isinstance(d, int) and d != size for d, size in zip(w.dims, shape, strict=True)
        ):
            dims = ", ".join(str(d or "?") for d in w.dims)
            raise ModelError(f"input {w.name!r} has dims ({dims}), the shape given is {shape}")
    dtype = np.dtype(w.dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
