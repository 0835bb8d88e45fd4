"""Anchors over rows: softmax, normalization, reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.anchors_matrix import merged_rows
from bolt.graph.attributes import attr, ints, operand
from bolt.graph.draft import Draft, Expression, need, need_first_only, unit_inner
from bolt.graph.layouts import row_major
from bolt.graph.lower import Lowering
from bolt.graph.memory import collapse
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.program import View
from bolt.types import F32


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
        views = merged_rows(views, 1, node)
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
        views = merged_rows(views, 1, node)
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
