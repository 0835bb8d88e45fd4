"""Sample sizes for a model's symbolic dims: what tuning, verification and A/B run with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.errors import ModelError
from bolt.graph.shapes import Shapes

BATCH = (1,)
IMAGE = (224, 320, 640, 48, 64, 128, 32, 96, 256, 512)
SEQUENCE = (128, 64, 100, 32, 16, 256, 8, 1)
"""Sizes tried, best first, for the first dim, dims of images, and other dims."""

_ATTEMPTS = 4000
_MOST_ELEMENTS = 1 << 28


def sample(model: ir.Model, shapes: Shapes, given: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """A value for every symbol of the model's inputs.

    Args:
        given: sizes the user stated: {input name: all its dims} or {symbol: (size,)}.

    Raises:
        ModelError: a stated size does not fit the model, or no size was found that satisfies it.
    """
    fixed = _stated(model, shapes, given)
    choices: dict[str, Sequence[int]] = {}
    for value in model.graph.inputs:
        dims = shapes.dims(value) or ()
        for axis, d in enumerate(dims):
            for name in D.symbols([d]):
                choices.setdefault(name, _typical(axis, len(dims)))
    names = list(choices)
    options = [(fixed[n],) if n in fixed else choices[n] for n in names]
    conditions = _conditions(shapes)
    for values in itertools.islice(itertools.product(*options), _ATTEMPTS):
        bindings = dict(zip(names, values, strict=True))
        if all(_holds(a, b, bindings) for a, b in conditions):
            return bindings
    raise ModelError(
        f"no sizes were found that fit the model's dynamic dims {', '.join(names)}; "
        "state typical ones, e.g. --shape input=1,3,48,320"
    )


def _typical(axis: int, rank: int) -> Sequence[int]:
    if axis == 0:
        return BATCH
    return IMAGE if rank == 4 else SEQUENCE


def _stated(model: ir.Model, shapes: Shapes, given: Mapping[str, Sequence[int]]) -> dict[str, int]:
    inputs = {v.name: v for v in model.graph.inputs}
    fixed: dict[str, int] = {}
    known = set(D.symbols(d for v in model.graph.inputs for d in shapes.dims(v) or ()))
    for name, sizes in given.items():
        if name in inputs:
            fixed |= _input_sizes(name, shapes.dims(inputs[name]) or (), sizes)
        elif name in known and len(sizes) == 1:
            fixed[name] = sizes[0]
        else:
            raise ModelError(
                f"the model has no input or dynamic dim {name!r}; it has inputs {', '.join(map(str, inputs))}"
                + (f" and dims {', '.join(sorted(known))}" if known else "")
            )
    return fixed


def _input_sizes(name: str, dims: Sequence[Dim], sizes: Sequence[int]) -> dict[str, int]:
    wanted = ", ".join(str(d) for d in dims)
    if len(dims) != len(sizes):
        raise ModelError(f"input {name!r} has dims ({wanted}), the shape given is {tuple(sizes)}")
    fixed = {}
    for d, size in zip(dims, sizes, strict=True):
        if isinstance(d, int):
            if d != size:
                raise ModelError(f"input {name!r} has dims ({wanted}), the shape given is {tuple(sizes)}")
        elif d.is_Symbol:
            fixed[d.name] = size
    return fixed


def _conditions(shapes: Shapes) -> list[tuple[Dim, Dim]]:
    return [pair for pairs in shapes.assumptions.values() for pair in pairs]


def _holds(a: Dim, b: Dim, bindings: Mapping[str, int]) -> bool:
    """Whether the two are equal; what depends on data is not judged."""
    if not set(D.symbols([a, b])) <= set(bindings):
        return True
    return D.evaluate(a, bindings) == D.evaluate(b, bindings)


def feed(
    model: ir.Model, shapes: Shapes, bindings: Mapping[str, int], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random inputs: fp32 from the unit normal distribution, integers and booleans from {0, 1}."""
    rng = np.random.default_rng(seed)
    out = {}
    for value in model.graph.inputs:
        assert value.name is not None
        dims = tuple(D.evaluate(d, bindings) for d in shapes.dims(value) or ())
        out[value.name] = _random(value, dims, rng)
    return out


def _random(value: ir.Value, dims: Iterable[int], rng: np.random.Generator) -> np.ndarray:
    dtype = value.dtype
    if dtype is None or dtype == ir.DataType.STRING:
        raise ModelError(f"input {value.name!r} has type {dtype}; bolt makes no samples of it")
    shape = tuple(dims)
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ModelError(
            f"a sample of input {value.name!r} would be {shape}, too large to try; "
            "state smaller sizes with --shape, or export the model with usual ones"
        )
    if dtype.numpy().kind == "f":
        return rng.standard_normal(shape).astype(dtype.numpy())
    return rng.integers(0, 2, shape).astype(dtype.numpy())
