"""What the products of the CPU's implicit GEMM multiply: the reduction in words of 32 bits.

A word is one fp32 number, a pair of bf16 numbers or four 8-bit integers that lie next to each other in the
input. One instruction multiplies it with a word of weights per output channel and adds up: a column of word
`i` of the weights has what belongs to the elements of word `i`. The template's half is
`templates/include/bolt/word.h`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bolt.kernels.finish import wrong_storage
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32, S8, U8, DType


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Elements that are multiplied with weights.

    Attributes:
        a: type of the input.
        b: type of the weights.
        size: elements of a word.
        shift: what a kernel adds to the input because its instruction takes unsigned integers only; the sums
            start at what that makes too much.
    """

    a: DType
    b: DType
    size: int
    shift: int = 0

    def runs_on(self, target: Target) -> bool:
        """Whether `target` has the instruction."""
        if self.b is BF16:
            return target.has_bf16
        return self.b is F32 or target.has_vnni

    def words(self, elements: int) -> int:
        """Words of so many elements."""
        return -(-elements // self.size)

    @property
    def registers(self) -> int:
        """Vector registers a tile needs for constants."""
        return 1 if self.shift else 0


FLOATS = Product(a=F32, b=F32, size=1)
PAIRS = Product(a=BF16, b=BF16, size=2)
BYTES = (Product(a=U8, b=S8, size=4), Product(a=S8, b=S8, size=4, shift=128))
PRODUCTS = (FLOATS, PAIRS, *BYTES)


def product_of(spec: Spec) -> Product | None:
    """The product of a spec's operands 1 and 2, if there is such a row."""
    a, b = spec.operands[1].dtype, spec.operands[2].dtype
    return next((p for p in PRODUCTS if (p.a, p.b) == (a, b)), None)


def wrong_product(
    spec: Spec, family: str, target: Target, known: Iterable[Product] = PRODUCTS
) -> Rejection | None:
    """The reason why `target` can't multiply the operands of `spec` or keep its result, if there is one."""
    product = product_of(spec)
    a, b = spec.operands[1].dtype, spec.operands[2].dtype
    if product is None or product not in known:
        pairs = ", ".join(f"{p.a} x {p.b}" for p in known)
        reason = f"multiplies {pairs}, not {a} x {b}"
    elif not product.runs_on(target):
        reason = f"{target.name} has no instruction that multiplies {a} x {b}"
    else:
        return wrong_storage(spec, family, a=(a,), b=(b,))
    return Rejection(stage="supports", subject=family, reason=reason)


def words_of_taps(matrix: np.ndarray, product: Product) -> np.ndarray:
    """Weights (taps, c, k) as the words of every tap and output channel: (taps * words, k, size).

    A last word that would end behind the tap starts earlier, where it can: it covers the tap's last `size`
    elements, those of the word before with weights of zero. So no element behind the tap is read.
    """
    taps, c, k = matrix.shape
    padded = np.zeros((taps, product.words(c) * product.size, k), product.b.np)
    padded[:, :c] = matrix
    missing = padded.shape[1] - c
    if missing and c > product.size:
        padded[:, -product.size :] = np.roll(padded[:, -product.size :], missing, axis=1)
    words = padded.reshape(taps * product.words(c), product.size, k)
    return np.ascontiguousarray(words.transpose(0, 2, 1))


def shift_words(matrix: np.ndarray, product: Product) -> np.ndarray:
    """(1, k, size) bytes of the sums at the start, which undo `Product.shift`, of weights (depth, k)."""
    sums = -product.shift * matrix.reshape(-1, matrix.shape[-1]).astype(np.int32).sum(axis=0, dtype=np.int32)
    return np.frombuffer(sums.astype("<i4").tobytes(), np.int8).reshape(1, -1, product.size)
