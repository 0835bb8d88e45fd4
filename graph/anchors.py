"""Anchors: how each ONNX operator with a kernel of its own becomes a spec.

Each function takes the lowering state and a node and returns a `Draft`; `ANCHORS` is the table. What a
kernel can't do raises `CannotLower` with the reason the report shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr, ints, operand
from bolt.graph.layouts import channels_last, row_major, widest
from bolt.graph.lower import CannotLower, Draft, Expression, Lowering, collapse
from bolt.ops.conv import ConvSpec, ConvTransposeSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.program import Buffer, Halo, View, dense_strides
from bolt.types import F32


def need(node: ir.Node, condition: bool, reason: str) -> None:
    """Raise `CannotLower` unless `condition`."""
    if not condition:
        raise CannotLower(node, reason)


def is_used(value: ir.Value) -> bool:
    """Whether anything reads `value`, the model's caller included."""
    return bool(list(value.uses())) or value.is_graph_output()


def need_first_only(node: ir.Node) -> None:
    """Raise `CannotLower` when anything but the first output is used."""
    need(node, not any(is_used(o) for o in node.outputs[1:]), "only the first output has a kernel")


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
    """Zeros a Conv reads around each dim of its input (N, C, spatial...)."""
    rank = len(kernel)
    pads = window_pads(
        node, dims[2:], kernel, attr(node, "strides", (1,) * rank), attr(node, "dilations", (1,) * rank)
    )
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
    view = low.view(value)
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


def unit_inner(view: View) -> View:
    """With stride 1 spelled for an innermost dim of 1, whose stride means nothing."""
    return replace(view, strides=(*view.strides[:-1], 1)) if view.dims[-1] == 1 else view


def spatial_input(low: Lowering, node: ir.Node, halo: Halo = (), *, turned: bool = False) -> View:
    """Input 0 as (n, h, w, c): channels contiguous, pixel stride static, zeros around it as asked."""
    value = node.inputs[0]
    assert value is not None
    view = low.view(value)
    rank = len(view.dims)
    need(node, rank in (3, 4), f"{rank - 2}-D spatial dims have no kernel")
    need(node, isinstance(view.dims[1], int), "the number of channels is only known at run time")
    if halo:
        enough = all(v[0] >= h[0] and v[1] >= h[1] for v, h in zip(view.halo, halo, strict=True))
        halo = halo if enough else widest(halo, low.layouts.halo(value))
    found = image(low.conform(view, channels_last(rank), halo), turned=turned)
    if not isinstance(found.strides[2], int):
        found = image(low.relaid(view, channels_last(rank), halo), turned=turned)
    return unit_inner(found)


def conv(low: Lowering, node: ir.Node) -> Draft:
    weights = low.array(operand(node, 1))
    need(node, weights is not None and weights.dtype == np.float32, "the weights are not constant fp32")
    assert weights is not None
    rank = weights.ndim
    need(node, rank in (3, 4), f"{rank - 2}-D convolution has no kernel")
    kernel = weights.shape[2:]
    value = node.inputs[0]
    assert value is not None
    halo = conv_pads(node, low.dims(value), kernel)
    need(node, halo is not None, "the pads depend on run-time dims, or are negative")
    assert halo is not None
    # A column of pixels is turned into a row: kernels make tiles of neighbouring pixels of one row.
    turned = rank == 4 and low.dims(value)[3] == 1 and kernel[1] == 1 and halo[3] == (0, 0)
    flip = -1 if turned else 1
    source = spatial_input(low, node, halo, turned=turned)
    if rank == 3:
        weights = weights[:, :, None, :]
    if turned:
        weights = np.ascontiguousarray(weights.transpose(0, 1, 3, 2))
    pads = [*([(0, 0)] if rank == 3 else []), *halo[2:]][::flip]
    make = partial(
        ConvSpec,
        stride=_pair_along(attr(node, "strides", (1,) * (rank - 2)), flip),
        dilation=_pair_along(attr(node, "dilations", (1,) * (rank - 2)), flip),
        pad=(pads[0][0], pads[1][0]),
        pad_end=(pads[0][1], pads[1][1]),
        groups=attr(node, "group", 1),
    )
    return Draft(
        dims=low.dims(node.outputs[0]),
        order=channels_last(rank),
        make=make,
        arrange=spatial_arrange(source, weight_view(weights), turned=turned),
        constants={2: weights},
        prologue=add_bias(channel_bias(low, node, 2, rank)),
    )


