"""How far a result may be from its reference. Search, tests, the driver and benchmarks share this table."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from bolt.errors import VerifyError
from bolt.types import F32, LARGEST, DType, within

EPSILON = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8, "f8e4m3": 2.0**-4, "f8e5m2": 2.0**-3}
"""Unit roundoff of the types that round; results of all other types must be equal."""

ROUNDINGS = {"f32": 16.0, "f16": 2.0, "bf16": 2.0, "f8e4m3": 2.0, "f8e5m2": 2.0}
"""Roundoffs an element may be off that do not grow with k: the epilogue's polynomials (they are fp32) and one
final store."""

GROWTH = 8.0
"""fp32 roundoffs per sqrt(k), for all sums are fp32: their errors add like a random walk; the factor covers
its tail and the larger constants of Winograd's transforms."""

PRODUCTS = {"f32": 0.0, "tf32": 2.0**-8}
"""What products may be off by `GemmSpec.math`. tf32 rounds or cuts both factors to 11 bits; relative to the
range of a sum that error does not grow with k."""

HALF_A_STEP = 0.51
"""What a stored 8-bit integer may be off: kernels round to the nearest what they compute in fp32."""

FLIPS = 1e-3
"""Share of the elements that may be anything where an expression rounds inside: fp32 and float64 can end on
different sides of the middle between two integers."""

