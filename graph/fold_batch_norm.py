"""BatchNormalization folding: inference statistics become weights."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bolt.graph.affine import ANCHORS, Affine, absorb, channels
from bolt.graph.attributes import attr, constant, operand
from bolt.graph.rewrite import add_constant, insert_before, is_private, nodes_of, producer, replace
from bolt.graph.shapes import Shapes, infer


class BatchNormFolding(ir.passes.InPlacePass):
    """Folds BatchNormalization (inference) into the anchor before it, or spells it as Mul and Add.

        s = scale / sqrt(var + epsilon)         bn(x) = x * s + (bias - mean * s)

    The anchor has to be read by the normalization alone.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        shapes = infer(model)
        for node in nodes_of(model, "BatchNormalization"):
            affine = _affine(node)
            if affine is not None:
                modified |= _absorbed(node, affine, shapes) or _spelled_out(node, affine, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _affine(node: ir.Node) -> Affine | None:
    """The map of a BatchNormalization in inference mode with constant parameters; None for any other."""
    parameters = [constant(operand(node, i)) for i in range(1, 5)]
    is_training = attr(node, "training_mode", 0) or not attr(node, "spatial", 1)
    is_read = any(o.uses() or o.is_graph_output() for o in node.outputs[1:])
    if is_training or is_read or any(p is None for p in parameters):
        return None
    scale, bias, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    if scale.ndim != 1 or len({p.shape for p in (scale, bias, mean, variance)}) != 1:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = scale / np.sqrt(variance + float(attr(node, "epsilon", 1e-5)))
        shift = bias - mean * factor
    is_finite = bool(np.isfinite(factor).all() and np.isfinite(shift).all())
    return Affine(scale=factor, shift=shift) if is_finite else None


def _absorbed(node: ir.Node, affine: Affine, shapes: Shapes) -> bool:
    value = node.inputs[0]
    anchor = producer(value, *ANCHORS)
    if anchor is None or value is None or not is_private(value) or channels(anchor) != affine.scale.size:
        return False
    extents = shapes.dims(anchor.inputs[0])
    if anchor.op_type in ("Gemm", "MatMul") and (extents is None or len(extents) != 2):
        return False
    replace(node, absorb(anchor, affine))
    return True


def _spelled_out(node: ir.Node, affine: Affine, shapes: Shapes) -> bool:
    extents = shapes.dims(node.inputs[0])
    dtype = shapes.onnx_dtype(node.outputs[0])
    if extents is None or len(extents) < 2 or dtype is None:
        return False
    along_channel = (-1, *(1 for _ in extents[2:]))
    stem = node.name or "BatchNormalization"
    scale, shift = (
        add_constant(model_graph(node), a.astype(dtype.numpy()).reshape(along_channel), f"{stem}_{part}")
        for a, part in ((affine.scale, "scale"), (affine.shift, "shift"))
    )
    scaled = insert_before(node, "Mul", [node.inputs[0], scale], name=f"{stem}_mul")
    replace(node, insert_before(node, "Add", [scaled, shift], name=f"{stem}_add"))
    return True


def model_graph(node: ir.Node) -> ir.Graph:
    """The graph a node of the main graph is in."""
    assert isinstance(node.graph, ir.Graph)
    return node.graph