def weight_view(weights: np.ndarray) -> View:
    """A stand-in view for a constant operand the family packs: dims and dense strides, no memory."""
    buffer = Buffer(name="packed", dtype=F32, elements=int(weights.size), kind="packed")
    return View(buffer=buffer, dims=weights.shape, strides=dense_strides(weights.shape))


def conv_transpose(low: Lowering, node: ir.Node) -> Draft:
    weights = low.array(operand(node, 1))
    need(node, weights is not None and weights.dtype == np.float32, "the weights are not constant fp32")
    assert weights is not None
    rank = weights.ndim
    need(node, rank in (3, 4), f"{rank - 2}-D transposed convolution has no kernel")
    kernel, spatial = weights.shape[2:], rank - 2
    strides = attr(node, "strides", (1,) * spatial)
    dilations = attr(node, "dilations", (1,) * spatial)
    value = node.inputs[0]
    assert value is not None
    dims, out = low.dims(value), low.dims(node.outputs[0])
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
    source = spatial_input(low, node)
    if rank == 3:
        weights = weights[:, :, None, :]
    make = partial(
        ConvTransposeSpec,
        stride=pair(strides),
        dilation=pair(dilations),
        pad=(0, begin[0]) if rank == 3 else (begin[0], begin[1]),
        groups=attr(node, "group", 1),
    )
    return Draft(
        dims=out,
        order=channels_last(rank),
        make=make,
        arrange=spatial_arrange(source, weight_view(weights)),
        constants={2: weights},
        prologue=add_bias(channel_bias(low, node, 2, rank)),
    )


def pool(low: Lowering, node: ir.Node) -> Draft:
    kind = "max" if node.op_type == "MaxPool" else "avg"
    need_first_only(node)
    value = node.inputs[0]
    assert value is not None
    need(node, low.dtype(value) is F32, "only fp32 images have a kernel")
    kernel = tuple(attr(node, "kernel_shape"))
    spatial = len(kernel)
    need(node, spatial in (1, 2), f"{spatial}-D pooling has no kernel")
    strides = attr(node, "strides", (1,) * spatial)
    dilations = attr(node, "dilations", (1,) * spatial)
    pads = window_pads(node, low.dims(value)[2:], kernel, strides, dilations)
    need(node, pads is not None, "the pads depend on run-time dims")
    assert pads is not None
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
    return Draft(
        dims=low.dims(node.outputs[0]),
        order=channels_last(spatial + 2),
        make=make,
        arrange=spatial_arrange(spatial_input(low, node)),
    )


def resize(low: Lowering, node: ir.Node) -> Draft:
    value = node.inputs[0]
    assert value is not None
    dims, out = low.dims(value), low.dims(node.outputs[0])
    mode = attr(node, "mode", "nearest")
    need(node, low.dtype(value) is F32, "only fp32 images have a kernel")
    need(node, mode in ("nearest", "linear"), f"mode {mode} has no kernel")
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
    )
    return Draft(
        dims=out,
        order=channels_last(len(dims)),
        make=make,
        arrange=spatial_arrange(spatial_input(low, node)),
    )


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


def matmul(low: Lowering, node: ir.Node) -> Draft:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    need(node, low.dtype(a) is F32 and low.dtype(b) is F32, "only fp32 matrices have a kernel")
    need(node, len(low.dims(a)) >= 2 and len(low.dims(b)) >= 2, "vector operands have no kernel")
    return _product(low, node, low.view(a), low.view(b), low.array(b), lambda expression, acc: acc)


