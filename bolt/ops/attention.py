"""Attention of one head: two matrix products with a softmax between them, scores never in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec(Spec):
    """out = softmax(scale * q k^T + bias) v, for each of two batch dims (batch, head).

    Operands:
        0 out  (b, h, m, e)
        1 q    (b, h, m, d)
        2 k    (b, h, n, d)
        3 v    (b, h, n, e)
        4 bias (b, h, m, n)   only when `has_bias`; broadcast by strides of 0

    The innermost stride of every operand is 1. There is no epilogue.

    Attributes:
        scale: factor of the scores.
        has_bias: whether operand 4 exists.
        causal: query i sees keys 0 .. i only.
    """

    op: ClassVar[str] = "attention"
    extra_base: ClassVar[int] = 5
    is_product: ClassVar[bool] = True

    scale: float = 1.0
    has_bias: bool = False
    causal: bool = False

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        q, k, v, *bias = (np.asarray(a, np.float64) for a in arrays)
        scores = self.scale * (q @ np.swapaxes(k, -1, -2))
        if bias:
            scores = scores + bias[0]
        if self.causal:
            scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return (weights / weights.sum(axis=-1, keepdims=True) @ v,)

    def flops(self) -> int:
        (b, h, m, e), (n, d) = self.out.dims, self.operands[2].dims[2:]
        return 2 * (b or 1) * (h or 1) * (m or 1) * (n or 1) * ((d or 1) + (e or 1))
