"""Quantization in front of data movement, right where values are computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import constant, operand
from bolt.graph.match import clip_range
from bolt.graph.quantization import QUANTIZE, VIEWS, Quantizer, dequantized, duplicate, quantizer
from bolt.graph.rewrite import add_constant, forward, is_private, nodes_of, producer, remove_dead


class QuantizeRaising(ir.passes.InPlacePass):
    """Quantizes before data is moved, never what was just dequantized, and without a clip that it is itself.

    quantize(move(x)) = move(quantize(x))     quantize(dequantize(q)) = q     quantize(relu(x)) = quantize(x)
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, QUANTIZE):
            found = quantizer(node)
            if found is not None:
                modified |= _vanish(node, found) or _unclip(node, found) or raise_above(node, *_MOVES)
        return ir.passes.PassResult(model, modified=modified)


def _vanish(node: ir.Node, found: Quantizer) -> bool:
    inner = dequantized(node.inputs[0])
    if inner is None or inner.quantizer != found or not forward(node.outputs[0], inner.integers):
        return False
    remove_dead(node)
    return True


def _unclip(node: ir.Node, found: Quantizer) -> bool:
    """Takes what is clipped to no less than the range of the integers before it is clipped."""
    value = node.inputs[0]
    clipped = clip_range(value) if value is not None and is_private(value) else None
    if clipped is None or value is None:
        return False
    source, low, high = clipped
    limits = np.iinfo(found.dtype)
    below, above = (round(v / found.scale) + found.zero if np.isfinite(v) else v for v in (low, high))
    if below > limits.min or above < limits.max:
        return False
    node.replace_input_with(0, source)
    last = value.producer()
    assert last is not None
    remove_dead(last)
    return True


_MOVES = (*VIEWS, "MaxPool", "Concat")


def raise_above(node: ir.Node, *moves: str) -> bool:
    """Quantizes in front of the move that made what `node` quantizes, where it is one of `moves`."""
    moved = node.inputs[0]
    move = producer(moved, *moves)
    if move is None or moved is None or not is_private(moved) or len(move.outputs) > 1:
        return False
    is_concat = move.op_type == "Concat"
    sources = move.inputs if is_concat else move.inputs[:1]
    if node.outputs[0].is_graph_output() or not _computed(sources, shared=is_concat):
        return False
    for index, source in enumerate(sources):
        assert source is not None
        integers = duplicate(node, source, before=move)
        integers.type = node.outputs[0].type
        move.replace_input_with(index, integers)
    moved.type = node.outputs[0].type
    forward(node.outputs[0], moved)
    remove_dead(node)
    return True


def _computed(values: Sequence[ir.Value | None], *, shared: bool) -> bool:
    """Whether all are results of nodes, and unless they may be `shared`, of interest to one reader only."""
    found = [v for v in values if v is not None and v.producer() is not None]
    return len(found) == len(values) and (shared or all(is_private(v) for v in found))


class QuantizeScaling(ir.passes.InPlacePass):
    """Lets a product compute in units of the step its result is quantized with.

        quantize(acc * s + b; step, zero)   =  quantize(acc * (s / step) + (b / step + zero); 1, 0)
        quantize(relu(acc * s + b); step, zero)  =  quantize(relu(acc * (s / step) + b / step); 1, zero)

    A quantization's result does not tell its step, so that those who read it are not concerned.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, QUANTIZE):
            found = quantizer(node)
            if found is not None and (found.scale != 1.0 or found.zero):
                modified |= _scale(node, found)
        return ir.passes.PassResult(model, modified=modified)


def _scale(node: ir.Node, found: Quantizer) -> bool:
    value = node.inputs[0]
    relu = producer(value, "Relu")
    source = value if relu is None else relu.inputs[0]
    product = producer(source, "QuantizedConv", "QuantizedMatMul")
    if product is None or value is None or source is None or not (is_private(value) and is_private(source)):
        return False
    zero = 0 if relu is not None else found.zero
    if found.scale == 1.0 and not zero:
        return False
    _rescale(product, found.scale, zero)
    graph, dtype = product.graph, found.dtype
    assert graph is not None
    node.replace_input_with(1, add_constant(graph, np.array(1.0, np.float32), "step"))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, add_constant(graph, np.array(found.zero - zero, dtype), "zero"))
    return True


def _rescale(product: ir.Node, step: float, zero: int) -> None:
    """Makes the product's results multiples of `step` plus `zero`."""
    graph, stem = product.graph, product.name or product.op_type
    scale, bias = constant(operand(product, 2)), constant(operand(product, 3))
    weights = constant(operand(product, 1))
    assert graph is not None and scale is not None and weights is not None
    new_scale = (scale.astype(np.float64) / step).astype(np.float32)
    product.replace_input_with(2, add_constant(graph, new_scale, f"{stem}_scale"))
    if bias is None and not zero:
        return
    count = weights.shape[0 if product.op_type == "QuantizedConv" else 1]
    numbers = np.zeros(count) if bias is None else bias.astype(np.float64)
    if len(product.inputs) < 4:
        product.resize_inputs(4)
    new_bias = (numbers / step + zero).astype(np.float32)
    product.replace_input_with(3, add_constant(graph, new_bias, f"{stem}_bias"))