def gemm(low: Lowering, node: ir.Node) -> Draft:
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None and b is not None
    need(node, low.dtype(a) is F32 and low.dtype(b) is F32, "only fp32 matrices have a kernel")
    left, right, constant = low.view(a), low.view(b), low.array(b)
    if attr(node, "transA", 0):
        left = left.permute((1, 0))
    if attr(node, "transB", 0):
        right = right.permute((1, 0))
        constant = None if constant is None else constant.T
    alpha, beta = attr(node, "alpha", 1.0), attr(node, "beta", 1.0)
    third = operand(node, 2)

    def prologue(expression: Expression, acc: int) -> int:
        build = expression.builder
        if alpha != 1.0:
            acc = build.op("mul", acc, build.const(alpha))
        if third is None or beta == 0.0:
            return acc
        addend = expression.input(low.view(third))
        if beta != 1.0:
            addend = build.op("mul", addend, build.const(beta))
        return build.op("add", acc, addend)

    return _product(low, node, left, right, constant, prologue)


def _product(
    low: Lowering,
    node: ir.Node,
    a: View,
    b: View,
    constant: np.ndarray | None,
    prologue: Callable[[Expression, int], int],
) -> Draft:
    dims = low.dims(node.outputs[0])
    *batch, m, n = dims
    k = a.dims[-1]
    shared = all(d == 1 for d in b.dims[:-2])
    packed = constant is not None and shared and isinstance(k, int) and isinstance(n, int)
    left = low.broadcast(a, (*batch, m, k))
    right = low.broadcast(b, (*batch, k, n))

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        rank = len(dims)
        joined = [out, *extras]
        if shared:
            # Rows of every batch are one long m as far as the strides of all operands allow. The last dim
            # rides along untouched.
            rows = _rows([left, *joined], 1, node)
            lefts, outs = rows[0], rows[1:]
            rights = right.permute((rank - 2, rank - 1)).insert(0).insert(0)
        else:
            batches = _batches([left, right, *joined], node)
            lefts, rights, outs = batches[0], batches[1], batches[2:]
        return [unit_inner(outs[0]), unit_inner(lefts), rights, *outs[1:]]

    constants = {}
    if packed:
        assert constant is not None
        constants = {2: np.ascontiguousarray(constant.reshape(1, 1, *constant.shape[-2:]))}
        right = replace(weight_view(constants[2]), strides=(0, 0, n, 1)).permute((2, 3))
        right = low.broadcast(right, (*batch, k, n))
    return Draft(
        dims=dims, order=None, make=GemmSpec, arrange=arrange, constants=constants, prologue=prologue
    )


def _rows(views: list[View], keep: int, node: ir.Node) -> list[View]:
    """All dims but the last `keep` merged into (b0, b1, rows)."""
    outer = [v.permute(range(len(v.dims) - keep)) for v in views]
    merged = collapse(outer)
    need(node, len(merged[0].dims) <= 3, "the operands' memory orders need more than three loops")
    return [_pad_left(m, v, keep, 3) for m, v in zip(merged, views, strict=True)]


def _batches(views: list[View], node: ir.Node) -> list[View]:
    """All dims but the last two merged into (b0, b1)."""
    outer = [v.permute(range(len(v.dims) - 2)) for v in views]
    merged = collapse(outer) if outer[0].dims else outer
    need(node, len(merged[0].dims) <= 2, "the operands' memory orders need more than two batch loops")
    return [_pad_left(m, v, 2, 2) for m, v in zip(merged, views, strict=True)]


def _pad_left(outer: View, whole: View, keep: int, rank: int) -> View:
    """`outer` (merged leading dims) widened to `rank` dims, followed by the last `keep` dims of `whole`."""
    while len(outer.dims) < rank:
        outer = outer.insert(0)
    return replace(
        outer,
        dims=(*outer.dims, *whole.dims[-keep:]),
        strides=(*outer.strides, *whole.strides[-keep:]),
        halo=(),
    )


def softmax(low: Lowering, node: ir.Node) -> Draft:
    value = node.inputs[0]
    assert value is not None
    need(node, low.dtype(value) is F32, "only fp32 has a kernel")
    dims = low.dims(value)
    rank = len(dims)
    need(node, rank > 0, "scalars have no kernel")
    before_13 = low.opset < 13
    axis = attr(node, "axis", 1 if before_13 else -1) % rank
    make = partial(SoftmaxSpec, log=node.op_type == "LogSoftmax")
    if before_13 and any(d != 1 for d in dims[axis + 1 :]):
        return _trailing_rows(low, node, axis, make)
    order = (*(a for a in range(rank) if a != axis), axis)
    return _axis_rows(low, node, axis, order, make)


