"""The type table and the rounding of stored values."""

from __future__ import annotations

import numpy as np
import pytest

from bolt import types
from bolt.types import BF16, F16, F32, STORED


@pytest.mark.parametrize("dtype", (F32, *STORED), ids=repr)
def test_special_values_are_kept(dtype: types.DType) -> None:
    stored = types.convert(np.array([np.nan, np.inf, -np.inf, 0.0, -1.5]), dtype)
    assert stored.dtype == dtype.np
    np.testing.assert_array_equal(stored.astype(np.float32), [np.nan, np.inf, -np.inf, 0.0, -1.5])


def test_16_bit_floats_clamp_what_is_finite() -> None:
    stored = types.convert(np.array([3.4e38, -3.4e38, 65519.0, 70000.0], np.float32), F16)
    np.testing.assert_array_equal(stored, np.array([65504, -65504, 65504, 65504], np.float16))
    lowest = types.convert(np.array([np.finfo(np.float32).min]), BF16).astype(np.float32)
    assert lowest == np.float32(-types.LARGEST[BF16])


def test_ties_go_to_even() -> None:
    exact = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8])
    np.testing.assert_array_equal(types.convert(exact, BF16).astype(np.float32), [1.0, 1 + 2.0**-6])
    exact = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11])
    np.testing.assert_array_equal(types.convert(exact, F16).astype(np.float32), [1.0, 1 + 2.0**-9])


def test_which_types_are_floats() -> None:
    assert [t.name for t in (*types.DTYPES, *STORED) if t.is_float] == ["f32", "f16", "bf16"]
    assert types.from_numpy(np.dtype("bfloat16")) is BF16


def test_8_bit_integers_round_to_even_and_saturate() -> None:
    real = np.array([-300.0, -0.5, 0.5, 1.5, 2.5, 254.6, 300.0])
    assert types.convert(real, types.U8).tolist() == [0, 0, 0, 2, 2, 255, 255]
    assert types.convert(real, types.S8).tolist() == [-128, 0, 0, 2, 2, 127, 127]
