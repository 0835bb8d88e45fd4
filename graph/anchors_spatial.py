"""Anchors over images: convolution, transposed convolution, pooling, resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.anchors_volume import RANK, conv3d, pool3d
from bolt.graph.attributes import attr, operand
from bolt.graph.draft import Call, Draft, Expression, need, need_first_only, unit_inner, weight_view
from bolt.graph.layouts import channels_last, widest
from bolt.graph.lower import Lowering
from bolt.ops.conv import ConvSpec, ConvTransposeSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.ops.spec import Spec
from bolt.program import Halo, View
from bolt.types import F32, S8, U8, DType

_EIGHT_BITS = (F32, U8, S8)
"""Types of images whose elements are only compared and moved."""

_MISFIT = "the weights do not fit the channels"


def pair(values: Sequence[int]) -> tuple[int, int]:
    """(h, w) of a 1-D or 2-D attribute: 1-D means h = 1."""
    return (1, int(values[0])) if len(values) == 1 else (int(values[0]), int(values[1]))


def _pair_along(values: Sequence[int], step: int) -> tuple[int, int]:
    """`pair`, in reverse when `step` is -1."""
    first, second = pair(values)[::step]
    return first, second


def image(view: View, *, turned: bool = False) -> View:
    """A (N, C, spatial...) view as (n, h, w, c); `turned` exchanges h and w."""
    if len(view.dims) == 3:
        view = view.insert(2)
    return view.permute((0, 3, 2, 1) if turned else (0, 2, 3, 1))


def window_pads(
    node: ir.Node,
    extents: Sequence[Dim],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """(begin, end) pads per spatial dim, with `auto_pad` resolved; None when they depend on run-time dims."""
    rank = len(kernel)
    mode = attr(node, "auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = tuple(int(p) for p in attr(node, "pads", (0,) * (2 * rank)))
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    begin, end = [], []
    for extent, k, s, d in zip(extents, kernel, strides, dilations, strict=True):
        if s == 1:
            total = (k - 1) * d
        elif isinstance(extent, int):
            total = max((-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent, 0)
        else:
            return None
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return tuple(begin), tuple(end)


def conv_pads(node: ir.Node, dims: Sequence[Dim], kernel: Sequence[int]) -> Halo | None:
    """Zeros a Conv reads around each dim of its input (N, C, spatial...); None when that can't be said."""
    rank = len(kernel)
    strides, dilations = attr(node, "strides", (1,) * rank), attr(node, "dilations", (1,) * rank)
    stated = len(attr(node, "pads", (0,) * (2 * rank)))
    if (len(dims) - 2, len(strides), len(dilations), stated) != (rank, rank, rank, 2 * rank):
        return None
    pads = window_pads(node, dims[2:], kernel, strides, dilations)
    if pads is None or min(*pads[0], *pads[1]) < 0:
        return None
    return ((0, 0), (0, 0), *zip(*pads, strict=True))


def add_bias(view: View | None) -> Callable[[Expression, int], int]:
    """A prologue that adds `view` (broadcastable to the output) to the accumulator."""

    def prologue(expression: Expression, acc: int) -> int:
        return acc if view is None else expression.builder.op("add", acc, expression.input(view))

    return prologue


def channel_bias(low: Lowering, node: ir.Node, index: int, rank: int) -> View | None:
    """Input `index`, one number per channel, broadcastable to (N, C, spatial...)."""
    value = operand(node, index)
    if value is None:
        return None
    view, channels = low.view(value), low.dims(node.outputs[0])[1]
    fits = len(view.dims) == 1 and D.equal(view.dims[0], channels)
    need(node, fits, "the bias does not have one number per channel")
    for _ in range(rank - 2):
        view = view.insert(len(view.dims))
    return view


