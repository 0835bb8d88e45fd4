"""Product merging: matrices that multiply the same rows become one matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import constant, operand
from bolt.graph.rewrite import add_constant, fresh_name, insert_before, nodes_of, only_use, replace
from bolt.graph.shapes import Shapes, infer
from bolt.types import EIGHT_BIT_FLOATS, from_numpy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """x @ weights (+ bias); `last` computes the result.

    Attributes:
        scaled: of a product of 8-bit floats, what its further inputs say of each column: scales, and a bias
            where it adds one itself.
    """

    matmul: ir.Node
    last: ir.Node
    weights: np.ndarray
    bias: np.ndarray | None
    scaled: tuple[np.ndarray, ...] = ()

    @property
    def kind(self) -> tuple[object, ...]:
        """What products that are joined have in common."""
        return (
            self.matmul.inputs[0],
            self.matmul.op_type,
            self.weights.dtype,
            self.bias is None,
            len(self.scaled),
        )


class ProductMerging(ir.passes.InPlacePass):
    """Joins products of one value with constant matrices, and the biases added to them.

        x @ a + s,  x @ b + t   =   split(x @ [a b] + [s t])

    As do queries, keys and values of an attention. One wide product fills a GPU where three narrow ones leave
    most of it idle; the parts are views of the result. Float32 and 8-bit floats only.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        groups: dict[tuple[object, ...], list[_Product]] = {}
        for node in nodes_of(model, "MatMul", "QuantizedMatMul"):
            found = _product(node, shapes)
            if found is not None:
                groups.setdefault(found.kind, []).append(found)
        several = [group for group in groups.values() if len(group) > 1]
        for group in several:
            _merge(group)
        return ir.passes.PassResult(model, modified=bool(several))


def _product(node: ir.Node, shapes: Shapes) -> _Product | None:
    weights, extents = constant(operand(node, 1)), shapes.dims(node.outputs[0])
    if weights is None or weights.ndim != 2 or extents is None:
        return None
    scaled = _scaled(node, weights)
    if scaled is None:
        return None
    add = only_use(node.outputs[0])
    if add is not None and add.op_type == "Add":
        for value in add.inputs:
            bias = constant(value)
            if bias is not None and bias.shape == weights.shape[1:] and bias.dtype == np.float32:
                return _Product(matmul=node, last=add, weights=weights, bias=bias, scaled=scaled)
    return _Product(matmul=node, last=node, weights=weights, bias=None, scaled=scaled)


def _scaled(node: ir.Node, weights: np.ndarray) -> tuple[np.ndarray, ...] | None:
    """`_Product.scaled`; None of weights that are not joined."""
    if node.op_type == "MatMul":
        return () if weights.dtype == np.float32 else None
    numbers = [constant(value) for value in node.inputs[2:]]
    if from_numpy(weights.dtype) not in EIGHT_BIT_FLOATS:
        return None
    known = [n for n in numbers if n is not None]
    columns = weights.shape[1]
    return tuple(np.broadcast_to(n, (columns,)) for n in known) if len(known) == len(numbers) else None


def _merge(group: list[_Product]) -> None:
    first = group[0].matmul
    graph = first.graph
    assert isinstance(graph, ir.Graph)
    weights = np.concatenate([p.weights for p in group], axis=1)
    inputs = [first.inputs[0], add_constant(graph, weights, "weights")]
    for parts in zip(*(p.scaled for p in group), strict=True):
        inputs.append(add_constant(graph, np.concatenate(parts), "scaled"))
    attributes = {a.name: a.value for a in first.attributes.values()}
    whole = insert_before(first, first.op_type, inputs, attributes, name=first.name)
    biases = [p.bias for p in group if p.bias is not None]
    if biases:
        bias = add_constant(graph, np.concatenate(biases), "bias")
        whole = insert_before(first, "Add", [whole, bias], name=group[0].last.name)
    for product, part in zip(group, _split(first, whole, [p.weights.shape[1] for p in group]), strict=True):
        part.type = product.last.outputs[0].type
        replace(product.last, part)


def _split(anchor: ir.Node, value: ir.Value, sizes: list[int]) -> list[ir.Value]:
    """`value` cut along its last axis by a Split in front of `anchor`."""
    graph = anchor.graph
    assert isinstance(graph, ir.Graph)
    attributes: dict[str, object] = {"axis": -1}
    inputs = [value]
    if graph.opset_imports.get("", 1) < 13:
        attributes["split"] = sizes
    else:
        inputs.append(add_constant(graph, np.asarray(sizes, np.int64), "sizes"))
    name = fresh_name(graph, "Split")
    node = ir.node("Split", inputs, attributes, num_outputs=len(sizes), name=name)
    for output in node.outputs:
        output.name = fresh_name(graph, "part")
    graph.insert_before(anchor, node)
    return list(node.outputs)
