"""The vector math of `bolt/vmath.h` against float64, in units in the last place, over dense sweeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernels import harness as h

ERF = np.vectorize(math.erf, otypes=[np.float64])


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


SWEEPS = [
    # function, reference, range, ulp allowed (the bound its comment states)
    ("vexp", np.exp, (-87.0, 88.7), 1.3),
    ("vexp", np.exp, (-1e-3, 1e-3), 1.3),
    ("vexpm1_neg", np.expm1, (-20.0, 0.0), 2.0),
    ("vlog", np.log, (1e-38, 1e-30), 1.5),
    ("vlog", np.log, (0.5, 2.0), 1.5),
    ("vlog", np.log, (0.0, 1e30), 1.5),
    ("vlog1p_unit", np.log1p, (0.0, 1.0), 2.0),
    ("vtanh", np.tanh, (-12.0, 12.0), 6.0),
    ("vtanh", np.tanh, (-1e-3, 1e-3), 6.0),
    ("verf", ERF, (-5.0, 5.0), 7.0),
    ("verf", ERF, (-1e-3, 1e-3), 7.0),
    ("vsigmoid", lambda x: 1 / (1 + np.exp(-x)), (-85.0, 85.0), 3.0),
    ("vsilu", lambda x: x / (1 + np.exp(-x)), (-80.0, 80.0), 3.0),
    ("vsoftplus", lambda x: np.logaddexp(0, x), (-85.0, 85.0), 3.0),
    ("vmish", lambda x: x * np.tanh(np.logaddexp(0, x)), (-80.0, 30.0), 4.5),
    ("vsqrt", np.sqrt, (0.0, 1e10), 0.5),
    ("vround", np.round, (-9.0, 9.0), 0.0),
    ("vround", np.round, (-1e8, 1e8), 0.0),
    ("vfloor", np.floor, (-9.0, 9.0), 0.0),
    ("vfloor", np.floor, (-1e8, 1e8), 0.0),
    ("vceil", np.ceil, (-9.0, 9.0), 0.0),
    ("vtrunc", np.trunc, (-9.0, 9.0), 0.0),
]
COARSE = [
    # function, reference, relative error allowed, absolute error allowed
    ("vsigmoid_coarse", lambda x: 1 / (1 + np.exp(-x)), 2.0**-12, 0.0),
    ("vsilu_coarse", lambda x: x / (1 + np.exp(-x)), 2.0**-12, 0.0),
    ("vgelu_coarse", lambda x: x * (0.5 + 0.5 * ERF(x * math.sqrt(0.5))), 2.0**-12, 6e-4),
    ("vgelu_tanh_coarse", _gelu_tanh, 2.0**-12, 1e-5),
    ("vmish_coarse", lambda x: x * np.tanh(np.logaddexp(0, x)), 2.0**-12, 0.0),
]
POINTS = 1 << 16

each_target = pytest.mark.parametrize("target", h.EVERY_TARGET)


def source() -> str:
    """One function per vector function, over `d[0]` floats."""
    names = sorted({s[0] for s in (*SWEEPS, *COARSE)} | {"vsin", "vcos"})
    return '#include "bolt/simd.h"\n' + "".join(_FUNCTION.replace("NAME", name) for name in names)


_FUNCTION = """
extern "C" __attribute__((visibility("default"))) void k_NAME(void* const* p, const int64_t* d) {
  for (int64_t i = 0; i < d[0]; i += VL) vstore((float*)p[0] + i, NAME(vload((const float*)p[1] + i)));
}
"""


def evaluate(name: str, x: np.ndarray, target) -> np.ndarray:
    assert len(x) % target.vector_lanes == 0 and x.dtype == np.float32
    y = np.empty_like(x)
    h.call(source(), f"k_{name}", target, [(y, 0), (x, 0)], [len(x)])
    return y


@each_target
@pytest.mark.parametrize("name, reference, limits, ulp", SWEEPS)
def test_sweep(name, reference, limits, ulp, target):
    x = np.linspace(*limits, POINTS).astype(np.float32)
    with np.errstate(all="ignore"):
        want = reference(x.astype(np.float64))
        step = np.spacing(np.abs(want).astype(np.float32).clip(np.finfo(np.float32).tiny))
        error = np.abs(evaluate(name, x, target) - want) / step
    error[~np.isfinite(want)] = 0
    worst = int(error.argmax())
    assert error[worst] <= ulp, f"{error[worst]:.3g} ulp at {x[worst]!r}"


@each_target
@pytest.mark.parametrize("name, reference, relative, absolute", COARSE)
def test_coarse_functions(name, reference, relative, absolute, target):
    for limit in (1e-3, 6.0, 80.0):
        x = np.linspace(-limit, limit, POINTS).astype(np.float32)
        want = reference(x.astype(np.float64))
        np.testing.assert_allclose(evaluate(name, x, target), want, rtol=relative, atol=absolute)
    special = np.resize(np.float32([np.nan, np.inf, 1e30, 0.0]), 64)
    with np.errstate(all="ignore"):
        want = np.where(np.isposinf(special), np.inf if "sigmoid" not in name else 1.0, reference(special))
    np.testing.assert_allclose(evaluate(name, special, target), want, rtol=relative)


@each_target
def test_rounding_keeps_the_sign_of_zero(target):
    x = np.resize(np.float32([-0.0, 0.0, -0.25, 0.25, -0.5, 0.5, -0.75, 0.75]), 64)
    for name, reference in (
        ("vround", np.round),
        ("vfloor", np.floor),
        ("vceil", np.ceil),
        ("vtrunc", np.trunc),
    ):
        got = evaluate(name, x, target)
        assert np.array_equal(got, reference(x)), name
        assert np.array_equal(np.signbit(got), np.signbit(reference(x))), name


@each_target
def test_bounded_functions_stay_within_one(target):
    x = np.linspace(-20, 20, POINTS).astype(np.float32)
    for name in ("vtanh", "verf", "vsigmoid"):
        assert np.abs(evaluate(name, x, target)).max() <= 1, name


@each_target
def test_exponential_underflows_gradually_and_overflows_to_infinity(target):
    x = np.resize(np.float32([-87.5, -95, -103, -104, -1e30, 88.72, 88.73, 1e30]), 64)
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(evaluate("vexp", x, target), want, rtol=2e-6, atol=1e-44)


@each_target
@pytest.mark.parametrize("name, reference", [("vsin", np.sin), ("vcos", np.cos)])
def test_sine_and_cosine(name, reference, target):
    for limit in (0.01, 10.0, 8191.0, 1e6):
        x = np.linspace(-limit, limit, POINTS).astype(np.float32)
        error = np.abs(evaluate(name, x, target) - reference(x.astype(np.float64)))
        assert error.max() < 2.0**-23, limit