def spatial_arrange(
    source: View, *rest: View, turned: bool = False
) -> Callable[[View, Sequence[View]], Sequence[View]]:
    """Operands of a channels-last kernel: (n, p, q, c) output and epilogue inputs around fixed inputs."""

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        first, *others = (image(v, turned=turned) for v in (out, *extras))
        return [unit_inner(first), source, *rest, *others]

    return arrange


def spatial_input(
    low: Lowering,
    node: ir.Node,
    halo: Halo = (),
    *,
    turned: bool = False,
    dtype: DType | None = None,
    border: int = 0,
) -> View:
    """Input 0 as (n, h, w, c): channels contiguous, pixel stride static, `border` around it as asked."""
    value = node.inputs[0]
    assert value is not None
    view = low.view(value)
    rank = len(view.dims)
    need(node, rank in (3, 4), f"{rank - 2}-D spatial dims have no kernel")
    need(node, isinstance(view.dims[1], int), "the number of channels is only known at run time")
    if halo:
        enough = all(v[0] >= h[0] and v[1] >= h[1] for v, h in zip(view.halo, halo, strict=True))
        halo = halo if enough else widest(halo, low.layouts.halo(value))
    found = image(low.conform(view, channels_last(rank), halo, dtype, border), turned=turned)
    if not isinstance(found.strides[2], int):
        found = image(low.relaid(view, channels_last(rank), halo, dtype, border), turned=turned)
    return unit_inner(found)


def _conv_input(low: Lowering, node: ir.Node, halo: Halo, *, turned: bool, groups: int) -> View:
    """Input 0 of a convolution, of the stored type, with channels of zeros added where kernels want them."""
    value, dtype = node.inputs[0], low.conventions.stored
    assert value is not None
    view = low.view(value)
    order, have = channels_last(len(view.dims)), view.dims[1]
    assert isinstance(have, int)
    wanted = have if groups > 1 else low.conventions.channels(have)
    spare = low.with_spare(view, wanted) if wanted != have else None
    if spare is not None:
        return unit_inner(image(spare.view, turned=turned))
    # A copy that is made anyway costs little more with further channels; odd ones no tensor core reads.
    if wanted == have or (have % 2 == 0 and low.conforms(view, order, dtype=dtype)):
        return spatial_input(low, node, halo, turned=turned, dtype=dtype)
    return unit_inner(image(low.widened(view, order, 1, wanted, dtype), turned=turned))


