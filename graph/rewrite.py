"""Editing a graph: what every pass needs to do to nodes and values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bolt.graph.attributes import BOLT_DOMAIN, is_op

_SINCE = {
    "Gelu": 20,
    "LayerNormalization": 17,
    "RMSNormalization": 23,
    "HardSwish": 14,
    "Mish": 18,
    "Swish": 24,
}
"""Opset that brought an operator into ONNX's own domain."""

_OWN = frozenset({"QuantizedConv", "QuantizedMatMul"})
"""Operators that ONNX does not have."""


def nodes_of(model: ir.Model, *op_types: str) -> Iterator[ir.Node]:
    """The main graph's nodes of these types, as they were when the iteration began."""
    return (n for n in list(model.graph) if n.graph is not None and is_op(n, *op_types))


def become_constants(model: ir.Model, op_type: str, known: Callable[[ir.Node], np.ndarray | None]) -> bool:
    """Replaces results of `op_type`, but no output of the model, by what `known` says; whether it did."""
    modified = False
    for node in nodes_of(model, op_type):
        value = node.outputs[0]
        array = None if value.is_graph_output() else known(node)
        if array is not None:
            value.replace_all_uses_with(add_constant(model.graph, array, value.name or op_type))
            remove_dead(node)
            modified = True
    return modified


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that computes `value`, if it is one of these standard operators."""
    node = None if value is None else value.producer()
    return node if is_op(node, *op_types) else None


def only_use(value: ir.Value) -> ir.Node | None:
    """The one node that reads `value`; None when there are more, or the caller reads it too."""
    uses = value.uses()
    if value.is_graph_output() or len(uses) != 1:
        return None
    return next(iter(uses))[0]


def is_read_by(value: ir.Value, node: ir.Node) -> bool:
    """Whether `node` is the one node that reads `value`."""
    return bool(only_use(value) == node)


def is_private(value: ir.Value) -> bool:
    """Whether a single node input is all that reads `value`."""
    return only_use(value) is not None


def forward(old: ir.Value, new: ir.Value) -> bool:
    """Lets everything that reads `old` read `new`; False when that is not possible.

    A graph output keeps its name: then `new` takes the name over, which a graph input, a constant, a value
    of another graph or another graph output can't do.
    """
    if old.is_graph_output():
        if new.is_graph_input() or new.is_initializer() or new.is_graph_output():
            return False
        if new.producer() is None or old.graph is not new.producer().graph:  # type: ignore[union-attr]
            return False
        name, kind, extents = old.name, old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None
        new.name, new.type, new.shape = name, kind or new.type, extents or new.shape
        return True
    old.replace_all_uses_with(new)
    return True


def insert_before(
    anchor: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
) -> ir.Value:
    """A node with one output in front of `anchor`; returns the output.

    Operators that the model's opset does not have yet are created in bolt's domain.
    """
    graph = anchor.graph
    assert graph is not None
    opset = graph.opset_imports.get("", 1)
    is_standard = op_type not in _OWN and opset >= _SINCE.get(op_type, 1)
    domain = "" if is_standard else BOLT_DOMAIN
    if domain:
        graph.opset_imports.setdefault(domain, 1)
    unique = fresh_name(graph, name or op_type)
    node = ir.node(op_type, list(inputs), dict(attributes or {}), domain=domain, name=unique)
    node.outputs[0].name = unique
    node.outputs[0].type = anchor.outputs[0].type
    graph.insert_before(anchor, node)
    return node.outputs[0]


def fresh_name(graph: ir.Graph | ir.Function, hint: str) -> str:
    """A name that no value and no node of the graph has, the same on every run."""
    taken = graph.meta.get("bolt.names")
    if taken is None:
        taken = {name for n in graph.all_nodes() for name in (n.name, *(o.name for o in n.outputs))}
        taken |= {v.name for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())}
        graph.meta["bolt.names"] = taken
    stem = re.sub(r"_bolt\d*$", "", hint)
    candidate, count = f"{stem}_bolt", 1
    while candidate in taken:
        count += 1
        candidate = f"{stem}_bolt{count}"
    taken.add(candidate)
    return candidate


def add_constant(graph: ir.Graph | ir.Function, array: np.ndarray, hint: str) -> ir.Value:
    """A new initializer; existing ones are never changed because other nodes may share them."""
    assert isinstance(graph, ir.Graph)
    tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array)
    name = fresh_name(graph, hint)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(node: ir.Node, new: ir.Value) -> None:
    """Lets `new`, computed by a node inserted for this purpose, stand for the node's only output."""
    done = forward(node.outputs[0], new)
    assert done, "an inserted node's output can always take a name over"
    remove_dead(node)


def remove_dead(node: ir.Node) -> None:
    """Removes `node` and then whatever only it used, as long as no one reads them."""
    stack = [node]
    while stack:
        candidate = stack.pop()
        graph = candidate.graph
        if graph is None or any(o.uses() or o.is_graph_output() for o in candidate.outputs):
            continue
        before = [p for v in candidate.inputs if v is not None and (p := v.producer()) is not None]
        graph.remove(candidate, safe=True)
        stack.extend(dict.fromkeys(before))
