"""The comparison and its tolerance table."""

import numpy as np
import pytest

from bolt.errors import VerifyError
from bolt.types import BF16, BOOL, F16, F32, S8, U8, convert
from bolt.verify import compare, compare_model, tolerance


def noise(shape=(64, 64), seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_fp32_sums_pass_and_lower_precision_does_not():
    a, b = noise(seed=1), noise(seed=2)
    exact = a @ b
    single = a.astype(np.float32) @ b.astype(np.float32)
    half = (a.astype(np.float16) @ b.astype(np.float16)).astype(np.float32)
    assert compare(single, exact, dtype=F32, k=64)
    assert not compare(half, exact, dtype=F32, k=64)


def test_the_tolerance_grows_with_the_sum():
    assert 0 < tolerance(F32, 1) < tolerance(F32, 1000) < 1e-4
    assert tolerance(S8, 1000) == 0


@pytest.mark.parametrize("dtype", [F16, BF16], ids=repr)
def test_a_stored_result_is_within_its_rounding(dtype):
    reference = noise()
    rounded = convert(reference, dtype)
    assert compare(rounded, reference, dtype=dtype)
    scale = np.abs(reference).max() * tolerance(dtype, 1)
    assert not compare(convert(reference + 2 * scale, dtype), reference, dtype=dtype)
    assert compare(convert(noise(), BF16), noise(), dtype=F16).ok is False


def test_sums_are_fp32_whatever_the_stored_type():
    growth = tolerance(F32, 10_000) - tolerance(F32, 1)
    assert tolerance(F16, 10_000) - tolerance(F16, 1) == pytest.approx(growth)


def test_what_fp32_can_t_hold_is_infinite():
    reference = np.array([1e40, -1e40, 1.0])
    assert compare(np.array([np.inf, -np.inf, 1.0], np.float32), reference, dtype=F32).ok
    assert not compare(np.array([np.inf, np.inf, 1.0], np.float32), reference, dtype=F32).ok
    assert not compare(np.array([3e38, -np.inf, 1.0], np.float32), reference, dtype=F32).ok


def test_what_f16_can_t_hold_is_clamped():
    reference = np.array([1e6, -1e6, np.inf, 1.0])
    assert compare(convert(reference, F16), reference, dtype=F16)
    assert not compare(np.array([np.inf, -np.inf, np.inf, 1.0], np.float16), reference, dtype=F16)


def test_products_of_tf32_may_be_cut():
    a, b = (noise(seed=s).astype(np.float32) for s in (1, 2))
    cut = [(x.view(np.uint32) & 0xFFFFE000).view(np.float32) for x in (a, b)]
    result, exact = cut[0].astype(np.float64) @ cut[1], a.astype(np.float64) @ b
    assert compare(result.astype(np.float32), exact, dtype=F32, k=64, math="tf32")
    assert not compare(result.astype(np.float32), exact, dtype=F32, k=64)


def test_one_wrong_element_is_found_and_named():
    reference = noise()
    actual = reference.astype(np.float32)
    actual[3, 5] += 1e-3
    result = compare(actual, reference, dtype=F32)
    assert not result.ok
    assert result.worst == (3, 5)
    assert result.max_abs == pytest.approx(1e-3, rel=1e-2)
    with pytest.raises(VerifyError, match=r"conv is wrong: at \(3, 5\)"):
        result.require("conv")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_must_agree_in_place(value):
    reference = noise()
    reference[1, 2] = value
    actual = reference.astype(np.float32)
    assert compare(actual, reference, dtype=F32)
    actual[1, 2] = 0
    assert not compare(actual, reference, dtype=F32)
    assert not compare(reference.astype(np.float32), noise(), dtype=F32)


def test_an_infinity_of_the_wrong_sign_is_wrong():
    assert not compare(np.array([np.inf]), np.array([-np.inf]), dtype=F32)


def test_integers_and_bools_are_exact():
    assert compare(np.array([1, 2], np.int8), np.array([1, 2]), dtype=S8)
    assert not compare(np.array([1, 3], np.int8), np.array([1, 2]), dtype=S8)
    assert not compare(np.array([True]), np.array([False]), dtype=BOOL)


def test_shapes_must_agree():
    assert "shape" in compare(noise((2, 3)), noise((3, 2)), dtype=F32).reason


def test_empty_and_all_zero_results():
    assert compare(np.zeros((0, 3)), np.zeros((0, 3)), dtype=F32)
    assert compare(np.zeros(3, np.float32), np.zeros(3), dtype=F32)
    assert not compare(np.full(3, 1e-20, np.float32), np.zeros(3), dtype=F32)


def test_a_model_gets_a_thousandth_of_the_range():
    reference = noise().astype(np.float32)
    span = np.abs(reference).max()
    assert compare_model(reference + 0.9e-3 * span, reference)
    assert not compare_model(reference + 2.5e-3 * span, reference)
    assert not compare_model(np.array([1], np.int64), np.array([2], np.int64))
    assert compare_model(reference + 1.5e-2 * span, reference, precision="fp16")
    assert not compare_model(reference + 5e-2 * span, reference, precision="fp16")


def test_8_bit_integers_may_be_off_by_half_a_step_from_what_they_are_rounded_from() -> None:
    reference = np.array([0.4999, 1.5001, -3.0, 300.0, np.nan])
    assert compare(np.array([0, 2, 0, 255, 0], np.uint8), reference, dtype=U8)
    assert compare(np.array([1, 1, 0, 255, 0], np.uint8), reference, dtype=U8), "both next to the middle"
    for wrong in ([2, 2, 0, 255, 0], [0, 2, 1, 255, 0], [0, 2, 0, 254, 0]):
        assert not compare(np.array(wrong, np.uint8), reference, dtype=U8)
    assert "shape" in compare(np.zeros(2, np.uint8), reference, dtype=U8).reason


def test_a_share_of_the_elements_may_have_been_rounded_to_the_other_side() -> None:
    reference = np.zeros(1000)
    actual = reference.copy()
    actual[7] = 1.0
    assert not compare(actual, reference, dtype=F32)
    assert compare(actual, reference, dtype=F32, flips=1e-3)
    actual[8] = 1.0
    assert not compare(actual, reference, dtype=F32, flips=1e-3)


def test_8_bit_outputs_of_a_quantized_model_are_numbers() -> None:
    reference = np.array([0, 100, 200], np.uint8)
    assert compare_model(reference + np.uint8(3), reference, precision="int8")
    assert not compare_model(reference + np.uint8(3), reference)
