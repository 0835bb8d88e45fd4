"""Shapes: symbolic extents and integer contents of every value of a model.

Symbols are the model's dynamic input dims, and extents that only show at run time (the output of
NonZero). Facts are never guessed: what no rule can tell comes from ONNX's own inference as far as it
is static, and is otherwise unknown. Two things are left for whoever compiles a node to check:
`assumptions` (dims that must be equal for the model to be valid, but can't be proven to be) and
`introduced` (symbols whose value exists only after the node ran).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bolt import dims, types
from bolt.dims import Dim
from bolt.graph import attributes, rules_layout, rules_pointwise, rules_reduce, rules_spatial
from bolt.graph.fallback import fallback
from bolt.graph.site import CONTENT_LIMIT, Fact, Site, Unknown, content_of

RULES = {**rules_pointwise.RULES, **rules_layout.RULES, **rules_reduce.RULES, **rules_spatial.RULES}
"""op type -> rule; one row for every operator whose shape bolt computes."""

_LARGEST = 1 << 48
"""No extent of a tensor that fits in memory reaches this."""

_PLACEHOLDERS = frozenset({"", "?", "*", "-1", "none", "unk", "unknown", "dynamic"})
"""Spellings of "no name" that exporters write into dim_param."""


@dataclass(slots=True)
class Shapes:
    """What is known about each value; see the module's docstring.

    Attributes:
        assumptions: node -> pairs of dims that must be equal at run time.
        introduced: node -> names of symbols it defines.
        origins: for symbols made by `rebase`, the extent they stand for in the model's own symbols.
    """

    assumptions: dict[ir.Node, tuple[tuple[Dim, Dim], ...]] = field(default_factory=dict)
    introduced: dict[ir.Node, tuple[str, ...]] = field(default_factory=dict)
    origins: dict[str, Dim] = field(default_factory=dict)
    _facts: dict[ir.Value, Fact] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)

    def dims(self, value: ir.Value | None) -> tuple[Dim, ...] | None:
        """Extents, or None when not even the rank is known."""
        return None if value is None else self._fact(value).dims

    def dtype(self, value: ir.Value | None) -> types.DType | None:
        """bolt's type, or None when unknown or not one bolt computes with."""
        code = None if value is None else self._fact(value).dtype
        return None if code is None else types.from_onnx(int(code))

    def onnx_dtype(self, value: ir.Value) -> ir.DataType | None:
        """The ONNX element type."""
        return self._fact(value).dtype

    def ints(self, value: ir.Value | None) -> np.ndarray | None:
        """The content of a small integer tensor: an object array of Dim, or None."""
        fact = None if value is None else self._fact(value)
        if fact is None or fact.dtype not in rules_pointwise.INTEGERS:
            return None
        return fact.content

    def content(self, value: ir.Value) -> np.ndarray | None:
        """Like `ints`, with exact numbers of float tensors too."""
        return self._fact(value).content

    def symbols(self, value: ir.Value) -> list[str]:
        """Names of the symbols in the value's extents, sorted."""
        return dims.symbols(self.dims(value) or ())

    def fresh(self, hint: str) -> Dim:
        """A symbol no other dim uses, named after `hint`."""
        return dims.symbol(self._unique(identifier(hint)))

    def put(self, value: ir.Value, fact: Fact) -> None:
        """Records what is known about a value; extents and contents no tensor can have are dropped."""
        self._facts[value] = _possible(fact)

    def alias(self, new: ir.Value, old: ir.Value) -> None:
        """States that `new` has the type, extents and content of `old`, which it will replace."""
        self._facts[new] = self._fact(old)

    def _fact(self, value: ir.Value) -> Fact:
        found = self._facts.get(value)
        if found is None:
            found = _constant_fact(value)
            self._facts[value] = found
        return found

    def _unique(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f"{name}_{count}"
        self._names.add(candidate)
        return candidate


def _possible(fact: Fact) -> Fact:
    if fact.dims is not None and not all(0 <= d < _LARGEST for d in fact.dims if isinstance(d, int)):
        fact = fact._replace(dims=None, content=None)
    is_integer = fact.dtype in rules_pointwise.INTEGERS and fact.dtype != ir.DataType.BOOL
    if fact.content is not None and fact.dtype is not None and is_integer:
        limits = np.iinfo(fact.dtype.numpy())
        if not all(limits.min <= v <= limits.max for v in fact.content.reshape(-1) if isinstance(v, int)):
            fact = fact._replace(content=None)
    return fact


def identifier(text: str) -> str:
    """`text` as a C identifier."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if re.match(r"[A-Za-z_]", name) else f"d{name}"


def _constant_fact(value: ir.Value) -> Fact:
    """Facts of an initializer; nothing for a value that was never inferred."""
    if not value.is_initializer() or value.const_value is None:
        return Fact()
    extents = tuple(int(d) for d in value.const_value.shape)
    array = attributes.constant(value) if math.prod(extents) <= CONTENT_LIMIT else None
    return Fact(extents, value.const_value.dtype, content_of(array))


def infer(model: ir.Model) -> Shapes:
    """Facts about every value of the model's main graph."""
    shapes = Shapes()
    _bind_inputs(model.graph.inputs, shapes)
    propagate(model.graph, shapes, model.opset_imports)
    return shapes


def propagate(nodes: Iterable[ir.Node], shapes: Shapes, opsets: dict[str, int]) -> None:
    """Infers `nodes`, in topological order, on top of what `shapes` has."""
    for node in nodes:
        version = node.version or opsets.get(node.domain, opsets.get("", 1))
        for value, fact in zip(node.outputs, _infer_node(node, shapes, version), strict=False):
            shapes.put(value, fact)


def _infer_node(node: ir.Node, shapes: Shapes, version: int) -> Sequence[Fact]:
    site = Site(node=node, shapes=shapes, version=version)
    rule = RULES.get(node.op_type) if attributes.is_op(node, node.op_type) else None
    if rule is not None:
        try:
            facts = rule(site)
            if site.assumed:
                shapes.assumptions[node] = tuple(site.assumed)
            return facts
        except (Unknown, ArithmeticError, ValueError, TypeError, IndexError, KeyError):
            # An attribute or input of a form the rule does not know: the fallback decides.
            pass
    return fallback(node, shapes, version)


def _bind_inputs(inputs: Sequence[ir.Value], shapes: Shapes) -> None:
    """Names the dynamic dims of graph inputs.

    A name that one input uses for two of its axes says nothing (exporters write "dynamic" everywhere), so
    such a name is not taken as an equality anywhere.
    """
    unreliable = {
        name
        for value in inputs
        for name, count in Counter(d.value for d in value.shape or () if not isinstance(d, int)).items()
        if name is None or count > 1 or name.strip().lower() in _PLACEHOLDERS
    }
    named: dict[str, Dim] = {}
    for value in inputs:
        extents: list[Dim] = []
        for axis, d in enumerate(value.shape or ()):
            if isinstance(d, int) and d >= 0:
                extents.append(d)
            elif isinstance(d, int) or d.value is None or d.value in unreliable:
                extents.append(shapes.fresh(f"{value.name}_{axis}"))
            else:
                if d.value not in named:
                    named[d.value] = shapes.fresh(d.value)
                extents.append(named[d.value])
        shapes.put(value, Fact(None if value.shape is None else tuple(extents), value.dtype))


def rebase(
    shapes: Shapes, nodes: Sequence[ir.Node], inputs: Sequence[ir.Value], opsets: dict[str, int]
) -> Shapes:
    """Shapes of a subgraph in symbols that its own inputs define.

    Deep in a model an input's extent may be an expression such as floor((H - 1) / 2) + 1 of which H can't
    be recovered. Unless every symbol is itself an extent of some input, each distinct expression becomes a
    new symbol (see `origins`) and the subgraph is inferred again from there.

    Args:
        nodes: the subgraph in topological order.
        inputs: the values that enter it.
    """
    extents = [d for v in inputs for d in shapes.dims(v) or () if not isinstance(d, int)]
    bare = {d.name for d in extents if d.is_Symbol}
    used = set(dims.symbols(d for n in nodes for v in n.outputs for d in shapes.dims(v) or ()))
    if bare >= used | set(dims.symbols(extents)):
        return shapes
    local = Shapes(_names=set(shapes._names))
    renamed: dict[Dim, Dim] = {}
    for value in inputs:
        known = shapes.dims(value)
        fact = Fact(None, shapes.onnx_dtype(value))
        if known is not None:
            axes = enumerate(known)
            fact = fact._replace(
                dims=tuple(_renamed(d, f"{value.name}_{i}", renamed, local) for i, d in axes)
            )
        local.put(value, fact)
    for value in inputs:
        content = shapes.content(value)
        if content is not None:
            local.put(value, local._fact(value)._replace(content=_rewritten(content, renamed)))
    propagate(nodes, local, opsets)
    return local


def _renamed(d: Dim, hint: str, renamed: dict[Dim, Dim], local: Shapes) -> Dim:
    if isinstance(d, int):
        return d
    if d not in renamed:
        renamed[d] = d if d.is_Symbol else local.fresh(hint)
        local.origins[str(renamed[d])] = d
    return renamed[d]


def _rewritten(content: np.ndarray, renamed: dict[Dim, Dim]) -> np.ndarray | None:
    """`content` in the new symbols; None when an element can't be expressed in them."""
    out = content.copy()
    available = set(dims.symbols(renamed.values()))
    for index, element in np.ndenumerate(content):
        if not isinstance(element, int):
            out[index] = dims.dim(element.subs(dict(renamed), simultaneous=True))
            if not available.issuperset(dims.symbols([out[index]])):
                return None
    return out
