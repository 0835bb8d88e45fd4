"""Data movement: views where the strides allow, copies where they do not. `MOVERS` is the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr, ints, operand
from bolt.graph.draft import need, need_first_only
from bolt.graph.layouts import row_major
from bolt.graph.lower import Lowering
from bolt.graph.memory import collapse
from bolt.ops.pointwise import FillSpec, GatherSpec
from bolt.program import View
from bolt.types import F32, S32, S64


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def identity(low: Lowering, node: ir.Node) -> None:
    need_first_only(node)
    need(node, operand(node, 2) is None, "training mode has no kernel")
    low.settle(node.outputs[0], low.view(_first(node)))


def reshape(low: Lowering, node: ir.Node) -> None:
    out = node.outputs[0]
    low.settle(out, low.reshaped(low.view(_first(node)), low.dims(out)))


def transpose(low: Lowering, node: ir.Node) -> None:
    view = low.view(_first(node))
    perm = attr(node, "perm", tuple(reversed(range(len(view.dims)))))
    low.settle(node.outputs[0], view.permute(perm))


def expand(low: Lowering, node: ir.Node) -> None:
    out = node.outputs[0]
    low.settle(out, low.broadcast(low.view(_first(node)), low.dims(out)))


def slice_(low: Lowering, node: ir.Node) -> None:
    view, out = low.view(_first(node)), low.dims(node.outputs[0])
    rank = len(view.dims)
    starts = _slice_ints(low, node, 1, "starts")
    need(node, starts is not None, "the starts are only known at run time")
    assert starts is not None
    axes = ints(node, low.shapes, 3, "axes", default=range(len(starts)))
    steps = ints(node, low.shapes, 4, None, default=(1,) * len(starts))
    need(node, axes is not None and steps is not None, "the axes or steps are only known at run time")
    assert axes is not None and steps is not None
    for start, axis, step in zip(starts, axes, steps, strict=True):
        need(node, step > 0, "negative steps have no kernel")
        axis %= rank
        if isinstance(start, int) and start < 0:
            start = D.maximum(0, D.add(view.dims[axis], start))
        view = view.slice(axis, start, out[axis], step)
    low.settle(node.outputs[0], view)


def _slice_ints(low: Lowering, node: ir.Node, index: int, name: str) -> list[Dim] | None:
    """Integers that may be symbolic: an attribute, or an input of known content."""
    if name in node.attributes:
        return [int(i) for i in node.attributes[name].as_ints()]
    value = operand(node, index)
    known = None if value is None else low.shapes.ints(value)
    return None if known is None else [D.dim(i) for i in known.reshape(-1)]


def split(low: Lowering, node: ir.Node) -> None:
    view = low.view(_first(node))
    axis = attr(node, "axis", 0) % len(view.dims)
    start: Dim = 0
    for out in node.outputs:
        length = low.dims(out)[axis]
        low.settle(out, view.slice(axis, start, length))
        start = D.add(start, length)


def concat(low: Lowering, node: ir.Node) -> None:
    out = node.outputs[0]
    parts = [v for v in node.inputs if v is not None]
    if node in low.concats:
        whole = low.concats[node]
    else:
        views = [low.view(v) for v in parts]
        biggest = max(views, key=lambda v: D.evaluate(D.prod(v.dims), low.sample))
        order = low.layouts.order(out) if biggest.buffer.kind == "const" else low.order_of(biggest)
        whole = low.place(out, order)
    for index, part in enumerate(parts):
        slot = whole.slice(*low.concat_slot(node, index))
        view = low.view(part)
        if view.buffer is slot.buffer and D.equal(view.offset, slot.offset):
            continue
        low.copy(view, slot, nodes=(node,))
    low.settle(out, whole)


def pad(low: Lowering, node: ir.Node) -> None:
    source, out = low.view(_first(node)), node.outputs[0]
    rank = len(source.dims)
    pads = ints(node, low.shapes, 1, "pads")
    need(node, pads is not None and min(pads) >= 0, "the pads are negative or only known at run time")
    assert pads is not None
    axes = ints(node, low.shapes, 3, None, default=range(rank))
    need(node, axes is not None, "the axes are only known at run time")
    assert axes is not None
    around = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        around[axis % rank] = pads[position], pads[position + len(axes)]
    mode = attr(node, "mode", "constant")
    if mode == "constant":
        whole = _surrounded(low, node)
    else:
        need(node, mode in _MIRRORS, f"padding mode {mode} has no kernel")
        whole = low.place(out, low.order_of(source))
    inner = whole
    for axis, (before, _) in enumerate(around):
        inner = inner.slice(axis, before, source.dims[axis])
    low.copy(source, inner, nodes=(node,))
    if mode != "constant":
        _mirror(low, node, inner, around, mode)
    low.settle(out, whole)


_MIRRORS = {"reflect": (1, -1), "edge": (0, 0)}
"""Padding mode -> (how far behind the border what is copied begins, the step from there)."""


def _surrounded(low: Lowering, node: ir.Node) -> View:
    """The place of a Pad's output, filled with its constant."""
    value, source = operand(node, 2), low.view(_first(node))
    fill = attr(node, "value", 0.0) if value is None else low.array(value)
    need(node, fill is not None, "the padding value is only known at run time")
    whole = low.place(node.outputs[0], low.order_of(source))
    (flat,) = collapse([whole.permute(low.order_of(whole))])

    def make(**operands: object) -> FillSpec:
        return FillSpec(value=float(np.asarray(fill).reshape(())), **operands)  # type: ignore[arg-type]

    low.emit(make, (flat,), nodes=(node,))
    return whole


