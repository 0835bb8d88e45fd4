"""Shape rules of operators that move, cut, join or make data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.dims import Dim
from bolt.graph import bounds
from bolt.graph.rules_pointwise import Rule, elementwise
from bolt.graph.site import CONTENT_LIMIT, Fact, Site, Unknown, content_of, normalize, objects, product

_FAR = 1 << 31
"""Slice ends at or beyond this mean "to the end"."""


def _known(extents: tuple[Dim, ...]) -> tuple[int, ...] | None:
    return tuple(int(d) for d in extents) if dims.is_static(*extents) else None


def shape(site: Site) -> list[Fact]:
    extents = site.dims()[slice(site.attr("start"), site.attr("end"))]
    return [Fact((len(extents),), ir.DataType.INT64, objects(extents, (len(extents),)))]


def size(site: Site) -> list[Fact]:
    return [Fact((), ir.DataType.INT64, objects([product(site.dims())], ()))]


def _cancel(inside: list[Dim], target: list[Dim]) -> tuple[list[Dim], list[Dim]]:
    """Both lists without the factors they share, so that most quotients need no algebra."""
    rest, left = list(inside), []
    for extent in target:
        match = next((i for i, d in enumerate(rest) if d == extent), None)
        if match is None:
            left.append(extent)
        else:
            del rest[match]
    return rest, left


def reshape(site: Site) -> list[Fact]:
    extents = site.dims()
    target = site.extents(1, "shape")
    keep_zero = bool(site.attr("allowzero", 0))
    out: list[Dim] = []
    for axis, extent in enumerate(target):
        if extent == 0 and not keep_zero:
            if axis >= len(extents):
                raise Unknown
            extent = extents[axis]
        out.append(extent)
    return [Fact(tuple(_fill(site, extents, out)), site.dtype(), _reshaped(site, out))]


def _fill(site: Site, extents: tuple[Dim, ...], out: list[Dim]) -> list[Dim]:
    """`out` with its -1 replaced; without one, both sides must have the same number of elements."""
    open_axes = [i for i, d in enumerate(out) if d == -1]
    if len(open_axes) > 1:
        raise Unknown
    inside, target = _cancel(list(extents), [d for d in out if d != -1])
    if not open_axes:
        site.same(product(tuple(inside)), product(tuple(target)))
        return out
    divisor = product(tuple(target))
    if divisor == 0:
        raise Unknown
    quotient = bounds.floordiv(product(tuple(inside)), divisor)
    if not bounds.equal(dims.mul(quotient, divisor), product(tuple(inside))):
        site.assumed.append((dims.mul(quotient, divisor), product(tuple(inside))))
    out[open_axes[0]] = quotient
    return out


def _reshaped(site: Site, out: list[Dim]) -> np.ndarray | None:
    content = site.try_content(0)
    known = _known(tuple(out))
    if content is None or known is None or (math.prod(known) != content.size and -1 not in known):
        return None
    return content.reshape(known)


def flatten(site: Site) -> list[Fact]:
    extents = site.dims()
    axis = int(site.attr("axis", 1))
    axis = axis + len(extents) if axis < 0 else axis
    return [Fact((product(extents[:axis]), product(extents[axis:])), site.dtype())]


def transpose(site: Site) -> list[Fact]:
    extents = site.dims()
    order = [int(p) for p in site.attr("perm") or reversed(range(len(extents)))]
    if sorted(order) != list(range(len(extents))):
        raise Unknown
    content = site.try_content(0)
    moved = None if content is None else content.transpose(order)
    return [Fact(tuple(extents[p] for p in order), site.dtype(), moved)]


def squeeze(site: Site) -> list[Fact]:
    extents = site.dims()
    axes = {normalize(a, len(extents)) for a in site.ints(1, "axes", default=())}
    if not axes:
        if not dims.is_static(*extents):
            raise Unknown
        axes = {i for i, d in enumerate(extents) if d == 1}
    out = tuple(d for i, d in enumerate(extents) if i not in axes)
    return [Fact(out, site.dtype(), _same_elements(site, out))]


def unsqueeze(site: Site) -> list[Fact]:
    extents = list(site.dims())
    axes = site.ints(1, "axes")
    rank = len(extents) + len(axes)
    for axis in sorted(normalize(a, rank) for a in axes):
        extents.insert(axis, 1)
    out = tuple(extents)
    return [Fact(out, site.dtype(), _same_elements(site, out))]


def _same_elements(site: Site, out: tuple[Dim, ...]) -> np.ndarray | None:
    content, known = site.try_content(0), _known(out)
    return None if content is None or known is None else content.reshape(known)


def concat(site: Site) -> list[Fact]:
    count = len(site.node.inputs)
    out = list(site.dims())
    axis = site.axis(default=1)
    for index in range(1, count):
        for i, extent in enumerate(site.dims(index)):
            out[i] = dims.add(out[i], extent) if i == axis else site.same(out[i], extent)
    contents = [site.try_content(i) for i in range(count)]
    joined = None
    if all(c is not None for c in contents):
        joined = np.concatenate([c for c in contents if c is not None], axis=axis)
    return [
        Fact(tuple(out), site.dtype(), joined if joined is None or joined.size <= CONTENT_LIMIT else None)
    ]


def split(site: Site) -> list[Fact]:
    extents, count = site.dims(), len(site.node.outputs)
    axis = site.axis()
    given = "split" in site.node.attributes or site.has(1)
    parts = site.extents(1, "split") if given else _equal_parts(extents[axis], count)
    content, facts, start = site.try_content(0), [], 0
    for part in parts[:count]:
        piece = None
        if content is not None and dims.is_static(*parts):
            piece = np.take(content, range(start, start + int(part)), axis=axis)
            start += int(part)
        facts.append(Fact((*extents[:axis], part, *extents[axis + 1 :]), site.dtype(), piece))
    return facts


def _equal_parts(extent: Dim, count: int) -> list[Dim]:
    """Opset 18 lets the last part be smaller; before that the parts are equal."""
    chunk = bounds.ceildiv(extent, count)
    return [chunk] * (count - 1) + [dims.sub(extent, dims.mul(chunk, count - 1))]


def _clamped(position: Dim, extent: Dim, low: int, high: int) -> Dim:
    """A slice position counted from the front and clamped to [low, extent + high]."""
    if isinstance(position, int) and abs(position) >= _FAR - 1:
        return low if position < 0 else dims.add(extent, high)
    if bounds.upper(position) < 0:
        position = dims.add(position, extent)
    elif bounds.lower(position) < 0:
        raise Unknown
    return bounds.minimum(bounds.maximum(position, low), dims.add(extent, high))


def _sliced(extent: Dim, start: Dim, end: Dim, step: int) -> Dim:
    if step > 0:
        span = dims.sub(_clamped(end, extent, 0, 0), _clamped(start, extent, 0, 0))
    else:
        span = dims.sub(_clamped(start, extent, -1, -1), _clamped(end, extent, -1, -1))
    return bounds.maximum(bounds.ceildiv(span, abs(step)), 0)


def slice_(site: Site) -> list[Fact]:
    out = list(site.dims())
    starts, ends = site.extents(1, "starts"), site.extents(2, "ends")
    axes = site.ints(3, "axes", default=tuple(range(len(starts))))
    steps = site.ints(4, None, default=(1,) * len(starts))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = normalize(axis, len(out))
        out[at] = _sliced(out[at], start, end, step)
    return [Fact(tuple(out), site.dtype(), _cut(site, starts, ends, axes, steps))]


def _cut(site: Site, starts: list[Dim], ends: list[Dim], axes: Any, steps: Any) -> np.ndarray | None:
    content = site.try_content(0)
    if content is None or not dims.is_static(*starts, *ends):
        return None
    index: list[slice] = [slice(None)] * content.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -content.shape[axis] else int(end)
        index[axis] = slice(int(start), stop, step)
    return content[tuple(index)]


def expand(site: Site) -> list[Fact]:
    out = site.broadcast(site.dims(), list(site.content(1).reshape(-1)))
    content, known = site.try_content(0), _known(out)
    wide = None
    if content is not None and known is not None and math.prod(known) <= CONTENT_LIMIT:
        wide = np.broadcast_to(content, known)
    return [Fact(out, site.dtype(), wide)]


def tile(site: Site) -> list[Fact]:
    extents, repeats = site.dims(), list(site.content(1).reshape(-1))
    out = tuple(dims.mul(d, r) for d, r in zip(extents, repeats, strict=True))
    content, known = site.try_content(0), None
    if (
        content is not None
        and dims.is_static(*repeats, *out)
        and math.prod(int(d) for d in out) <= CONTENT_LIMIT
    ):
        known = np.tile(content, [int(r) for r in repeats])
    return [Fact(out, site.dtype(), known)]


def gather(site: Site) -> list[Fact]:
    extents, indices = site.dims(0), site.dims(1)
    axis = site.axis()
    out = (*extents[:axis], *indices, *extents[axis + 1 :])
    content, index = site.try_content(0), site.try_content(1)
    taken = None
    if content is not None and index is not None and all(isinstance(i, int) for i in index.reshape(-1)):
        if all(-content.shape[axis] <= i < content.shape[axis] for i in index.reshape(-1)):
            taken = np.asarray(np.take(content, index.astype(np.int64), axis=axis), dtype=object)
    return [Fact(out, site.dtype(), taken)]


def gather_elements(site: Site) -> list[Fact]:
    return [Fact(site.dims(1), site.dtype())]


def gather_nd(site: Site) -> list[Fact]:
    data, indices = site.dims(0), site.dims(1)
    batch = int(site.attr("batch_dims", 0))
    if not isinstance(indices[-1], int):
        raise Unknown
    return [Fact((*indices[:-1], *data[batch + indices[-1] :]), site.dtype())]


def pad(site: Site) -> list[Fact]:
    out = list(site.dims())
    name = "pads" if "pads" in site.node.attributes else "paddings"
    pads = site.extents(1, name)
    axes = [normalize(a, len(out)) for a in site.ints(3, None, default=tuple(range(len(out))))]
    for i, axis in enumerate(axes):
        out[axis] = dims.add(out[axis], dims.add(pads[i], pads[i + len(axes)]))
    return [Fact(tuple(out), site.dtype())]


def constant_of_shape(site: Site) -> list[Fact]:
    extents = tuple(site.content(0).reshape(-1))
    value = site.attr("value")
    dtype = ir.DataType.FLOAT if value is None else value.dtype
    known, content = _known(extents), None
    if known is not None and math.prod(known) <= CONTENT_LIMIT:
        number = content_of(np.zeros(1, np.float32) if value is None else value.numpy().reshape(-1)[:1])
        content = None if number is None else objects([number[0]] * math.prod(known), known)
    return [Fact(extents, dtype, content)]


def range_(site: Site) -> list[Fact]:
    start, limit, delta = (site.content(i).reshape(-1)[0] for i in range(3))
    if not isinstance(delta, int) or delta == 0:
        raise Unknown
    span = dims.sub(limit, start) if delta > 0 else dims.sub(start, limit)
    count = bounds.maximum(bounds.ceildiv(span, abs(delta)), 0)
    content = None
    if isinstance(count, int) and count <= CONTENT_LIMIT:
        content = elementwise(lambda i: dims.dim(start + i * delta), objects(list(range(count)), (count,)))
    return [Fact((count,), site.dtype(), content)]


def one_hot(site: Site) -> list[Fact]:
    out = list(site.dims())
    axis = int(site.attr("axis", -1))
    depth = site.content(1).reshape(-1)[0]
    out.insert(normalize(axis, len(out) + 1), depth)
    return [Fact(tuple(out), site.dtype(2))]


def eye_like(site: Site) -> list[Fact]:
    to = site.attr("dtype")
    return [Fact(site.dims(), site.dtype() if to is None else ir.DataType(to))]


RULES: dict[str, Rule] = {
    "Shape": shape,
    "Size": size,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Expand": expand,
    "Tile": tile,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Pad": pad,
    "ConstantOfShape": constant_of_shape,
    "Range": range_,
    "OneHot": one_hot,
    "EyeLike": eye_like,
}
