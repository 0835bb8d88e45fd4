"""What a shape rule sees: one node with the facts known about its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx_ir as ir

from bolt.dims import Dim
from bolt.graph import attributes, bounds

if TYPE_CHECKING:
    from bolt.graph.shapes import Shapes

CONTENT_LIMIT = 128
"""Tensors with more elements than this are never shape arithmetic."""


class Unknown(Exception):
    """Raised by a rule that lacks a fact; inference then asks the fallback. Never leaves inference."""


class Fact(NamedTuple):
    """What is known about one value.

    Attributes:
        dims: extents, or None.
        dtype: ONNX element type, or None.
        content: the elements themselves (object array of exact numbers and Dims), or None.
    """

    dims: tuple[Dim, ...] | None = None
    dtype: ir.DataType | None = None
    content: np.ndarray | None = None


def content_of(array: np.ndarray | None) -> np.ndarray | None:
    """`array` as an object array of exact numbers; None when it is too large or not exact."""
    if array is None or array.size > CONTENT_LIMIT or array.dtype.kind not in "iubf":
        return None
    numbers = [exact(v) for v in array.reshape(-1).tolist()]
    return None if None in numbers else objects(numbers, array.shape)


def objects(values: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """An object array of this shape (sympy's own array conversions kept out of the way)."""
    out = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        out[index] = value
    return out.reshape(shape)


def exact(value: float | int | bool) -> Any:
    """A number as int or dyadic Rational, None when fp32 arithmetic on it would round."""
    if isinstance(value, (bool, int)):
        return int(value)
    if value != value or abs(value) > 1 << 24:
        return None
    numerator, denominator = value.as_integer_ratio()
    if denominator == 1:
        return numerator
    if denominator > 1 << 10:
        return None
    import sympy

    return sympy.Rational(numerator, denominator)


@dataclass(slots=True)
class Site:
    """One node during inference.

    Attributes:
        assumed: pairs of dims the node needs to be equal although that can't be proven.
    """

    node: ir.Node
    shapes: Shapes
    version: int
    assumed: list[tuple[Dim, Dim]] = field(default_factory=list)

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return attributes.operand(self.node, index) is not None

    def dims(self, index: int = 0) -> tuple[Dim, ...]:
        """Extents of input `index`."""
        value = attributes.operand(self.node, index)
        found = self.shapes.dims(value) if value is not None else None
        if found is None:
            raise Unknown
        return found

    def dtype(self, index: int = 0) -> ir.DataType | None:
        """ONNX element type of input `index`."""
        value = attributes.operand(self.node, index)
        return self.shapes.onnx_dtype(value) if value is not None else None

    def content(self, index: int) -> np.ndarray:
        """The known elements of input `index`."""
        found = self.try_content(index)
        if found is None:
            raise Unknown
        return found

    def try_content(self, index: int) -> np.ndarray | None:
        """The known elements of input `index`, or None."""
        value = attributes.operand(self.node, index)
        return self.shapes.content(value) if value is not None else None

    def constant(self, index: int) -> np.ndarray | None:
        """Input `index` as an array when it is an initializer."""
        return attributes.constant(attributes.operand(self.node, index))

    def attr(self, name: str, default: Any = None) -> Any:
        return attributes.attr(self.node, name, default)

    def ints(
        self, index: int | None, name: str | None, default: Sequence[int] | None = None
    ) -> tuple[int, ...]:
        """Static integers from the attribute or the input (see `attributes.ints`)."""
        found = attributes.ints(self.node, self.shapes, index, name, default)
        if found is None:
            raise Unknown
        return found

    def extents(self, index: int | None, name: str | None) -> list[Dim]:
        """Like `ints`, but elements may be symbolic."""
        if name is not None and name in self.node.attributes:
            return [int(v) for v in self.attr(name)]
        if index is None or not self.has(index):
            raise Unknown
        return list(self.content(index).reshape(-1))

    def axis(self, name: str = "axis", default: int = 0, rank: int | None = None) -> int:
        """A non-negative axis from an attribute."""
        return normalize(int(self.attr(name, default)), len(self.dims()) if rank is None else rank)

    def same(self, a: Dim, b: Dim) -> Dim:
        """The extent of two dims that have to be equal; noted as an assumption where unproven."""
        if a is b or bounds.equal(a, b):
            return a
        if isinstance(a, int) and isinstance(b, int):
            raise Unknown
        self.assumed.append((a, b))
        return min(a, b, key=bounds.complexity)

    def broadcast(self, *shapes: Sequence[Dim]) -> tuple[Dim, ...]:
        """NumPy broadcasting of symbolic shapes."""
        rank = max(len(s) for s in shapes)
        out: list[Dim] = [1] * rank
        for shape in shapes:
            for axis, extent in enumerate(shape, start=rank - len(shape)):
                out[axis] = self._broadcast_dim(out[axis], extent)
        return tuple(out)

    def _broadcast_dim(self, a: Dim, b: Dim) -> Dim:
        """One axis. Two unrelated inputs may broadcast either way, so that stays open as a Max; a derived
        extent meets another one only where the model relies on both being equal."""
        if isinstance(a, int) and a == 1:
            return b
        if (isinstance(b, int) and b == 1) or a is b or bounds.equal(a, b):
            return a
        if isinstance(a, int) != isinstance(b, int):
            return a if isinstance(a, int) else b
        if not isinstance(a, int) and not isinstance(b, int) and a.is_Symbol and b.is_Symbol:
            return bounds.maximum(a, b)
        return self.same(a, b)


def normalize(axis: int, rank: int) -> int:
    """`axis` counted from the front."""
    if not -rank <= axis < max(rank, 1):
        raise Unknown
    return axis + rank if axis < 0 else axis


@lru_cache(maxsize=4096)
def product(extents: tuple[Dim, ...]) -> Dim:
    """Product of dims; 1 for none."""
    from bolt import dims

    return dims.prod(extents)
