"""Regions: one anchor with the pointwise operations around it, the unit that becomes one kernel.

First every pointwise node is gathered with the pointwise producers that feed only it, so that a diamond
(SiLU, GELU by parts) is one expression with one result. Then each of these expressions takes in one anchor
whose output it alone reads, and becomes that anchor's epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bolt import dims as D
from bolt.graph.shapes import Shapes

MAX_NODES = 48
"""Pointwise nodes in one region; more only lengthen live ranges."""

MAX_INPUTS = 8
"""Tensors one region reads besides its anchor; each costs the kernel a pointer register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Nodes that become one kernel (or one view).

    Attributes:
        anchor: the node the kernel is named after; None for a purely pointwise region.
        pointwise: the expression around it, in topological order.
        output: the one value the region computes (of an anchor-only region: the anchor's first output).
    """

    anchor: ir.Node | None
    pointwise: tuple[ir.Node, ...]
    output: ir.Value

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return (self.anchor, *self.pointwise) if self.anchor is not None else self.pointwise


def grow(
    nodes: Sequence[ir.Node],
    outputs: frozenset[ir.Value],
    shapes: Shapes,
    *,
    is_pointwise: Callable[[ir.Node], bool],
    takes_epilogue: Callable[[ir.Node], bool],
) -> tuple[Region, ...]:
    """Cover `nodes` (topological order) with regions, themselves in topological order.

    Args:
        nodes: the nodes of one partition.
        outputs: values of the partition that are read outside it.
        shapes: their dims.
        is_pointwise: whether a node is part of the epilogue language.
        takes_epilogue: whether a node's kernel can apply an expression to its output.
    """
    return _Grower(nodes, outputs, shapes, is_pointwise, takes_epilogue).run()


class _Grower:
    def __init__(
        self,
        nodes: Sequence[ir.Node],
        outputs: frozenset[ir.Value],
        shapes: Shapes,
        is_pointwise: Callable[[ir.Node], bool],
        takes_epilogue: Callable[[ir.Node], bool],
    ) -> None:
        self.nodes = tuple(nodes)
        self.order = {n: i for i, n in enumerate(self.nodes)}
        self.outputs = outputs
        self.shapes = shapes
        self.is_pointwise = is_pointwise
        self.takes_epilogue = takes_epilogue
        self.owner: dict[ir.Node, int] = {}

    def run(self) -> tuple[Region, ...]:
        regions = []
        for node in reversed(self.nodes):
            if node in self.owner or not self.is_pointwise(node):
                continue
            members = self._expression(node)
            anchor = self._anchor(node, members)
            members -= self._kept_apart(node, members, anchor)
            for member in (*members, *([anchor] if anchor is not None else [])):
                self.owner[member] = self.order[node]
            pointwise = tuple(sorted(members, key=self.order.__getitem__))
            regions.append(Region(anchor=anchor, pointwise=pointwise, output=node.outputs[0]))
        for node in self.nodes:
            if node not in self.owner:
                regions.append(Region(anchor=node, pointwise=(), output=node.outputs[0]))
        return self._sorted(regions)

    def _expression(self, sink: ir.Node) -> set[ir.Node]:
        """The pointwise nodes that compute `sink` and nothing else, with its dims."""
        members = {sink}
        grown = True
        while grown and len(members) < MAX_NODES:
            grown = False
            for node in sorted(members, key=self.order.__getitem__, reverse=True):
                for value in node.inputs:
                    producer = self._absorbable(value, members, sink.outputs[0])
                    if producer is not None and self._inputs(members | {producer}) <= MAX_INPUTS:
                        members.add(producer)
                        grown = True
        return members

    def _absorbable(self, value: ir.Value | None, members: set[ir.Node], result: ir.Value) -> ir.Node | None:
        if value is None or value in self.outputs:
            return None
        producer = value.producer()
        if producer is None or producer in members or producer in self.owner or producer not in self.order:
            return None
        if not self.is_pointwise(producer) or not self._only_used_by(value, members):
            return None
        return producer if self._same_dims(value, result) else None

    def _inputs(self, members: set[ir.Node]) -> int:
        made = {o for n in members for o in n.outputs}
        return len(
            {v for n in members for v in n.inputs if v is not None and v not in made and self._is_tensor(v)}
        )

    def _is_tensor(self, value: ir.Value) -> bool:
        """Scalars become literals of the expression and cost no pointer."""
        return value.const_value is None or value.const_value.size > 1

    def _only_used_by(self, value: ir.Value, members: set[ir.Node]) -> bool:
        return all(use.node in members for use in value.uses())

    def _same_dims(self, a: ir.Value, b: ir.Value) -> bool:
        da, db = self.shapes.dims(a), self.shapes.dims(b)
        return (
            da is not None
            and db is not None
            and len(da) == len(db)
            and all(D.equal(x, y) for x, y in zip(da, db, strict=True))
        )

    def _anchor(self, sink: ir.Node, members: set[ir.Node]) -> ir.Node | None:
        """The latest anchor that only the expression reads."""
        candidates = self._anchors(sink, members)
        return max(candidates, key=self.order.__getitem__, default=None)

    def _anchors(self, sink: ir.Node, members: set[ir.Node]) -> list[ir.Node]:
        """The anchors that only the expression reads."""
        made = {o for n in members for o in n.outputs}
        producers = [
            v.producer()
            for n in members
            for v in n.inputs
            if v is not None and v not in made and self._is_anchor_of(v, members, sink.outputs[0])
        ]
        return [p for p in producers if p is not None]

    def _kept_apart(self, sink: ir.Node, members: set[ir.Node], anchor: ir.Node | None) -> set[ir.Node]:
        """Members that had better end another anchor's region: its result is then kept in 8 bits."""
        others = [a for a in self._anchors(sink, members) if a is not anchor]
        apart: set[ir.Node] = set()
        for other in others:
            after = self._after(other, members)
            if anchor is not None:
                after -= self._after(anchor, members)
            ends = [n for n in after if n.op_type == "QuantizeLinear"]
            if ends:
                end = min(ends, key=self.order.__getitem__)
                apart |= {n for n in after if n is end or end in self._after(n, members)}
        return apart

    def _after(self, node: ir.Node, members: set[ir.Node]) -> set[ir.Node]:
        """The members computed from `node`'s results."""
        found: set[ir.Node] = set()
        stack = [node]
        while stack:
            for value in stack.pop().outputs:
                fresh = {use.node for use in value.uses()} & members - found
                found |= fresh
                stack.extend(fresh)
        return found

    def _is_anchor_of(self, value: ir.Value, members: set[ir.Node], result: ir.Value) -> bool:
        producer = value.producer()
        return (
            producer is not None
            and producer in self.order
            and producer not in self.owner
            and value is producer.outputs[0]
            and value not in self.outputs
            and self.takes_epilogue(producer)
            and self._only_used_by(value, members)
            and self._same_dims(value, result)
        )

    def _sorted(self, regions: list[Region]) -> tuple[Region, ...]:
        """Topological order; ties keep the order of the nodes that end the regions."""
        made = {o: r for r in regions for n in r.nodes for o in n.outputs}
        done: set[int] = set()
        out: list[Region] = []
        roots = sorted(regions, key=lambda r: max(self.order[n] for n in r.nodes))
        for root in roots:
            stack = [root]
            while stack:
                region = stack[-1]
                if id(region) in done:
                    stack.pop()
                    continue
                needs = [
                    made[v]
                    for n in region.nodes
                    for v in n.inputs
                    if v is not None and v in made and made[v] is not region and id(made[v]) not in done
                ]
                if needs:
                    stack.extend(reversed(needs))
                    continue
                done.add(id(region))
                out.append(region)
                stack.pop()
        return tuple(out)