MODEL_TOLERANCE = {"fp32": 1e-3, "tf32": 5e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 3e-1, "fp8": 3e-1}
"""Whole model against ONNX Runtime without optimizations, relative to the output's range, by precision. ONNX
Runtime's own optimizations move fp32 outputs by up to 1.2e-4 (deep sigmoids), so 1e-5 would reject correct
results; trained models stored in F16 are off by up to 6e-3, in BF16 by up to 4e-2. "int8" is for models that
are quantized as they come: a value next to the middle of two integers may become either, and inputs that
differ by 1e-5 move ONNX Runtime's own outputs by up to 1.1e-1 there; "fp8" is the same with 8-bit floats,
whose steps are wider. An element also passes when it is this close relative to its own value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A result against its reference.

    Attributes:
        ok: within the tolerance, with equal shapes and NaN and infinity in the same places.
        max_abs: largest |actual - reference| among finite elements.
        max_rel_to_range: `max_abs` divided by the largest finite |reference|.
        tolerance: what `max_rel_to_range` was allowed to be (0 for types that must be equal).
        worst: index of the worst element.
        reason: why it is not ok, one sentence ("" when ok).
    """

    ok: bool
    max_abs: float
    max_rel_to_range: float
    tolerance: float
    worst: tuple[int, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok

    def require(self, what: str) -> Comparison:
        """Itself when ok.

        Raises:
            VerifyError: it is not ok.
        """
        if not self.ok:
            raise VerifyError(f"{what} is wrong: {self.reason}. Please report this with the model")
        return self


def tolerance(dtype: DType, k: int, math: str = "f32") -> float:
    """Allowed error relative to the reference's range.

    Args:
        dtype: type of the result.
        k: products that are summed into one element.
        math: how products are computed, a key of `PRODUCTS`.
    """
    if dtype.name not in EPSILON:
        return 0.0
    sums = EPSILON["f32"] * GROWTH * sqrt(max(1, k))
    return EPSILON[dtype.name] * ROUNDINGS[dtype.name] + sums + PRODUCTS[math]


def compare(
    actual: np.ndarray,
    reference: np.ndarray,
    *,
    dtype: DType,
    k: int = 1,
    math: str = "f32",
    flips: float = 0.0,
) -> Comparison:
    """One kernel's result against the float64 reference.

    Args:
        actual: what the kernel stored.
        reference: float64, or the integers expected; of the values the kernel read, as they were stored.
        dtype: type of the result.
        k: products that are summed into one element.
        math: how products are computed, a key of `PRODUCTS`.
        flips: share of the elements that may be off.
    """
    actual, reference = np.asarray(actual), np.asarray(reference)
    if dtype in LARGEST:
        reference = within(reference, dtype)
        actual = actual.astype(np.float64)  # only fp16 is a floating type to NumPy
    if dtype is F32:
        beyond = np.abs(reference) > np.finfo(np.float32).max
        reference = np.where(beyond, np.copysign(np.inf, reference), reference)
    if dtype.name in ("u8", "s8") and np.issubdtype(reference.dtype, np.floating):
        return _compare_rounded(actual, reference, flips)
    return _compare(actual, reference, tolerance(dtype, k, math), 0.0, flips)


def _compare_rounded(actual: np.ndarray, reference: np.ndarray, flips: float) -> Comparison:
    """8-bit integers with the numbers they are rounded from."""
    if actual.shape != reference.shape:
        return _failed(0.0, f"its shape is {actual.shape}, the reference's is {reference.shape}")
    limits = np.iinfo(actual.dtype)
    error = np.abs(actual - np.clip(np.nan_to_num(reference, nan=limits.min), limits.min, limits.max))
    worst = np.unravel_index(int(np.argmax(error)), error.shape) if error.size else ()
    scale = float(limits.max - limits.min)
    allowed = np.full(error.shape, HALF_A_STEP)
    return _result(error, allowed, scale, HALF_A_STEP / scale, tuple(int(i) for i in worst), flips)


def compare_model(actual: np.ndarray, reference: np.ndarray, *, precision: str = "fp32") -> Comparison:
    """One model output against the reference run: floats within `MODEL_TOLERANCE`, all else equal.

    Of a quantized model, 8-bit integers are numbers like others.
    """
    actual, reference = np.asarray(actual), np.asarray(reference)
    if precision == "int8" and actual.dtype == reference.dtype and reference.dtype in (np.uint8, np.int8):
        actual, reference = actual.astype(np.float32), reference.astype(np.float32)
    limit = MODEL_TOLERANCE[precision] if np.issubdtype(reference.dtype, np.floating) else 0.0
    return _compare(actual, reference, limit, limit)


def _compare(
    actual: np.ndarray, reference: np.ndarray, limit: float, rtol: float, flips: float = 0.0
) -> Comparison:
    if actual.shape != reference.shape:
        return _failed(limit, f"its shape is {actual.shape}, the reference's is {reference.shape}")
    if not np.issubdtype(actual.dtype, np.floating):
        return _exact(actual, reference)
    a, r = actual.astype(np.float64, copy=False), reference.astype(np.float64, copy=False)
    if (place := _special_mismatch(a, r)) is not None:
        at = tuple(int(i) for i in place)
        return _failed(limit, f"at {at} it is {a[at]}, the reference is {r[at]}")
    finite = np.isfinite(r)
    error = np.abs(np.subtract(a, r, where=finite, out=np.zeros_like(r)))
    scale = float(np.max(np.abs(r), where=finite, initial=0.0))
    allowed = limit * scale + rtol * np.abs(r, where=finite, out=np.zeros_like(r)) + np.finfo(np.float32).tiny
    worst = np.unravel_index(int(np.argmax(error / allowed)), error.shape) if error.size else ()
    return _result(error, allowed, scale, limit, tuple(int(i) for i in worst), flips)


def _result(
    error: np.ndarray,
    allowed: np.ndarray,
    scale: float,
    limit: float,
    worst: tuple[int, ...],
    flips: float,
) -> Comparison:
    ok = not error.size or bool(error[worst] <= allowed[worst])
    ok = ok or int((error > allowed).sum()) <= flips * error.size
    largest = float(error.max(initial=0.0))
    relative = largest / scale if scale else float(largest > 0)
    reason = f"at {worst} it is off by {relative:.2e} of the range, allowed is {limit:.2e}"
    return Comparison(
        ok=ok, max_abs=largest, max_rel_to_range=relative, tolerance=limit, worst=worst,
        reason="" if ok else reason,
    )  # fmt: skip


def _exact(actual: np.ndarray, reference: np.ndarray) -> Comparison:
    wrong = actual != reference
    if not wrong.any():
        return Comparison(ok=True, max_abs=0.0, max_rel_to_range=0.0, tolerance=0.0)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    return _failed(
        0.0, f"at {at} it is {actual[at]}, the reference is {reference[at]} ({int(wrong.sum())} differ)"
    )


def _special_mismatch(a: np.ndarray, r: np.ndarray) -> np.ndarray | None:
    """Index of the first element that is NaN or infinite on one side only, or None."""
    infinite = np.isinf(a) | np.isinf(r)
    wrong = (np.isnan(a) != np.isnan(r)) | (infinite & (a != r) & ~np.isnan(a))
    return np.argwhere(wrong)[0] if wrong.any() else None


def _failed(limit: float, reason: str) -> Comparison:
    return Comparison(ok=False, max_abs=inf, max_rel_to_range=inf, tolerance=limit, reason=reason)
