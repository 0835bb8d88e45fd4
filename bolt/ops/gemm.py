"""General matrix multiplication, batched over two leading dims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bolt.ops.spec import Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmSpec(Spec):
    """d = epilogue(a @ b), for each of two batch dims.

    Operands:
        0 d (b0, b1, m, n)   innermost stride 1
        1 a (b0, b1, m, k)   any strides; innermost stride 1 unless k-strided (transposed) input
        2 b (b0, b1, k, n)   any strides; when constant (then b0 = b1 = 1 of the operand, stride 0): packed by
                             the family, n and k static
        3.. epilogue inputs (b0, b1, m, n)

    Batch strides are 0 where an operand is shared by all batches.

    Attributes:
        math: how f32 operands are multiplied: "f32", or "tf32" (rounded to 10 bits of mantissa, on the tensor
            cores of a GPU). Sums are fp32 in any case.
    """

    op: ClassVar[str] = "gemm"
    extra_base: ClassVar[int] = 3
    is_product: ClassVar[bool] = True

    math: str = "f32"

    @property
    def is_b_constant(self) -> bool:
        return 2 in self.constants

    def reference(self, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        a, b = (np.asarray(x, np.float64) for x in arrays[:2])
        return (self.epilogue.evaluate(a @ b, arrays[2:]),)

    def flops(self) -> int:
        b0, b1, m, n = (d or 1 for d in self.out.dims)
        return 2 * b0 * b1 * m * n * (self.operands[1].dims[3] or 1)