def _channels_filled(weights: np.ndarray, channels: Dim, groups: int) -> np.ndarray:
    """`weights` (k, c / groups, r, s) with zeros for the input channels a convolution does not have."""
    assert isinstance(channels, int)
    return np.pad(weights, ((0, 0), (0, channels // groups - weights.shape[1]), (0, 0), (0, 0)))


def conv(low: Lowering, node: ir.Node) -> Draft:
    weights = low.array(operand(node, 1))
    need(node, weights is not None and weights.dtype == np.float32, "the weights are not constant fp32")
    assert weights is not None
    prologue = add_bias(channel_bias(low, node, 2, weights.ndim))
    return convolution(low, node, weights, _conv_input, prologue)


Read = Callable[..., View]
"""(lowering, node, halo, turned=, groups=) -> input 0 of a convolution as (n, h, w, c)."""


def convolution(
    low: Lowering,
    node: ir.Node,
    weights: np.ndarray,
    read: Read,
    prologue: Callable[[Expression, int], int],
) -> Draft:
    """A convolution whose weights are (k, c / groups, spatial...) and may read further channels of zeros."""
    rank = weights.ndim
    need(node, rank in (3, 4, RANK), f"{rank - 2}-D convolution has no kernel")
    kernel = weights.shape[2:]
    value, groups = node.inputs[0], attr(node, "group", 1)
    assert value is not None
    fits = groups > 0 and weights.shape[0] % groups == 0
    need(node, fits and low.dims(value)[1] == weights.shape[1] * groups, _MISFIT)
    halo = conv_pads(node, low.dims(value), kernel)
    need(node, halo is not None, "the pads depend on run-time dims, are negative, or fit no dims")
    assert halo is not None
    if rank == RANK:
        need(node, weights.dtype == np.float32, "volumes of integers have no kernel")
        return conv3d(low, node, weights, halo, prologue)
    # A column of pixels is turned into a row: kernels make tiles of neighbouring pixels of one row.
    turned = rank == 4 and low.dims(value)[3] == 1 and kernel[1] == 1 and halo[3] == (0, 0)
    flip = -1 if turned else 1
    device = low.conventions.is_device
    source = read(low, node, () if device else halo, turned=turned, groups=groups)
    if rank == 3:
        weights = weights[:, :, None, :]
    if turned:
        weights = np.ascontiguousarray(weights.transpose(0, 1, 3, 2))
    if source.dims[3] != weights.shape[1] * groups:
        weights = _channels_filled(weights, source.dims[3], groups)
    stored = S8 if weights.dtype == np.int8 else source.dtype
    pads = [*([(0, 0)] if rank == 3 else []), *halo[2:]][::flip]
    make = partial(
        ConvSpec,
        stride=_pair_along(attr(node, "strides", (1,) * (rank - 2)), flip),
        dilation=_pair_along(attr(node, "dilations", (1,) * (rank - 2)), flip),
        pad=(pads[0][0], pads[1][0]),
        pad_end=(pads[0][1], pads[1][1]),
        has_halo=not device,
        math=low.math(node.outputs[0]),
    )
    whole = Draft(
        dims=low.dims(node.outputs[0]),
        order=channels_last(rank),
        make=partial(make, groups=groups),
        arrange=spatial_arrange(source, weight_view(weights, stored), turned=turned),
        constants={2: weights},
        prologue=prologue,
    )

    def widen(channels: int) -> tuple[Draft, float] | None:
        more = np.pad(weights, ((0, channels - weights.shape[0]), (0, 0), (0, 0), (0, 0)))
        depthwise = groups == weights.shape[0] == source.dims[3]
        seen = low.with_spare(source, channels, 3) if depthwise and groups > 1 else None
        if groups > 1 and seen is None:
            return None
        seen_view = source if seen is None else seen.view
        arrange = spatial_arrange(seen_view, weight_view(more, stored), turned=turned)
        spread = partial(make, groups=1 if seen is None else channels)
        return replace(whole, make=spread, arrange=arrange, constants={2: more}), 0.0

    return replace(whole, widen=widen)


def conv_transpose(low: Lowering, node: ir.Node) -> Draft:
    weights = low.array(operand(node, 1))
    need(node, weights is not None and weights.dtype == np.float32, "the weights are not constant fp32")
    assert weights is not None
    rank = weights.ndim
    need(node, rank in (3, 4), f"{rank - 2}-D transposed convolution has no kernel")
    kernel, spatial = weights.shape[2:], rank - 2
    strides = attr(node, "strides", (1,) * spatial)
    dilations = attr(node, "dilations", (1,) * spatial)
    value, groups = node.inputs[0], attr(node, "group", 1)
    assert value is not None
    dims, out = low.dims(value), low.dims(node.outputs[0])
    fits = groups > 0 and weights.shape[0] % groups == 0
    need(node, fits and dims[1] == weights.shape[0] and out[1] == weights.shape[1] * groups, _MISFIT)
    begin = []
    for axis in range(spatial):
        full = D.add(D.mul(D.sub(dims[axis + 2], 1), strides[axis]), (kernel[axis] - 1) * dilations[axis] + 1)
        full = D.add(full, attr(node, "output_padding", (0,) * spatial)[axis])
        total = D.sub(full, out[axis + 2])
        if attr(node, "auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in node.attributes:
            begin.append(int(attr(node, "pads", (0,) * (2 * spatial))[axis]))
            continue
        need(node, isinstance(total, int) and total >= 0, "the pads depend on run-time dims")
        assert isinstance(total, int)
        half = total // 2
        begin.append(half if attr(node, "auto_pad", "NOTSET") == "SAME_UPPER" else total - half)
    need(node, min(begin) >= 0, "negative pads")
    source = spatial_input(low, node, dtype=low.conventions.stored)
    if rank == 3:
        weights = weights[:, :, None, :]
    make = partial(
        ConvTransposeSpec,
        stride=pair(strides),
        dilation=pair(dilations),
        pad=(0, begin[0]) if rank == 3 else (begin[0], begin[1]),
        groups=groups,
    )
    whole = Draft(
        dims=out,
        order=channels_last(rank),
        make=make,
        arrange=spatial_arrange(source, weight_view(weights, source.dtype)),
        constants={2: weights},
        prologue=add_bias(channel_bias(low, node, 2, rank)),
    )
    exact = all(D.equal(D.mul(d, s), o) for d, s, o in zip(dims[2:], strides, out[2:], strict=True))
    blocks = groups == 1 and tuple(kernel) == tuple(strides) and not max(begin) and exact
    # Kernels of narrower types read several channels at a time.
    if low.conventions.is_device or not blocks or (source.dtype is not F32 and len(weights) % 4):
        return whole
    return replace(whole, calls=partial(_rows_of_blocks, low, source, weights))


def _rows_of_blocks(
    low: Lowering, source: View, weights: np.ndarray, out: View, extras: Sequence[View]
) -> Sequence[Call] | None:
    """A transposed convolution of blocks that do not overlap: one 1x1 convolution for each row of a block.

    The `s` pixels of a row, `k` channels each, are neighbours in memory: the channels of one pixel of it.
    """
    down = weights.shape[2]
    rows = [_as_rows(low, image(v), source, weights) for v in (out, *extras)]
    known = [r for r in rows if r is not None]
    if len(known) < len(rows):
        return None
    found = []
    for row in range(down):
        first, *rest = (replace(v, offset=D.add(v.offset, D.mul(row, step))) for v, step in known)
        flat = np.ascontiguousarray(weights[:, :, row].transpose(2, 1, 0).reshape(-1, len(weights), 1, 1))
        operands = [unit_inner(first), source, weight_view(flat, source.dtype), *rest]
        found.append(Call(make=ConvSpec, views=operands, constants={2: flat}))
    return found


def _as_rows(low: Lowering, view: View, source: View, weights: np.ndarray) -> tuple[View, Dim] | None:
    """(n, h * r, w * s, k) as (n, h, w, s * k), the first row of each block, and the distance to the next."""
    k, down, across = weights.shape[1:]
    n, row, pixel, channel = view.strides
    array = low.constants.get(view.buffer.name)
    if pixel == channel == 0 or across == 1:
        inner, step = channel, D.mul(pixel, across)
    elif array is not None and (row, pixel, channel) == (0, 0, 1) and array.size == k:
        view, inner, step = replace(view, buffer=low.const(np.tile(array.reshape(-1), across)).buffer), 1, 0
    elif (channel == 1 and pixel == k) or (k == 1 and pixel == 1):
        inner, step = 1, D.mul(pixel, across)
    else:
        return None
    dims = (*source.dims[:3], k * across)
    return replace(view, dims=dims, strides=(n, D.mul(row, down), step, inner), halo=()), row


def pool(low: Lowering, node: ir.Node) -> Draft:
    kind = "max" if node.op_type == "MaxPool" else "avg"
    need_first_only(node)
    value = node.inputs[0]
    assert value is not None
    takes = _EIGHT_BITS if kind == "max" else (F32,)
    need(node, low.dtype(value) in takes, "images of this type have no kernel")
    kernel = tuple(attr(node, "kernel_shape"))
    spatial = len(kernel)
    need(node, spatial in (1, 2, 3), f"{spatial}-D pooling has no kernel")
    strides = attr(node, "strides", (1,) * spatial)
    dilations = attr(node, "dilations", (1,) * spatial)
    pads = window_pads(node, low.dims(value)[2:], kernel, strides, dilations)
    need(node, pads is not None, "the pads depend on run-time dims")
    assert pads is not None
    if spatial == RANK - 2:
        return pool3d(low, node, kind, pads)
    make = partial(
        PoolSpec,
        kind=kind,
        kernel=pair(kernel),
        stride=pair(strides),
        dilation=pair(dilations),
        pad=(0, pads[0][0]) if spatial == 1 else pair(pads[0]),
        pad_end=(0, pads[1][0]) if spatial == 1 else pair(pads[1]),
        count_include_pad=bool(attr(node, "count_include_pad", 0)),
    )
    return _per_channel(low, node, make, low.dims(node.outputs[0]), spatial_input(low, node))


def _per_channel(
    low: Lowering, node: ir.Node, make: Callable[..., Spec], dims: tuple[Dim, ...], source: View
) -> Draft:
    """A kernel each of whose channels is made of one channel of `source`: equal numbers give that number."""
    whole = Draft(dims=dims, order=channels_last(len(dims)), make=make, arrange=spatial_arrange(source))

    def widen(channels: int) -> tuple[Draft, float] | None:
        seen = low.with_spare(source, channels, 3)
        # An average that counts zeros around the image is no average of equal numbers.
        if seen is None or (seen.number and attr(node, "count_include_pad", 0)):
            return None
        return replace(whole, arrange=spatial_arrange(seen.view)), seen.number

    return replace(whole, widen=widen)


def resize(low: Lowering, node: ir.Node) -> Draft:
    value = node.inputs[0]
    assert value is not None
    dims, out = low.dims(value), low.dims(node.outputs[0])
    mode = attr(node, "mode", "nearest")
    takes = _EIGHT_BITS if mode == "nearest" else (F32,)
    need(node, low.dtype(value) in takes, "images of this type have no kernel")
    modes = ("nearest", "linear") if low.conventions.is_device else ("nearest", "linear", "cubic")
    need(node, mode in modes, f"mode {mode} has no kernel")
    need(node, len(dims) in (3, 4), "only 1-D and 2-D images have a kernel")
    need(node, D.equal(dims[0], out[0]) and D.equal(dims[1], out[1]), "it resizes the batch or the channels")
    for name in ("antialias", "exclude_outside"):
        need(node, not attr(node, name, 0), f"{name} has no kernel")
    need(
        node,
        attr(node, "keep_aspect_ratio_policy", "stretch") == "stretch",
        "aspect ratio policies have no kernel",
    )
    need(node, attr(node, "axes") is None, "the axes attribute has no kernel")
    upsample = node.op_type == "Upsample"
    old = upsample or (node.version or low.opset) < 11
    coordinate = "asymmetric" if old else attr(node, "coordinate_transformation_mode", "half_pixel")
    known = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    need(node, coordinate in known, f"coordinate mode {coordinate} has no kernel")
    make = partial(
        ResizeSpec,
        mode=mode,
        coordinate=coordinate,
        nearest="floor" if old else attr(node, "nearest_mode", "round_prefer_floor"),
        scales=_scales(low, node, len(dims)),
        cubic=float(attr(node, "cubic_coeff_a", -0.75)),
    )
    return _per_channel(low, node, make, out, spatial_input(low, node))


def _scales(low: Lowering, node: ir.Node, rank: int) -> tuple[float, float]:
    """The (h, w) scales the node states; (0, 0) when it gives sizes."""
    if node.op_type == "Upsample" or len(node.inputs) == 2:
        stated = low.array(operand(node, 1)) if len(node.inputs) > 1 else np.asarray(attr(node, "scales"))
    else:
        stated = low.array(operand(node, 2))
    if stated is None or stated.size != rank:
        need(node, operand(node, 3) is not None, "the scales are only known at run time")
        return 0.0, 0.0
    h, w = (1.0, stated[2]) if rank == 3 else (stated[2], stated[3])
    return float(h), float(w)
