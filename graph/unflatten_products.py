"""Products of flattened rows keep the rows' dims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bolt import dims as D
from bolt.dims import Dim
from bolt.graph.attributes import attr, constant, operand
from bolt.graph.rewrite import add_constant, insert_before, nodes_of, only_use, producer, replace
from bolt.graph.shapes import Shapes, infer


class ProductUnflattening(ir.passes.InPlacePass):
    """Takes away the reshapes around a product whose second operand is a constant matrix.

        reshape(reshape(x, (rows, k)) @ b + t, (..., n))  =  x @ b + t                     x of dims (..., k)
                                                          =  reshape(x, (..., k)) @ b + t  other x

    What follows the second reshape then follows the product, and fuses with it. Float32 only.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        shapes = infer(model)
        modified = False
        for node in nodes_of(model, "Reshape"):
            modified |= _unflatten(node, shapes)
        return ir.passes.PassResult(model, modified=modified)


def _unflatten(last: ir.Node, shapes: Shapes) -> bool:
    product = producer(operand(last, 0), "Gemm", "MatMul")
    if product is None or product.graph is None or only_use(product.outputs[0]) != last:
        return False
    first = producer(operand(product, 0), "Reshape")
    x = operand(first, 0) if first is not None else None
    terms = _terms(product)
    if x is None or terms is None or not _keeps_rows(product, last, shapes):
        return False
    x = _unflattened(x, product, last, shapes)
    if x is None:
        return False
    weights, bias = terms
    if product.op_type == "Gemm" and attr(product, "transB", 0):
        array = constant(weights)
        assert array is not None
        weights = add_constant(product.graph, np.ascontiguousarray(array.T), "weights")
    out = insert_before(last, "MatMul", [x, weights], name=product.name)
    if bias is not None:
        out = insert_before(last, "Add", [out, bias], name=product.name)
    shapes.alias(out, last.outputs[0])
    replace(last, out)
    return True


def _terms(product: ir.Node) -> tuple[ir.Value, ir.Value | None] | None:
    """(weights, bias) of a plain a @ b + t."""
    weights, bias = operand(product, 1), operand(product, 2)
    array = constant(weights)
    if weights is None or array is None or array.ndim != 2 or array.dtype != np.float32:
        return None
    scales = [attr(product, name, 1.0) for name in ("alpha", "beta")]
    if attr(product, "transA", 0) or scales != [1.0, 1.0]:
        return None
    added = constant(bias)
    return None if bias is not None and (added is None or added.ndim != 1) else (weights, bias)


def _keeps_rows(product: ir.Node, last: ir.Node, shapes: Shapes) -> bool:
    """Whether `last` only cuts the rows of the flat product into several dims."""
    after = shapes.dims(last.outputs[0])
    flat_in, flat_out = shapes.dims(product.inputs[0]), shapes.dims(product.outputs[0])
    if after is None or not flat_in or not flat_out or len(flat_in) != 2:
        return False
    return len(after) > 2 and _equal(after[-1:], flat_out[-1:])


def _unflattened(x: ir.Value, product: ir.Node, last: ir.Node, shapes: Shapes) -> ir.Value | None:
    """`x` with the outer dims of the result: itself, or a reshape of it where one can be written down."""
    before, after = shapes.dims(x), shapes.dims(last.outputs[0])
    flat = shapes.dims(product.inputs[0])
    assert before is not None and after is not None and flat is not None
    wanted = (*after[:-1], flat[-1])
    if _equal(before, wanted):
        return x
    target = [d if isinstance(d, int) else -1 for d in wanted]
    if target.count(-1) > 1:
        return None
    assert last.graph is not None
    shape = add_constant(last.graph, np.array(target, np.int64), "rows")
    return insert_before(last, "Reshape", [x, shape], name=last.name)


def _equal(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    return len(a) == len(b) and all(D.equal(x, y) for x, y in zip(a, b, strict=True))