def _axis_rows(
    low: Lowering, node: ir.Node, axis: int, order: tuple[int, ...], make: Callable[..., object]
) -> Draft:
    """Rows along one axis: the axis is made contiguous, the others merge into (b0, b1, rows)."""
    value = node.inputs[0]
    assert value is not None
    source = low.conform(low.view(value), order)
    outer = [a for a in low.order_of(source) if a != axis]
    order = (*outer, axis)

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        views = [v.permute(order) for v in (out, source, *extras)]
        views = _rows(views, 1, node)
        return [unit_inner(views[0]), unit_inner(views[1]), *views[2:]]

    return Draft(dims=low.dims(node.outputs[0]), order=order, make=make, arrange=arrange)  # type: ignore[arg-type]


def _trailing_rows(
    low: Lowering,
    node: ir.Node,
    axis: int,
    make: Callable[..., object],
    prologue: Callable[[Expression, int], int] = lambda expression, acc: acc,
) -> Draft:
    """Rows over all dims from `axis` on, which must be one contiguous run."""
    value = node.inputs[0]
    assert value is not None
    dims = low.dims(value)
    flat = (*dims[:axis], D.prod(dims[axis:]))
    source = low.view(value)
    tail = len(dims) - axis
    if source.reshape(flat) is None or (source.strides[-1] != 1 and dims[-1] != 1):
        source = low.dense(source)

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        views = [out, source, *extras]
        if tail > 1:
            views = [_flattened(low, v, axis) for v in views]
        views = _rows(views, 1, node)
        return [unit_inner(views[0]), unit_inner(views[1]), *views[2:]]

    return Draft(
        dims=low.dims(node.outputs[0]),
        order=row_major(len(dims)),
        make=make,  # type: ignore[arg-type]
        arrange=arrange,
        prologue=prologue,
    )


def _flattened(low: Lowering, view: View, axis: int) -> View:
    """Dims from `axis` on merged into one."""
    dims = (*view.dims[:axis], D.prod(view.dims[axis:]))
    out = view.reshape(dims)
    if out is None:
        out = low.dense(view).reshape(dims)
    assert out is not None
    return out


def layer_norm(low: Lowering, node: ir.Node) -> Draft:
    value = node.inputs[0]
    assert value is not None
    need(node, low.dtype(value) is F32, "only fp32 has a kernel")
    need_first_only(node)
    dims = low.dims(value)
    axis = attr(node, "axis", -1) % len(dims)
    rms = node.op_type == "RMSNormalization"
    make = partial(NormSpec, epsilon=float(attr(node, "epsilon", 1e-5)), rms=rms)

    def prologue(expression: Expression, acc: int) -> int:
        build = expression.builder
        scale, bias = operand(node, 1), operand(node, 2)
        if scale is not None:
            acc = build.op("mul", acc, expression.input(low.view(scale)))
        if bias is not None:
            acc = build.op("add", acc, expression.input(low.view(bias)))
        return acc

    return _trailing_rows(low, node, axis, make, prologue)


REDUCTIONS = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceSumSquare": "sumsq",
    "ReduceL1": "l1",
    "ReduceL2": "l2",
    "GlobalAveragePool": "mean",
    "GlobalMaxPool": "max",
}
"""ONNX operator -> `ReduceSpec.kind`."""


def reduce(low: Lowering, node: ir.Node) -> Draft:
    value = node.inputs[0]
    assert value is not None
    need(node, low.dtype(value) is F32, "only fp32 has a kernel")
    dims = low.dims(value)
    rank = len(dims)
    if node.op_type.startswith("Global"):
        axes: set[int] = set(range(2, rank))
        keepdims = True
    else:
        stated = ints(node, low.shapes, 1, "axes", default=())
        need(node, stated is not None, "the axes are only known at run time")
        assert stated is not None
        need(node, bool(stated) or not attr(node, "noop_with_empty_axes", 0), "it reduces nothing")
        axes = {a % rank for a in stated} or set(range(rank))
        keepdims = bool(attr(node, "keepdims", 1))
    source = low.view(value)
    pattern = _reduction(source.permute(low.order_of(source)), low.order_of(source), axes)
    if pattern is None:
        order = (*(a for a in range(rank) if a not in axes), *sorted(axes))
        source = low.relaid(source, order, ((0, 0),) * rank)
        pattern = _reduction(source.permute(order), order, axes)
    need(node, pattern is not None, "the reduced axes alternate too often in memory")
    assert pattern is not None
    operand_view, groups = pattern
    kept = [a for a in low.order_of(source) if a not in axes]

    def arrange(out: View, extras: Sequence[View]) -> Sequence[View]:
        views = [_kept(v, axes, keepdims, rank) for v in (out, *extras)]
        views = [_grouped(v, groups, node) for v in views]
        return [unit_inner(views[0]), operand_view, *views[1:]]

    order = _reduced_order(low.order_of(source), axes, keepdims, rank)
    assert len(kept) == sum(len(g) for g in groups)
    return Draft(
        dims=low.dims(node.outputs[0]),
        order=order,
        make=partial(ReduceSpec, kind=REDUCTIONS[node.op_type]),
        arrange=arrange,
    )


