"""Pointwise chains and copies: any strided views, one output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseSpec(Spec):
    """out = epilogue(in0, in1, ...) with broadcasting by stride 0. The epilogue has no `acc`.

    Operands:
        0 output (any rank, dims collapsed as far as the strides allow); innermost stride 1
        1.. epilogue inputs, with the output's dims; innermost stride 0 or 1. Inputs may be f32, s64, s32,
            u8, s8 or bool (converted to fp32 when loaded); an output of type bool stores value != 0,
            an integer output truncates toward zero.
    """

    op: ClassVar[str] = "pointwise"
    extra_base: ClassVar[int] = 1

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        out = self.epilogue.evaluate(None, arrays)
        return (np.broadcast_to(out, tuple(d or 1 for d in self.out.dims)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySpec(Spec):
    """out = in, element for element, between any two strided views of one type, or of two float types
    (transposes, concat parts, layout changes, broadcasts). Finite numbers stay finite.

    Operands:
        0 output (any rank)
        1 input, with the output's dims; any strides (0 broadcasts)
    """

    op: ClassVar[str] = "copy"

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (np.broadcast_to(arrays[0], tuple(d or 1 for d in self.out.dims)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class FillSpec(Spec):
    """out = value everywhere.

    Operands:
        0 output (any rank, any strides)
    """

    op: ClassVar[str] = "fill"
    extra_base: ClassVar[int] = 1

    value: float = 0.0

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        return (np.full(tuple(d or 1 for d in self.out.dims), self.value),)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherSpec(Spec):
    """out[i, j, :] = table[i, index[j], :] (ONNX Gather with its dims collapsed to outer, axis, inner).

    Operands:
        0 output (outer, j, inner)
        1 table  (outer, axis, inner)
        2 index  (j,)   s64 or s32; negative counts from the end of the axis

    An index outside [-axis, axis) is clamped into it (ORT fails the run; a kernel can't).
    """

    op: ClassVar[str] = "gather"
    extra_base: ClassVar[int] = 3

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        table, index = arrays
        axis = table.shape[1]
        index = np.where(index < 0, index + axis, index).clip(0, axis - 1)
        return (table[:, index, :],)
