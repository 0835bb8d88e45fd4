"""Every family for aarch64, on such a machine or emulated: vectors without x86's builtins."""

from __future__ import annotations

import emulation
import numpy as np
import pytest
from kernels import harness as h
from kernels.samples import SAMPLES
from kernels.test_cpu_pointwise import row

from bolt.codegen.simd import emit
from bolt.epilogue import OPS
from bolt.kernels import CPU_FAMILIES
from bolt.target import AARCH64_PORTABLE

needs_aarch64 = pytest.mark.skipif(
    bool(emulation.obstacle(AARCH64_PORTABLE)), reason=emulation.obstacle(AARCH64_PORTABLE)
)

SPECIAL = np.float32(
    [0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 88.5, -103, 0.5, 1.5, 2.5, -0.5, 7]
)
_ROW = """
extern "C" __attribute__((visibility("default")))
void ${name}(void* const* p, const int64_t* d, void*, int64_t, int64_t) {
  for (int64_t i = 0; i < d[0]; i += VL) {
    ${body}
    vstore((float*)p[0] + i, ${result});
  }
}
"""


X86_ONLY = {"cpu_depthwise_words"}
"""Families whose instructions only x86 has; tests/kernels/test_clang.py has theirs."""


def test_every_family_has_a_sample() -> None:
    assert {s.family.name for s in SAMPLES.values()} == {f.name for f in CPU_FAMILIES} - X86_ONLY


@needs_aarch64
@pytest.mark.parametrize("name", SAMPLES)
def test_sample(name: str) -> None:
    SAMPLES[name].check(AARCH64_PORTABLE)


def rows() -> str:
    """A translation unit with one function per row of the table."""
    text = '#include "bolt/simd.h"\n'
    for name in OPS:
        lines, result = emit(row(name), acc="", load=lambda i: f"vload((const float*)p[{i + 1}] + i)")
        values = {"${name}": f"row_{name}", "${body}": "\n    ".join(lines), "${result}": result}
        function = _ROW
        for key, value in values.items():
            function = function.replace(key, value)
        text += function
    return text


@needs_aarch64
@pytest.mark.parametrize("name", OPS)
def test_row_on_special_values(name: str) -> None:
    arguments = [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*[SPECIAL] * OPS[name].arity)]
    got = np.zeros_like(arguments[0])
    h.call(rows(), f"row_{name}", AARCH64_PORTABLE, [(a, 0) for a in (got, *arguments)], [got.size])
    with np.errstate(all="ignore"):
        want = row(name).evaluate(None, arguments).astype(np.float32)
        close = np.abs(got - want) <= 2e-5 * np.abs(want) + 1e-37
    wrong = ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))
    found = [(*(float(a[i]) for a in arguments), got[i], want[i]) for i in np.flatnonzero(wrong)]
    assert not found, f"(arguments, got, want): {found[:8]}"
