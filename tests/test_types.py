"""The type table and the rounding of stored values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from bolt import types
from bolt.types import BF16, EIGHT_BIT_FLOATS, F8E4M3, F8E5M2, F16, F32, STORED


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
    rows = (*types.DTYPES, *STORED, *EIGHT_BIT_FLOATS)
    assert [t.name for t in rows if t.is_float] == ["f32", "f16", "bf16", "f8e4m3", "f8e5m2"]
    assert types.from_numpy(np.dtype("bfloat16")) is BF16


def test_8_bit_integers_round_to_even_and_saturate() -> None:
    real = np.array([-300.0, -0.5, 0.5, 1.5, 2.5, 254.6, 300.0])
    assert types.convert(real, types.U8).tolist() == [0, 0, 0, 2, 2, 255, 255]
    assert types.convert(real, types.S8).tolist() == [-128, 0, 0, 2, 2, 127, 127]


@pytest.mark.parametrize("dtype", EIGHT_BIT_FLOATS, ids=repr)
def test_rows_of_8_bit_floats(dtype: types.DType) -> None:
    name = onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx)
    assert types.from_onnx(dtype.onnx) is dtype and types.from_numpy(dtype.np) is dtype
    assert name == dtype.np and ml_dtypes.finfo(dtype.np).max == types.LARGEST[dtype]
    assert not dtype.cpu and dtype not in types.DTYPES


@pytest.mark.parametrize("dtype", EIGHT_BIT_FLOATS, ids=repr)
def test_8_bit_floats_saturate_and_round_to_even(dtype: types.DType) -> None:
    most = types.LARGEST[dtype]
    stored = types.convert(np.array([np.nan, np.inf, -np.inf, 1e9, -1.5, 0.0]), dtype)
    assert stored.dtype == dtype.np
    np.testing.assert_array_equal(stored.astype(np.float32), [np.nan, most, -most, most, -1.5, 0.0])
    np.testing.assert_array_equal(types.convert(stored, dtype).view(np.uint8), stored.view(np.uint8))
    step = float(ml_dtypes.finfo(dtype.np).eps)
    ties = types.convert(np.array([1 + step / 2, 1 + 3 * step / 2]), dtype)
    np.testing.assert_array_equal(ties.astype(np.float32), [1.0, 1 + 2 * step])


def test_onnx_rounds_8_bit_floats_alike() -> None:
    """As its reference implementation of QuantizeLinear, with saturation."""
    values = np.random.default_rng(0).normal(0, 200, 4000).astype(np.float32)
    for dtype in (F8E4M3, F8E5M2):
        node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
        feeds = {"x": values, "s": np.float32(0.25), "z": np.zeros((), dtype.np)}
        (want,) = ReferenceEvaluator(node).run(None, feeds)
        got = types.convert(values / np.float32(0.25), dtype)
        np.testing.assert_array_equal(got.view(np.uint8), np.asarray(want).view(np.uint8))