def _reduction(view: View, order: Sequence[int], axes: set[int]) -> tuple[View, list[list[int]]] | None:
    """`view` (dims in memory order) as (b0, r0, b1, r1, inner), and which axes each kept group holds."""
    runs: list[tuple[bool, list[int]]] = []
    for position, axis in enumerate(order):
        if view.dims[position] == 1:
            continue
        reduced = axis in axes
        joins = runs and runs[-1][0] == reduced and _contiguous(view, runs[-1][1][-1], position)
        if joins:
            runs[-1][1].append(position)
        else:
            runs.append((reduced, [position]))
    slots: list[list[int]] = [[], [], [], [], []]  # b0, r0, b1, r1, inner
    at = 0
    for number, (reduced, positions) in enumerate(runs):
        if number == len(runs) - 1 and not reduced:
            at = max(at, 4)  # what is contiguous goes innermost, where kernels use vectors
        while at < 5 and (at % 2 == 1) != reduced:
            at += 1
        if at == 5:
            return None
        slots[at] = positions
        at += 1
    dims = tuple(D.prod(view.dims[p] for p in s) for s in slots)
    strides = tuple(view.strides[s[-1]] if s else 0 for s in slots)
    if dims[4] != 1 and strides[4] != 1:
        return None
    packed = replace(view, dims=dims, strides=(*strides[:4], 1), halo=())
    ones = [a for p, a in enumerate(order) if view.dims[p] == 1 and a not in axes]
    groups = [[order[p] for p in slots[i]] for i in (0, 2, 4)]
    return packed, [[*ones, *groups[0]], groups[1], groups[2]]


def _contiguous(view: View, outer: int, inner: int) -> bool:
    return D.equal(view.strides[outer], D.mul(view.strides[inner], view.dims[inner]))


def _kept(view: View, axes: set[int], keepdims: bool, rank: int) -> View:
    """A view of the output with the original rank: reduced axes present as 1."""
    if keepdims:
        return view
    for axis in sorted(axes):
        view = view.insert(axis)
    return view


def _grouped(view: View, groups: list[list[int]], node: ir.Node) -> View:
    dims: list[Dim] = []
    strides: list[Dim] = []
    for group in groups:
        part = (
            collapse([view.permute(group)])[0] if group else View(buffer=view.buffer, dims=(1,), strides=(0,))
        )
        need(node, len(part.dims) == 1, "an operand's memory order does not follow the reduction")
        dims.append(part.dims[0])
        strides.append(part.strides[0])
    return replace(view, dims=tuple(dims), strides=tuple(strides), halo=())


def _reduced_order(order: Sequence[int], axes: set[int], keepdims: bool, rank: int) -> tuple[int, ...]:
    """Memory order of the output, in its own axis numbers."""
    if keepdims:
        return tuple(order)
    kept = [a for a in range(rank) if a not in axes]
    return tuple(kept.index(a) for a in order if a not in axes)


ANCHORS: dict[str, Callable[[Lowering, ir.Node], Draft]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool,
    "AveragePool": pool,
    "Resize": resize,
    "Upsample": resize,
    "MatMul": matmul,
    "Gemm": gemm,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "LayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    **dict.fromkeys(REDUCTIONS, reduce),
}
"""ONNX operator -> how it is lowered. The kernel of each takes an epilogue."""
