"""Two matrix products with one left operand, combined element by element (SwiGLU and other gated layers)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class DualGemmSpec(Spec):
    """out = epilogue(a @ b + s, a @ c + t), for each of two batch dims.

    Operands:
        0 out (b0, b1, m, n)   innermost stride 1
        1 a   (b0, b1, m, k)   innermost stride 1
        2 b   (1, 1, k, n)     constant, packed by the family
        3 c   (1, 1, k, n)     constant, packed by the family
        4 s   (1, 1, 1, n)     constant, only when `has_bias`
        5 t   (1, 1, 1, n)     constant, only when `has_bias`

    In the epilogue `acc` is the first sum and `in0` the second; it reads no memory.

    Attributes:
        has_bias: whether operands 4 and 5 exist.
    """

    op: ClassVar[str] = "dual_gemm"
    extra_base: ClassVar[int] = 6
    is_product: ClassVar[bool] = True

    has_bias: bool = False

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        a, b, c, *biases = (np.asarray(x, np.float64) for x in arrays)
        s, t = biases or (0.0, 0.0)
        return (self.epilogue.evaluate(a @ b + s, [a @ c + t]),)

    def flops(self) -> int:
        b0, b1, m, n = (d or 1 for d in self.out.dims)
        return 4 * b0 * b1 * m * n * (self.operands[1].dims[3] or 1)
