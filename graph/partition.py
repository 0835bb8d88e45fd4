"""Partition: the largest convex subgraphs that one module can compute."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bolt.report import Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A convex subgraph: no path leaves it and comes back.

    Attributes:
        name: unique within the model.
        nodes: in topological order.
        inputs: values that enter it, in order of first use; constants are not among them.
        outputs: values used outside it or by the model's caller, in order of computation.
    """

    name: str
    nodes: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]


def partition(
    model: ir.Model, supported: Callable[[ir.Node], Rejection | None]
) -> tuple[tuple[Partition, ...], tuple[Rejection, ...]]:
    """Splits the model's main graph.

    Args:
        supported: None for a node a module can compute, else why it can't.

    Returns:
        Partitions in an order in which they can run, and one Rejection per node left out.
    """
    nodes = list(model.graph)
    verdicts = [supported(node) for node in nodes]
    groups = _grow(nodes, [v is None for v in verdicts])
    _merge(nodes, groups)
    members: dict[int, list[ir.Node]] = {}
    for node, group in zip(nodes, groups, strict=True):
        if group is not None:
            members.setdefault(group, []).append(node)
    unnamed = [_describe("", group) for group in members.values()]
    ordered = [unit for unit in schedule(nodes, unnamed) if isinstance(unit, Partition)]
    named = tuple(_describe(f"bolt_{i}", p.nodes) for i, p in enumerate(ordered))
    return named, tuple(v for v in verdicts if v is not None)


def drop(
    partitions: Iterable[Partition], reject: Callable[[Partition], Rejection | None]
) -> tuple[tuple[Partition, ...], tuple[Rejection, ...]]:
    """The partitions `reject` returns None for, and the reasons of the others."""
    verdicts = [(p, reject(p)) for p in partitions]
    return tuple(p for p, v in verdicts if v is None), tuple(v for _, v in verdicts if v is not None)


def used_values(node: ir.Node) -> Iterator[ir.Value]:
    """The node's inputs, and the values that its subgraphs capture."""
    yield from (v for v in node.inputs if v is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from _captured(graph)


def _captured(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from used_values(node)
    yield from (v for v in graph.outputs if v is not None)


def schedule(nodes: Sequence[ir.Node], partitions: Iterable[Partition]) -> list[ir.Node | Partition]:
    """Nodes outside all partitions, and partitions, in a topological order that stays close to `nodes`."""
    unit_of: dict[ir.Node, ir.Node | Partition] = {node: node for node in nodes}
    for part in partitions:
        unit_of.update(dict.fromkeys(part.nodes, part))
    position: dict[int, int] = {}
    units: list[ir.Node | Partition] = []
    index: list[int] = []
    for node in nodes:
        unit = unit_of[node]
        if id(unit) not in position:
            position[id(unit)] = len(units)
            units.append(unit)
        index.append(position[id(unit)])
    return [units[i] for i in _topological(len(units), _edges(nodes, index))]


def _topological(count: int, edges: set[tuple[int, int]]) -> list[int]:
    """Kahn's algorithm; the lowest ready unit goes first."""
    waiting = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        waiting[b] += 1
        after[a].append(b)
    ready = [i for i in range(count) if not waiting[i]]
    order: list[int] = []
    while ready:
        unit = heapq.heappop(ready)
        order.append(unit)
        for successor in after[unit]:
            waiting[successor] -= 1
            if not waiting[successor]:
                heapq.heappush(ready, successor)
    assert len(order) == count, "a partition is not convex"
    return order


def _edges(nodes: Sequence[ir.Node], unit: Sequence[int]) -> set[tuple[int, int]]:
    """(producer unit, user unit) pairs between different units."""
    index = {node: i for i, node in enumerate(nodes)}
    edges = set()
    for user, node in enumerate(nodes):
        for value in used_values(node):
            producer = index.get(value.producer())  # type: ignore[arg-type]
            if producer is not None and unit[producer] != unit[user]:
                edges.add((unit[producer], unit[user]))
    return edges


def _grow(nodes: Sequence[ir.Node], supported: Sequence[bool]) -> list[int | None]:
    """A first grouping: supported nodes that are connected and have the same level.

    A node's level counts how often the longest way to it leaves supported ground. A path out of a group
    and back again would raise the level, so groups of one level are convex.
    """
    index = {node: i for i, node in enumerate(nodes)}
    level = [0] * len(nodes)
    groups: list[int | None] = [None] * len(nodes)
    root = list(range(len(nodes)))
    for i, node in enumerate(nodes):
        before = [index[p] for v in used_values(node) if (p := v.producer()) in index]
        for j in before:
            level[i] = max(level[i], level[j] + (supported[j] and not supported[i]))
        if supported[i]:
            for j in before:
                if supported[j] and level[j] == level[i]:
                    _union(root, i, j)
    for i in range(len(nodes)):
        if supported[i]:
            groups[i] = _find(root, i)
    return groups


def _find(root: list[int], i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i


def _union(root: list[int], a: int, b: int) -> None:
    a, b = sorted((_find(root, a), _find(root, b)))
    root[b] = a


def _merge(nodes: Sequence[ir.Node], groups: list[int | None]) -> None:
    """Joins neighbouring groups (in place) as long as every group stays convex."""
    after: dict[int, set[int]] = {}
    for a, b in _edges(nodes, [i if g is None else g for i, g in enumerate(groups)]):
        after.setdefault(a, set()).add(b)
    root = {g: g for g in groups if g is not None}
    merged = True
    while merged:
        merged = False
        for a in sorted(set(root.values())):
            for b in sorted(after.get(a, ())):
                if root.get(b) == b and b in after[a] and not _detour(after, a, b):
                    _join(after, root, a, b)
                    merged = True
    groups[:] = [None if g is None else root[g] for g in groups]


def _join(after: dict[int, set[int]], root: dict[int, int], a: int, b: int) -> None:
    """Makes group `b` part of its predecessor `a`."""
    after[a] = (after[a] | after.pop(b, set())) - {a, b}
    for successors in after.values():
        if b in successors:
            successors.remove(b)
            successors.add(a)
    after[a].discard(a)
    for group, owner in root.items():
        if owner == b:
            root[group] = a


def _detour(after: dict[int, set[int]], start: int, end: int) -> bool:
    """Whether a path leads from `start` to `end` other than by the direct edge."""
    stack = [u for u in after.get(start, ()) if u != end]
    seen = set(stack)
    while stack:
        for successor in after.get(stack.pop(), ()):
            if successor == end:
                return True
            if successor not in seen:
                seen.add(successor)
                stack.append(successor)
    return False


def _describe(name: str, nodes: Sequence[ir.Node]) -> Partition:
    inside = set(nodes)
    inputs: dict[ir.Value, None] = {}
    outputs: dict[ir.Value, None] = {}
    for node in nodes:
        for value in used_values(node):
            if value.producer() not in inside and not is_constant(value):
                inputs[value] = None
        for value in node.outputs:
            if value.is_graph_output() or any(user not in inside for user, _ in value.uses()):
                outputs[value] = None
    return Partition(name=name, nodes=tuple(nodes), inputs=tuple(inputs), outputs=tuple(outputs))


def is_constant(value: ir.Value) -> bool:
    """Whether the value is a weight (and not something the caller may feed)."""
    return value.is_initializer() and not value.is_graph_input()
