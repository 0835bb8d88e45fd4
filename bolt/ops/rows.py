"""Row operations: softmax, normalization, reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftmaxSpec(Spec):
    """Softmax (or log-softmax) along the last dim, numerically stable (maximum subtracted).

    Operands:
        0 output (b0, b1, rows, k)   innermost stride 1
        1 input  (b0, b1, rows, k)   innermost stride 1
    """

    op: ClassVar[str] = "softmax"

    log: bool = False

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x = np.asarray(arrays[0], np.float64)
        x = x - x.max(axis=-1, keepdims=True)
        e = np.exp(x)
        out = x - np.log(e.sum(axis=-1, keepdims=True)) if self.log else e / e.sum(axis=-1, keepdims=True)
        return (self.epilogue.evaluate(out, arrays[1:]),)

    def flops(self) -> int:
        return 16 * int(np.prod([d or 1 for d in self.out.dims]))


@dataclass(frozen=True, slots=True, kw_only=True)
class NormSpec(Spec):
    """(x - mean) / sqrt(variance + epsilon) along the last dim; scale and bias are epilogue inputs.

    Operands:
        0 output (b0, b1, rows, k)   innermost stride 1
        1 input  (b0, b1, rows, k)   innermost stride 1
        2.. epilogue inputs (b0, b1, rows, k)

    Attributes:
        epsilon: added to the variance (or mean square).
        rms: no mean subtraction; divide by sqrt(mean(x^2) + epsilon).
    """

    op: ClassVar[str] = "norm"

    epsilon: float = 1e-5
    rms: bool = False

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x = np.asarray(arrays[0], np.float64)
        x = x if self.rms else x - x.mean(axis=-1, keepdims=True)
        out = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.epsilon)
        return (self.epilogue.evaluate(out, arrays[1:]),)

    def flops(self) -> int:
        return 8 * int(np.prod([d or 1 for d in self.out.dims]))


REDUCTIONS = {
    "sum": lambda x: x.sum(axis=2),
    "mean": lambda x: x.mean(axis=2),
    "max": lambda x: x.max(axis=2),
    "min": lambda x: x.min(axis=2),
    "prod": lambda x: x.prod(axis=2),
    "sumsq": lambda x: (x * x).sum(axis=2),
    "l1": lambda x: np.abs(x).sum(axis=2),
    "l2": lambda x: np.sqrt((x * x).sum(axis=2)),
}
"""Reductions by name; float64 reference over axis 2 of (outer, inner, reduced) input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceSpec(Spec):
    """Reduction over two dims at once (global pooling, ReduceMean and friends).

    Operands:
        0 output (b0, b1, inner)           innermost stride 1
        1 input  (b0, r0, b1, r1, inner)   reduced over r0 and r1; any strides (inner stride 1,
                                           unless inner is 1)
        2.. epilogue inputs (b0, b1, inner)

    Attributes:
        kind: a key of `REDUCTIONS`.
    """

    op: ClassVar[str] = "reduce"

    kind: str = "sum"

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        x = np.asarray(arrays[0], np.float64)
        b0, r0, b1, r1, inner = x.shape
        x = x.transpose(0, 2, 4, 1, 3).reshape(b0 * b1, inner, r0 * r1)
        return (self.epilogue.evaluate(REDUCTIONS[self.kind](x).reshape(b0, b1, inner), arrays[1:]),)

    def flops(self) -> int:
        return 2 * int(np.prod([d or 1 for d in self.operands[1].dims]))