def _mirror(low: Lowering, node: ir.Node, inner: View, around: Sequence[tuple[int, int]], mode: str) -> None:
    """Fills `around[axis]` elements before and after each axis of `inner` from its inside."""
    behind, step = _MIRRORS[mode]
    for axis, (before, after) in enumerate(around):
        extent = inner.dims[axis]
        enough = not behind or (isinstance(extent, int) and extent > max(before, after))
        need(node, enough, "the border mirrors more than there is, or what is only known at run time")
        last = D.sub(extent, 1 + behind)
        for count, start, source in ((before, -before, -step * before), (after, extent, last)):
            if count:
                copied = inner.slice(axis, source, count, step)
                low.copy(copied, inner.slice(axis, start, count), nodes=(node,))
        inner = inner.slice(axis, -before, D.add(extent, before + after))


def gather(low: Lowering, node: ir.Node) -> None:
    table, out = low.view(_first(node)), node.outputs[0]
    index = operand(node, 1)
    assert index is not None
    axis = attr(node, "axis", 0) % len(table.dims)
    known = low.shapes.ints(index)
    if known is not None and known.size == 1:
        start = D.dim(known.reshape(-1)[0])
        if isinstance(start, int) and start < 0:
            start = D.add(table.dims[axis], start)
        view = table.slice(axis, start, 1)
        low.settle(out, view.remove(axis) if known.ndim == 0 else view.reshape(low.dims(out)) or view)
        return
    need(node, low.dtype(index) in (S32, S64), "the index is not an integer tensor")
    table = low.dense(table)
    split = (D.prod(table.dims[:axis]), table.dims[axis], D.prod(table.dims[axis + 1 :]))
    _pick(low, node, table, split, low.dense(low.view(index)))


def gather_nd(low: Lowering, node: ir.Node) -> None:
    table, out = low.view(_first(node)), node.outputs[0]
    index = low.array(operand(node, 1))
    need(node, index is not None, "the indices are only known at run time")
    need(node, not attr(node, "batch_dims", 0), "batch dims have no kernel")
    assert index is not None
    depth = index.shape[-1]
    extents = table.dims[:depth]
    need(node, D.is_static(*extents), "the indexed dims are only known at run time")
    limits = tuple(int(d) for d in extents)
    along = [index[..., axis].reshape(-1) % limit for axis, limit in enumerate(limits)]
    rows = np.ravel_multi_index(along, limits)
    table, inner = low.dense(table), D.prod(table.dims[depth:])
    if np.array_equal(rows, np.arange(rows[0], rows[0] + rows.size)):
        flat = low.reshaped(table, (int(np.prod(limits)), inner))
        low.settle(out, low.reshaped(flat.slice(0, int(rows[0]), rows.size), low.dims(out)))
        return
    _pick(low, node, table, (1, int(np.prod(limits)), inner), low.const(rows.astype(np.int64)))


def _pick(low: Lowering, node: ir.Node, table: View, split: tuple[Dim, Dim, Dim], picks: View) -> None:
    """The node's output is what `picks` chooses along the middle of `table` split in three."""
    out = node.outputs[0]
    outer, extent, inner = split
    count = D.prod(picks.dims)
    target = low.place(out, row_major(len(low.dims(out))))
    if low.array(_first(node)) is not None:
        table = low.as_type(table, target.dtype)
    # A kernel gathers elements of one type; what is not kept in the table's is converted afterwards.
    found = target if target.dtype is table.dtype else low.temp(table.dtype, target.dims)
    views = [
        found.reshape((outer, count, inner)),
        table.reshape((outer, extent, inner)),
        picks.reshape((count,)),
    ]
    need(node, all(v is not None for v in views), "the dims do not merge")
    low.emit(GatherSpec, [v for v in views if v is not None], nodes=(node,))
    if found is not target:
        low.copy(found, target, nodes=(node,))
    low.settle(out, target)


def constant_of_shape(low: Lowering, node: ir.Node) -> None:
    out = node.outputs[0]
    need(node, low.dtype(out) is F32, "only fp32 has a kernel")
    value = attr(node, "value")
    fill = 0.0 if value is None else float(value.numpy().reshape(()))
    target = low.place(out, None)
    (flat,) = collapse([target])

    def make(**operands: object) -> FillSpec:
        return FillSpec(value=fill, **operands)  # type: ignore[arg-type]

    low.emit(make, (flat,), nodes=(node,))
    low.settle(out, target)


def depth_to_space(low: Lowering, node: ir.Node) -> None:
    view = low.view(_first(node))
    n, _, h, w = view.dims
    block = attr(node, "blocksize")
    out = low.dims(node.outputs[0])
    crd = attr(node, "mode", "DCR") == "CRD"
    split = (n, out[1], block, block, h, w) if crd else (n, block, block, out[1], h, w)
    perm = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    low.settle(node.outputs[0], low.reshaped(low.reshaped(view, split).permute(perm), out))


def space_to_depth(low: Lowering, node: ir.Node) -> None:
    view = low.view(_first(node))
    n, c, _, _ = view.dims
    block = attr(node, "blocksize")
    out = low.dims(node.outputs[0])
    split = (n, c, out[2], block, out[3], block)
    low.settle(node.outputs[0], low.reshaped(low.reshaped(view, split).permute((0, 3, 5, 1, 2, 4)), out))


MOVERS: dict[str, Callable[[Lowering, ir.Node], None]] = {
    "Identity": identity,
    "Dropout": identity,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Transpose": transpose,
    "Expand": expand,
    "Slice": slice_,
    "Split": split,
    "Concat": concat,
    "Pad": pad,
    "Gather": gather,
    "GatherND": gather_nd,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}
"""ONNX operator -> how its outputs come to be views."""
