"""C++ spelling of numbers."""

from __future__ import annotations

import math

import numpy as np


def f32(value: float) -> str:
    """`value` as a C++ float literal, rounded to fp32 exactly as NumPy does."""
    with np.errstate(over="ignore"):
        single = float(np.float32(value))
    if math.isnan(single):
        return '__builtin_nanf("")'
    if math.isinf(single):
        return "__builtin_inff()" if single > 0 else "-__builtin_inff()"
    return f"{single.hex()}f"
