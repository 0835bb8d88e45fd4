"""Convolution and pooling over volumes (N, C, D, H, W), by kernels for images.

A volume lies in memory as (N, H, W, D, C): the channels of neighbouring slices are neighbours. So the window
of a convolution over `kd` slices is an image of `kd * C` channels, one such image per output slice, and the
images overlap in memory:

    conv3d(x)[d] = conv2d(x[..., d * stride - pad : ... + kd, :])      channels: (slice, channel)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr
from bolt.graph.draft import Call, Draft, Expression, need, unit_inner, weight_view
from bolt.graph.layouts import channels_last, widest
from bolt.graph.lower import Lowering
from bolt.ops.conv import ConvSpec
from bolt.ops.spatial import PoolSpec
from bolt.program import Halo, View
from bolt.types import DType

RANK = 5
_DEPTH = 2


def volume(low: Lowering, node: ir.Node, halo: Halo = (), dtype: DType | None = None) -> View:
    """Input 0 as (N, C, D, H, W) in memory order (N, H, W, D, C), with at least `halo` zeros around it."""
    value = node.inputs[0]
    assert value is not None
    view = low.view(value)
    need(node, not low.conventions.is_device, "volumes have no kernel on a GPU")
    is_known = isinstance(view.dims[1], int) and isinstance(view.dims[_DEPTH], int)
    need(node, is_known, "the channels or the depth are only known at run time")
    order, channels = channels_last(RANK), view.dims[1]
    if halo and not all(v[0] >= h[0] and v[1] >= h[1] for v, h in zip(view.halo, halo, strict=True)):
        halo = widest(halo, low.layouts.halo(value))
    found = low.conform(view, order, halo, dtype)
    if found.dims[_DEPTH] != 1 and found.strides[_DEPTH] != channels:
        found = low.relaid(view, order, halo, dtype)
    need(node, found.dims[_DEPTH] == 1 or found.strides[_DEPTH] == channels, "pixels are padded")
    return found if found.dims[1] != 1 else replace(found, strides=(found.strides[0], 1, *found.strides[2:]))


def _slices(view: View, image: int) -> View:
    """(N, C, D, H, W) as images (n, h, w, c): the volumes of one slice, or all slices of volume `image`."""
    if view.dims[_DEPTH] == 1:
        return unit_inner(view.remove(_DEPTH).permute((0, 2, 3, 1)))
    return unit_inner(view.slice(0, image, 1).remove(0).permute((1, 2, 3, 0)))


def _count(node: ir.Node, view: View) -> int:
    """How many calls compute all volumes, each by `_slices`."""
    count = 1 if view.dims[_DEPTH] == 1 else view.dims[0]
    need(node, isinstance(count, int), "the number of volumes is only known at run time")
    assert isinstance(count, int)
    return count


def conv3d(
    low: Lowering, node: ir.Node, weights: np.ndarray, halo: Halo, prologue: Callable[[Expression, int], int]
) -> Draft:
    """A convolution with weights (k, c / groups, kd, r, s) and `halo` zeros around its input."""
    (stride, *strides), (dilation, *dilations) = (
        attr(node, name, (1, 1, 1)) for name in ("strides", "dilations")
    )
    depth, groups = weights.shape[2], attr(node, "group", 1)
    need(node, depth == 1 or groups == 1, "windows of several slices in groups have no kernel")
    need(node, depth == 1 or dilation == 1, "windows of slices apart have no kernel")
    dims = low.dims(node.outputs[0])
    source = volume(low, node, halo, low.conventions.stored)
    windows = _windows(source, dims[_DEPTH], depth, stride, halo[_DEPTH][0])
    flat = np.ascontiguousarray(weights.swapaxes(1, 2).reshape(len(weights), -1, *weights.shape[3:]))
    make = partial(
        ConvSpec,
        stride=tuple(strides),
        dilation=tuple(dilations),
        pad=(halo[3][0], halo[4][0]),
        pad_end=(halo[3][1], halo[4][1]),
        groups=groups,
        math=low.math(node.outputs[0]),
    )

    def arrange(out: View, extras: Sequence[View], image: int = 0) -> Sequence[View]:
        first, *rest = (_slices(v, image) for v in (out, *extras))
        return [first, _slices(windows, image), weight_view(flat, windows.dtype), *rest]

    whole = Draft(
        dims=dims,
        order=channels_last(RANK),
        make=make,
        arrange=arrange,
        constants={2: flat},
        prologue=prologue,
    )
    return _repeated(whole, arrange, _count(node, windows))


def _repeated(draft: Draft, arrange: Callable[..., Sequence[View]], images: int) -> Draft:
    """`draft` with one call per image."""

    def calls(out: View, extras: Sequence[View]) -> Sequence[Call]:
        every = [arrange(out, extras, image) for image in range(images)]
        return [Call(make=draft.make, views=views, constants=draft.constants) for views in every]

    return replace(draft, calls=calls)


def _windows(source: View, count: Dim, depth: int, stride: int, pad: int) -> View:
    """What each output slice sees: (N, depth * C, slices, H, W)."""
    n, c, _, h, w = source.dims
    sn, sc, sd, sh, sw = source.strides
    return replace(
        source,
        dims=(n, D.mul(c, depth), count, h, w),
        strides=(sn, sc, D.mul(sd, stride), sh, sw),
        offset=D.sub(source.offset, D.mul(pad, sd)),
        halo=((0, 0), (0, 0), (0, 0), *source.halo[3:]),
    )


def pool3d(low: Lowering, node: ir.Node, kind: str, pads: tuple[tuple[int, ...], tuple[int, ...]]) -> Draft:
    """A pool over volumes: over the rows and columns of each slice, then over the slices.

    An average is one of averages: how many elements a window has is the product of its extents' counts.
    """
    kernel = tuple(attr(node, "kernel_shape"))
    strides, dilations = (attr(node, name, (1, 1, 1)) for name in ("strides", "dilations"))
    make = partial(PoolSpec, kind=kind, count_include_pad=bool(attr(node, "count_include_pad", 0)))

    def window(first: int, second: int | None) -> partial[PoolSpec]:
        """The pool along the spatial axes `first` and `second` (None: none)."""

        def of(values: Sequence[int], default: int) -> tuple[int, int]:
            return values[first], default if second is None else values[second]

        return partial(
            make,
            kernel=of(kernel, 1),
            stride=of(strides, 1),
            dilation=of(dilations, 1),
            pad=of(pads[0], 0),
            pad_end=of(pads[1], 0),
        )

    dims, source = low.dims(node.outputs[0]), volume(low, node)
    within = low.temp(source.dtype, (*source.dims[:3], *dims[3:]), channels_last(RANK))
    for image in range(_count(node, source)):
        low.emit(window(1, 2), [_slices(within, image), _slices(source, image)], nodes=[node])

    def arrange(out: View, extras: Sequence[View], image: int = 0) -> Sequence[View]:
        first, *rest = (_columns(v, image) for v in (out, *extras))
        return [first, _columns(within, image), *rest]

    images = dims[0]
    need(node, isinstance(images, int), "the number of volumes is only known at run time")
    assert isinstance(images, int)
    whole = Draft(dims=dims, order=channels_last(RANK), make=window(0, None), arrange=arrange)
    return _repeated(whole, arrange, images)


def _columns(view: View, image: int) -> View:
    """Volume `image` of (N, C, D, H, W) as rows of images with the slices down: (h, d, w, c)."""
    return unit_inner(view.slice(0, image, 1).remove(0).permute((2, 1, 3, 0)))
