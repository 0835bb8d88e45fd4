"""Long rows instead of short ones for pointwise kernels: fewer lanes of a vector are idle.

An image of 8 channels with one number per channel beside it,

    y[i, c] = f(x[i, c], b[c]),     i < N, c < 8

is N rows of half a vector. With b written 64 times in a row it is N / 64 rows of 512 elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bolt.graph.memory import Memory
from bolt.program import View

SHORT = 16
"""Rows of fewer elements are made longer."""
_LONG = 512
_LEAST_ELEMENTS = 1 << 14
"""A smaller kernel gains less than a further copy costs."""


def lengthened(low: Memory, views: Sequence[View]) -> Sequence[View]:
    """`views` (of equal dims, the last two being rows and their elements) with as many rows joined as fit."""
    joined = _joined(views)
    if joined < 2:
        return views
    return [_lengthened(low, view, joined) for view in views]


def _joined(views: Sequence[View]) -> int:
    """How many rows become one: the most that divide the rows, preferably to a multiple of 16 elements."""
    if len(views[0].dims) < 2:
        return 1
    rows, length = views[0].dims[-2:]
    if not isinstance(rows, int) or not isinstance(length, int) or length >= SHORT:
        return 1
    if rows * length < _LEAST_ELEMENTS or not all(_is_dense(v) or _is_repeated(v) for v in views):
        return 1
    fit = [r for r in range(1, _LONG // length + 1) if rows % r == 0]
    return max(fit, key=lambda r: (r * length % 16 == 0, r))


def _is_dense(view: View) -> bool:
    return view.strides[-2:] == (view.dims[-1], 1)


def _is_repeated(view: View) -> bool:
    return view.strides[-2] == 0 and view.strides[-1] in (0, 1)


def _lengthened(low: Memory, view: View, joined: int) -> View:
    *outer, rows, length = view.dims
    assert isinstance(rows, int) and isinstance(length, int)
    dims = (*outer, rows // joined, joined * length)
    if _is_dense(view):
        return replace(view, dims=dims, strides=(*view.strides[:-2], joined * length, 1), halo=())
    if view.strides[-1] == 0:
        return replace(view, dims=dims, halo=())
    found = _written_out(low, view, joined)
    return replace(found, dims=dims, strides=(*found.strides[:-2], 0, 1), halo=())


def _written_out(low: Memory, view: View, joined: int) -> View:
    """One row of `view` for each of the outer dims, written `joined` times: (outer..., joined, length)."""
    length = view.dims[-1]
    array = low.constants.get(view.buffer.name)
    if array is not None and array.size == length and not any(view.strides[:-1]):
        flat = low.const(np.tile(array.reshape(-1), joined))
        return replace(flat, dims=(*view.dims[:-2], joined, length), strides=(*view.strides[:-2], length, 1))
    outer = tuple(1 if s == 0 else d for d, s in zip(view.dims[:-2], view.strides[:-2], strict=True))
    source = replace(view, dims=(*outer, joined, length), halo=())
    target = low.temp(low.kept_as(view), source.dims)
    low.copy(source, target)
    steps = (0 if d == 1 else s for d, s in zip(outer, target.strides[:-2], strict=True))
    return replace(target, strides=(*steps, *target.strides[-2:]))
