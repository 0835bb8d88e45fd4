"""`bolt/cuda/vmath.h` and `bolt/cuda/access.h` as plain C++: every row of `OPS` and every element type."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernels.test_cpu_pointwise import SPECIAL, row

from bolt.codegen.simd import emit
from bolt.epilogue import OPS
from bolt.templates import ROOT
from bolt.types import (
    BF16,
    BOOL,
    EIGHT_BIT_FLOATS,
    F8E4M3,
    F8E5M2,
    F16,
    F32,
    LARGEST,
    S8,
    S32,
    S64,
    U8,
    DType,
    convert,
)

STORES = (F32, F16, BF16, F8E4M3, F8E5M2, U8, S8, S32, S64, BOOL)

_ROW = """
extern "C" void row_{op}(const float* const* x, float* y, int64_t n) {{
  for (int64_t i = 0; i < n; i++) {{
    {statements}
    y[i] = {result};
  }}
}}
"""
_STORE = """
extern "C" void store_{name}({cxx}* y, float* back, const float* x, int64_t n) {{
  for (int64_t i = 0; i + 4 <= n; i += 4) {{
    vstore_pack<4>(y + i, x + i);
    vload_pack<4>(back + i, y + i);
    for (int64_t j = i; j < i + 4; j++) {{
      {cxx} one;
      vstore_as(&one, x[j]);
      if (memcmp(&one, y + j, sizeof one) != 0) back[j] = -12345.0f;
      if (vload_as(&one) == vload_as(&one) && vload_as(&one) != back[j]) back[j] = -12345.0f;
    }}
  }}
}}
"""


def _compiled(text: str, folder: Path, *flags: str) -> ctypes.CDLL:
    source, library = folder / "source.cc", folder / "source.so"
    source.write_text(text)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    command += ["-Wno-unknown-pragmas"]  # "unroll" is nvcc's
    command += ["-fPIC", "-shared", f"-I{ROOT / 'include'}", *flags, str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> ctypes.CDLL:
    text = '#include "bolt/cuda/vmath.h"\n'
    for name in OPS:
        statements, result = emit(row(name), acc="", load=lambda i: f"x[{i}][i]")
        text += _ROW.format(op=name, statements="\n".join(statements), result=result)
    return _compiled(text, tmp_path_factory.mktemp("rows"))


def evaluate(library: ctypes.CDLL, name: str, arrays: list[np.ndarray]) -> np.ndarray:
    out = np.empty(arrays[0].size, np.float32)
    pointers = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
    library[f"row_{name}"](pointers, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(out.size))
    return out


def reference(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        return row(name).evaluate(None, arrays).astype(np.float32)


@pytest.mark.parametrize("name", OPS)
def test_row_on_ordinary_values(name, rows):
    rng = np.random.default_rng(5)
    arrays = [(rng.standard_normal(4000) * 3).astype(np.float32) for _ in range(OPS[name].arity)]
    for array in arrays:
        array[:900] = np.round(array[:900] * 2) / 2  # ties and equal pairs
    got, want = evaluate(rows, name, arrays), reference(name, arrays)
    with np.errstate(invalid="ignore"):
        close = np.abs(got - want) <= 1e-6 * (np.abs(want) + 1)
    assert np.all(close | (got == want) | (np.isnan(got) & np.isnan(want)))


@pytest.mark.parametrize("name", OPS)
def test_row_on_special_values(name, rows):
    arrays = [g.ravel().copy() for g in np.meshgrid(*[SPECIAL] * OPS[name].arity, indexing="ij")]
    got, want = evaluate(rows, name, arrays), reference(name, arrays)
    with np.errstate(invalid="ignore"):
        close = np.abs(got - want) <= 2e-5 * np.abs(want) + 1e-37
    wrong = ~(close | (got == want) | (np.isnan(got) & np.isnan(want)))
    cases = [(*(float(a[i]) for a in arrays), got[i], want[i]) for i in np.flatnonzero(wrong)]
    assert not cases, f"(arguments, got, want): {cases[:8]}"


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> ctypes.CDLL:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc, and so no cuda_fp16.h")
    include = Path(nvcc).resolve().parent.parent / "include"
    if not (include / "cuda_fp16.h").exists():
        include = next(Path("/usr/local").glob("cuda*/include"), include)
    text = '#include "bolt/cuda/access.h"\n' + "".join(_STORE.format(name=d.name, cxx=d.cxx) for d in STORES)
    return _compiled(text, tmp_path_factory.mktemp("stores"), "-isystem", str(include))


def _stored(library: ctypes.CDLL, dtype: DType, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    memory, back = np.zeros(x.size, dtype.np), np.empty(x.size, np.float32)
    pointers = (ctypes.c_void_p(a.ctypes.data) for a in (memory, back, x))
    library[f"store_{dtype.name}"](*pointers, ctypes.c_int64(x.size))
    return memory, back


@pytest.mark.parametrize("dtype", STORES, ids=lambda d: d.name)
def test_stores_and_loads_every_type(dtype, stores):
    x = np.float32([0, -0.0, 0.7, -0.7, 1, 2.5, 3.1, 5, 6.9, 7, 100, 126.5, 1e-3, 3, 4, 9])
    x = np.abs(x) if dtype is U8 else x
    memory, back = _stored(stores, dtype, x)
    want = (x != 0) if dtype is BOOL else x.astype(dtype.np)
    np.testing.assert_array_equal(memory, want)
    np.testing.assert_array_equal(back, want.astype(np.float32))


def test_half_saturates_finite_values_only(stores):
    x = np.float32([65504, 65519, 65520, 1e9, -65520, -3.4e38, np.inf, -np.inf, np.nan, 6e-8, 1e-8, 0.1])
    memory, _ = _stored(stores, F16, x)
    want = np.float16([65504, 65504, 65504, 65504, -65504, -65504, np.inf, -np.inf, np.nan, 6e-8, 0, 0.1])
    np.testing.assert_array_equal(memory, want)


@pytest.mark.parametrize("dtype", EIGHT_BIT_FLOATS, ids=lambda d: d.name)
def test_8_bit_floats_as_numpy_rounds_them(dtype, stores):
    """Dense between the smallest and beyond the largest; every one of them is read as it is."""
    largest = np.log2(LARGEST[dtype])
    x = np.exp2(np.linspace(-20, largest + 2, 20_000, dtype=np.float32))
    ties = np.arange(256, dtype=np.uint8).view(dtype.np).astype(np.float32)
    x = np.concatenate([x, -x, ties, ties * 17 / 16, ties * 33 / 32, np.repeat([np.inf, -np.inf, np.nan], 4)])
    memory, back = _stored(stores, dtype, x.astype(np.float32))
    want = convert(x, dtype).astype(np.float32)
    np.testing.assert_array_equal(memory.astype(np.float32), want)
    np.testing.assert_array_equal(back, want)


def test_bfloat16_rounds_to_nearest_even(stores):
    bits = np.uint32([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F800000, 0xFF800000, 0xFF7FFFFF, 0])
    memory, _ = _stored(stores, BF16, bits.view(np.float32))
    want = np.uint16([0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x7F80, 0xFF80, 0xFF7F, 0])
    np.testing.assert_array_equal(memory.view(np.uint16), want)
