"""A product with a constant matrix and a Transpose of its rows change places."""

from __future__ import annotations

import onnx_ir as ir

from bolt.graph.attributes import attr, constant, operand
from bolt.graph.merge_moves import RESHAPES
from bolt.graph.rewrite import insert_before, is_read_by, nodes_of, only_use, producer, replace

_MOVES = ("Transpose", *RESHAPES)


class ProductSwapping(ir.passes.InPlacePass):
    """Transposes of rows gather where other moves are, and merge with them.

        transpose(x @ b + t, p)  =  transpose(x, p) @ b + t      x is moved, too
        transpose(x, p) @ b + t  =  transpose(x @ b + t, p)      x is computed in place

    for a constant matrix b, an optional constant vector t, and a p that leaves the last axis where it is.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in nodes_of(model, "Transpose"):
            modified |= _hoist(node)
        for node in nodes_of(model, "MatMul"):
            modified |= _sink(node)
        return ir.passes.PassResult(model, modified=modified)


def _hoist(node: ir.Node) -> bool:
    perm, last = _row_perm(node), node.inputs[0]
    add = producer(last, "Add")
    bias = None if add is None else _bias(add)
    matmul = producer(last, "MatMul") if add is None else producer(_term(add), "MatMul")
    if perm is None or matmul is None or not _is_plain(matmul) or (add is not None and bias is None):
        return False
    if not is_read_by(matmul.outputs[0], add or node) or last is None or not is_read_by(last, node):
        return False
    if producer(matmul.inputs[0], *_MOVES) is None:
        return False
    out = insert_before(node, "Transpose", [matmul.inputs[0]], {"perm": perm}, name=node.name)
    out = insert_before(node, "MatMul", [out, matmul.inputs[1]], name=matmul.name)
    replace(node, out if bias is None else insert_before(node, "Add", [out, bias], name=matmul.name))
    return True


def _sink(matmul: ir.Node) -> bool:
    transpose = producer(matmul.inputs[0], "Transpose")
    perm = None if transpose is None else _row_perm(transpose)
    if transpose is None or perm is None or not _is_plain(matmul):
        return False
    if not is_read_by(transpose.outputs[0], matmul) or producer(transpose.inputs[0], *_MOVES) is not None:
        return False
    add = only_use(matmul.outputs[0])
    bias = _bias(add) if add is not None and add.op_type == "Add" else None
    last = matmul if bias is None or add is None else add
    out = insert_before(last, "MatMul", [transpose.inputs[0], matmul.inputs[1]], name=matmul.name)
    if bias is not None:
        out = insert_before(last, "Add", [out, bias], name=last.name)
    replace(last, insert_before(last, "Transpose", [out], {"perm": perm}, name=transpose.name))
    return True


def _row_perm(transpose: ir.Node) -> list[int] | None:
    """The permutation, if it leaves the last axis where it is."""
    perm = [int(axis) for axis in attr(transpose, "perm", ())]
    return perm if perm and perm[-1] == len(perm) - 1 else None


def _is_plain(matmul: ir.Node) -> bool:
    """Whether the second operand is a constant matrix."""
    weights = constant(operand(matmul, 1))
    return weights is not None and weights.ndim == 2


def _bias(add: ir.Node) -> ir.Value | None:
    """The constant vector that `add` adds."""
    for value in add.inputs:
        array = constant(value)
        if array is not None and array.ndim == 1:
            return value
    return None


def _term(add: ir.Node) -> ir.Value | None:
    """What `add` adds its constant vector to."""
    bias = _bias(add)
    return next((value for value in add.inputs if value is not bias), None)
