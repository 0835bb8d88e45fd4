"""What every spec has: operands (views of memory) and an epilogue.

A *spec* says WHAT one kernel computes. Its operands are strided views; a dim or a stride that is
only known at run time is None and reaches the kernel in its `d` array, in the order of `dynamic`.
Equal specs share one kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from bolt.epilogue import IDENTITY, Epilogue
from bolt.types import DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A strided view of memory, as a kernel sees it.

    Attributes:
        dtype: element type.
        dims: extents, in the order the spec defines; None is known at run time only.
        strides: distance in elements between neighbours along each dim; 0 is a broadcast.
        alignment: bytes (a power of two) the address of element (0, ..., 0) is a multiple of; 0 says
            nothing beyond the element's own size. Stated on CUDA only, where kernels differ by it.
    """

    dtype: DType
    dims: tuple[int | None, ...]
    strides: tuple[int | None, ...]
    alignment: int = 0

    def __post_init__(self) -> None:
        assert len(self.dims) == len(self.strides)

    @classmethod
    def dense(cls, dtype: DType, dims: Sequence[int]) -> Operand:
        """A contiguous row-major operand."""
        strides = [1]
        for d in reversed(dims[1:]):
            strides.insert(0, strides[0] * d)
        return cls(dtype=dtype, dims=tuple(dims), strides=tuple(strides[: len(dims)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """One int64 of a kernel's `d` array: `operands[operand].dims[axis]` or `.strides[axis]`."""

    operand: int
    what: str  # "dims" | "strides"
    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Base of all specs.

    Attributes:
        operands: outputs first, then inputs in the order the op's module documents, then one operand
            per epilogue input (`in0`, `in1`, ...) with the dims of `operands[0]` (broadcast = stride 0;
            the innermost stride is 0 or 1).
        epilogue: applied to every output element before it is stored.
        constants: indices of operands that are compile-time constants (weights; the family may pack them).
    """

    op: ClassVar[str] = ""
    extra_base: ClassVar[int] = 2
    """Index of the first epilogue-input operand."""
    is_product: ClassVar[bool] = False
    """Whether it multiplies matrices (or convolves), which is where a model's work is."""

    operands: tuple[Operand, ...]
    epilogue: Epilogue = IDENTITY
    constants: tuple[int, ...] = ()

    @property
    def out(self) -> Operand:
        return self.operands[0]

    @property
    def extras(self) -> tuple[Operand, ...]:
        """The epilogue's input operands."""
        return self.operands[self.extra_base :]

    def dynamic(self) -> tuple[Dynamic, ...]:
        """Which int64 the kernel's `d` array holds, in order."""
        return tuple(_dynamic(self.operands))

    def bind(self, ints: Sequence[int]) -> Self:
        """The same spec with every run-time dim and stride replaced by `ints` (the `d` array)."""
        operands = [[list(o.dims), list(o.strides)] for o in self.operands]
        for slot, value in zip(self.dynamic(), ints, strict=True):
            operands[slot.operand][slot.what == "strides"][slot.axis] = value
        bound = tuple(
            replace(o, dims=tuple(d), strides=tuple(s))
            for o, (d, s) in zip(self.operands, operands, strict=True)
        )
        return replace(self, operands=bound)

    def halo(self) -> dict[int, tuple[tuple[int, int], ...]]:
        """Elements the kernel reads outside an operand's dims: {operand: ((before, after) per dim)}.

        Whoever calls the kernel keeps those elements readable and zero.
        """
        return {}

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Float64 result of a bound spec. `arrays`: one array per operand after the outputs, in operand
        order, with the operand's dims (constants unpacked, broadcast dims may be 1)."""
        raise AssertionError(f"{type(self).__name__} has no reference")

    def flops(self) -> int:
        """Floating-point operations of a bound spec (2 per multiply-add)."""
        return int(np.prod([d or 1 for d in self.out.dims])) * max(1, len(self.epilogue.nodes))

    def bytes(self) -> int:
        """Bytes a bound spec has to move at least once."""
        return sum(
            o.dtype.size_bytes
            * int(np.prod([d or 1 for d, s in zip(o.dims, o.strides, strict=True) if s != 0]))
            for o in self.operands
        )

    @property
    def key(self) -> str:
        """sha256 of the spec's canonical JSON; equal keys mean equal specs."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()


def _dynamic(operands: Sequence[Operand]) -> Iterator[Dynamic]:
    for index, operand in enumerate(operands):
        for what in ("dims", "strides"):
            for axis, value in enumerate(getattr(operand, what)):
                if value is None:
                    yield Dynamic(operand=index, what=what, axis=axis)


def canonical(value: Any) -> str:
    """Canonical JSON of (nested) dataclasses, tuples and scalars."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, DType):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        return {"type": type(value).__name__, **plain}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value.hex()
    assert value is None or isinstance(value, (str, int, bool)), f"not canonical: {value!r}"
    return value
