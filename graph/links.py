"""Steps as links of a chain: which rows of its input a step needs for some rows of its output.

Convolutions and poolings say what their rows are. Everything that works pixel by pixel (matrix products,
normalizations, expressions, copies) has the rows of its neighbours: its outermost axis is rows, or images and
rows merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bolt import dims as D
from bolt.chain import MOST_OPERANDS, Kept, Link, Window
from bolt.dims import Dim
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import CopySpec, PointwiseSpec
from bolt.ops.rows import NormSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec
from bolt.ops.spec import Spec
from bolt.program import AnyStep, Step, View, divides


@dataclass(frozen=True, slots=True)
class Images:
    """So many images (known at run time at the latest) of so many rows."""

    count: Dim
    rows: int


@dataclass(frozen=True, slots=True)
class Part:
    """A step that can be a link: its place in the program, and the rows it has by itself."""

    index: int
    step: Step
    window: Window
    out: Images | None = None
    source: Images | None = None


def part(index: int, step: AnyStep) -> Part | None:
    """The step as a possible link, or None."""
    if (
        not isinstance(step, Step)
        or not 2 <= len(step.views) <= MOST_OPERANDS
        or not set(step.constants) <= {2}
    ):
        return None
    spec = step.spec
    if isinstance(spec, (ConvSpec, PoolSpec)):
        return _spatial(index, step, spec) if _is_static(step, 0) else None
    outermost = 2 if _is_rowwise(spec) else _outermost(step.views[0].dims)
    return Part(index, step, Window()) if _is_pixelwise(spec) and _is_static(step, outermost) else None


def _is_static(step: Step, outermost: int) -> bool:
    """Whether everything is known but the extent of one axis."""
    views = [v for i, v in enumerate(step.views) if i not in step.constants]
    numbers = [
        n for v in views for n in (*v.dims[:outermost], *v.dims[outermost + 1 :], *v.strides, v.offset)
    ]
    return D.is_static(*numbers)


def _is_pixelwise(spec: Spec) -> bool:
    if not _is_rowwise(spec):
        return isinstance(spec, (PointwiseSpec, CopySpec))
    if isinstance(spec, GemmSpec) and not spec.is_b_constant:
        return False
    return all(d == 1 for d in (*spec.out.dims[:2], *spec.operands[1].dims[:2]))


def _is_rowwise(spec: Spec) -> bool:
    """Whether its operands are (batch, batch, rows, columns)."""
    return isinstance(spec, (GemmSpec, NormSpec, SoftmaxSpec))


def _spatial(index: int, step: Step, spec: ConvSpec | PoolSpec) -> Part | None:
    kernel, before = spec.kernel[0], spec.pad[0]
    if isinstance(spec, PoolSpec) and (before or spec.pad_end[0]):
        return None  # pooling knows the border by the input's extent, which a strip does not have at the top
    window = Window(stride=spec.stride[0], before=before, extent=(kernel - 1) * spec.dilation[0] + 1)
    count, rows, taken = (step.views[i].dims[a] for i, a in ((0, 0), (0, 1), (1, 1)))
    return Part(index, step, window, Images(count, _int(rows)), Images(count, _int(taken)))


def links(parts: Sequence[Part]) -> tuple[Images, tuple[Link, ...]] | None:
    """The last images and the links of `parts`, or None where their rows do not fit each other."""
    images = _images(parts)
    if images is None:
        return None
    found = [_link(p, i) for p, i in zip(parts, images, strict=True)]
    linked = [link for link in found if link is not None]
    if len(linked) < len(found):
        return None
    for i, (link, reader) in enumerate(pairwise(linked)):
        kept = _kept(link, reader)
        if kept is None or link.moves[0] != reader.moves[1] or link.rows != reader.input_rows:
            return None
        linked[i] = replace(link, kept=kept)
    return images[-1], tuple(linked)


def _images(parts: Sequence[Part]) -> list[Images] | None:
    """The images each part writes: as it says, as its neighbours say, or the rows of a matrix."""
    found = [p.out for p in parts]
    for i in range(1, len(parts)):
        found[i] = found[i] or found[i - 1]
    for i in range(len(parts) - 2, -1, -1):
        found[i] = found[i] or parts[i + 1].source or found[i + 1]
    matrix = _matrix(parts)
    known = [images for images in (images or matrix for images in found) if images is not None]
    fit = len(known) == len(found) and all(D.equal(known[0].count, images.count) for images in known)
    return known if fit and (known[-1].rows > 1 or known[-1].count != 1) else None


def _matrix(parts: Sequence[Part]) -> Images | None:
    """The matrices that `parts` write, none of which is an image."""
    dims = next((p.step.views[0].dims[2:3] for p in parts if _is_rowwise(p.step.spec)), None)
    rows = (dims or parts[0].step.views[0].dims)[0]
    return Images(1, rows) if isinstance(rows, int) else None


def _link(part: Part, images: Images) -> Link | None:
    """The part as a link whose output are `images`."""
    if part.source is not None:
        axes: tuple[int | None, int, int] | None = (0, 1, 1)
    else:
        dims = part.step.views[0].dims
        axes = _row_axes(dims, images, 2 if _is_rowwise(part.step.spec) else _outermost(dims))
    if axes is None:
        return None
    image_axis, row_axis, quantum = axes
    moves = tuple(
        (0, 0) if i in part.step.constants else _moves(view, image_axis, row_axis, quantum, images.rows)
        for i, view in enumerate(part.step.views)
    )
    return Link(
        step=part.step,
        spec=_strip(part.step.spec, image_axis, row_axis),
        rows=images.rows,
        input_rows=(part.source or images).rows,
        window=part.window,
        moves=moves,
        quantum=quantum,
    )


def _outermost(dims: Sequence[Dim]) -> int:
    return next((a for a, d in enumerate(dims) if d != 1), 0)


def _row_axes(dims: Sequence[Dim], images: Images, axis: int) -> tuple[int | None, int, int] | None:
    """(axis of images unless merged with rows, axis of rows, how many of its indices a row is).

    Args:
        axis: the outermost one.
    """
    if images.count != 1 and images.rows > 1 and D.equal(dims[axis], images.count):
        following = dims[axis + 1] if axis + 1 < len(dims) else 1
        fits = isinstance(following, int) and following % images.rows == 0
        return (axis, axis + 1, _int(following) // images.rows) if fits else None
    total = D.mul(images.count, images.rows)
    quantum = D.floordiv(dims[axis], total) if divides(total, dims[axis]) else None
    return (None, axis, quantum) if isinstance(quantum, int) else None


def _moves(view: View, image_axis: int | None, row_axis: int, quantum: int, rows: int) -> tuple[int, int]:
    """Elements between images and between rows of a view."""
    row = _int(view.strides[row_axis]) * quantum
    return (row * rows if image_axis is None else _int(view.strides[image_axis])), row


def _strip(spec: Spec, image_axis: int | None, row_axis: int) -> Spec:
    """The spec of any number of rows of one image."""
    operands = list(spec.operands)
    for index, operand in enumerate(operands):
        if index in spec.constants:
            continue
        dims, strides = list(operand.dims), list(operand.strides)
        dims[row_axis] = None
        if image_axis is not None:
            dims[image_axis], strides[image_axis] = 1, 0
        operands[index] = replace(operand, dims=tuple(dims), strides=tuple(strides))
    return replace(spec, operands=tuple(operands))


def _kept(link: Link, reader: Link) -> Kept | None:
    """How the rows lie that `link` writes and `reader` reads, if one byte over and over makes the border."""
    pitch, view = link.moves[0][1], reader.step.views[1]
    if 1 not in reader.spec.halo():
        return Kept(pitch=pitch, lead=0, width=pitch)
    if view.border and view.dtype.size_bytes > 1:
        return None
    pixel, columns, (left, _) = _int(view.strides[2]), _int(view.dims[2]), view.halo[2]
    return Kept(
        pitch=pitch,
        lead=left * pixel,
        width=columns * pixel,
        border=view.border % 256,
        is_sparse=view.dims[3] != link.step.views[0].dims[-1],
    )


def _int(value: Dim) -> int:
    assert isinstance(value, int)
    return value
