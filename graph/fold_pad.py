"""Pad folding: zeros written around an image become the padding of what reads it."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.attributes import attr, ints, is_op, operand, scalar
from bolt.graph.rewrite import nodes_of, producer, remove_dead
from bolt.graph.shapes import Shapes, infer


class PadFolding(ir.passes.InPlacePass):
    """Moves zero padding of the spatial axes into the `pads` of Conv, AveragePool and MaxPool.

        conv(pad(x, p), pads=q)  =  conv(x, pads=p + q)

    An AveragePool then counts its padding (so it must not have had uncounted padding before), and a
    MaxPool's input must not be negative. Other readers of the padded value keep their Pad.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "Conv", "AveragePool", "MaxPool"):
            pad = producer(node.inputs[0], "Pad")
            extra = None if pad is None else _spatial_zeros(pad, shapes)
            if pad is None or extra is None or not _sees_zeros(node, pad):
                continue
            pads = _joined(node, extra)
            if pads is None:
                continue
            node.attributes["pads"] = ir.AttrInt64s("pads", pads)
            node.attributes.pop("auto_pad", None)
            if node.op_type == "AveragePool":
                node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
            node.replace_input_with(0, pad.inputs[0])
            remove_dead(pad)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _spatial_zeros(pad: ir.Node, shapes: Shapes) -> tuple[int, ...] | None:
    """(begin..., end...) of the spatial axes, when nothing but zeros is put anywhere else."""
    extents = shapes.dims(operand(pad, 0))
    pads = ints(pad, shapes, 1, "pads")
    if extents is None or pads is None or attr(pad, "mode", "constant") != "constant" or _fill(pad) != 0:
        return None
    rank = len(extents)
    axes = ints(pad, shapes, 3, None, default=range(rank))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    begin, end = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        begin[axis], end[axis] = pads[i], pads[i + len(axes)]
    if min(*begin, *end) < 0 or any((*begin[:2], *end[:2])):
        return None
    return (*begin[2:], *end[2:])


def _fill(pad: ir.Node) -> float | None:
    """The value written; None when it is computed."""
    return scalar(operand(pad, 2)) if operand(pad, 2) is not None else float(attr(pad, "value", 0.0))


def _sees_zeros(node: ir.Node, pad: ir.Node) -> bool:
    """Whether the node's own padding has the effect of zeros."""
    if node.op_type == "Conv":
        return True
    if attr(node, "ceil_mode", 0):
        return False
    own = attr(node, "pads", ())
    if node.op_type == "AveragePool":
        return bool(attr(node, "count_include_pad", 0)) or not any(own)
    return is_op(pad.inputs[0].producer() if pad.inputs[0] is not None else None, "Relu") and not any(own)


def _joined(node: ir.Node, extra: tuple[int, ...]) -> list[int] | None:
    """The node's padding plus `extra`; None when its own depends on the extents, or a pool can't have it."""
    auto_pad = attr(node, "auto_pad", "NOTSET")
    own = attr(node, "pads", (0,) * len(extra)) if auto_pad == "NOTSET" else (0,) * len(extra)
    if auto_pad not in ("NOTSET", "VALID") or len(own) != len(extra):
        return None
    total = [int(a) + b for a, b in zip(own, extra, strict=True)]
    # ORT refuses pools with windows that lie in the padding alone.
    window = [*attr(node, "kernel_shape", ()), *attr(node, "kernel_shape", ())]
    is_legal = node.op_type == "Conv" or all(p < k for p, k in zip(total, window, strict=True))
    return total if is_legal else None
