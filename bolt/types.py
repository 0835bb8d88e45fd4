"""Data types: one row per type with the spelling every other part of bolt needs."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes  # noqa: F401  (makes "bfloat16" known to NumPy)
import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class DType:
    """An element type.

    Attributes:
        name: bolt's own short name, used in kernel names and cache keys.
        onnx: `onnx.TensorProto.DataType` number.
        numpy: NumPy dtype string (of the in-memory representation).
        cxx: C++ spelling (of the 16-bit floats: CUDA's).
        cpu: C++ spelling in kernels of a CPU; "" where they don't have the type.
        size_bytes: bytes of one element.
        cutlass: spelling in CUTLASS.
    """

    name: str
    onnx: int
    numpy: str
    cxx: str
    cpu: str
    size_bytes: int
    cutlass: str

    @property
    def np(self) -> np.dtype:
        """The NumPy dtype."""
        return np.dtype(self.numpy)

    @property
    def is_float(self) -> bool:
        """Whether it holds fractions (NumPy has no kind for bfloat16)."""
        return self.name in ("f32", "f16", "bf16", "f8e4m3", "f8e5m2")

    def __repr__(self) -> str:
        return self.name


F32 = DType(name="f32", onnx=1, numpy="float32", cxx="float", cpu="float", size_bytes=4, cutlass="float")
U8 = DType(name="u8", onnx=2, numpy="uint8", cxx="uint8_t", cpu="uint8_t", size_bytes=1, cutlass="uint8_t")
S8 = DType(name="s8", onnx=3, numpy="int8", cxx="int8_t", cpu="int8_t", size_bytes=1, cutlass="int8_t")
S32 = DType(name="s32", onnx=6, numpy="int32", cxx="int32_t", cpu="int32_t", size_bytes=4, cutlass="int32_t")
S64 = DType(name="s64", onnx=7, numpy="int64", cxx="int64_t", cpu="int64_t", size_bytes=8, cutlass="int64_t")
BOOL = DType(name="bool", onnx=9, numpy="bool", cxx="bool", cpu="bool", size_bytes=1, cutlass="bool")

F16 = DType(
    name="f16", onnx=10, numpy="float16", cxx="__half", cpu="", size_bytes=2, cutlass="cutlass::half_t"
)
BF16 = DType(
    name="bf16",
    onnx=16,
    numpy="bfloat16",
    cxx="__nv_bfloat16",
    cpu="bf16_t",
    size_bytes=2,
    cutlass="cutlass::bfloat16_t",
)

F8E4M3 = DType(
    name="f8e4m3",
    onnx=17,
    numpy="float8_e4m3fn",
    cxx="__nv_fp8_e4m3",
    cpu="",
    size_bytes=1,
    cutlass="cutlass::float_e4m3_t",
)
F8E5M2 = DType(
    name="f8e5m2",
    onnx=19,
    numpy="float8_e5m2",
    cxx="__nv_fp8_e5m2",
    cpu="",
    size_bytes=1,
    cutlass="cutlass::float_e5m2_t",
)

DTYPES = (F32, U8, S8, S32, S64, BOOL)
"""The types a module can take in and hand out."""

STORED = (F16, BF16)
"""Types in which a module may keep fp32 values inside."""

EIGHT_BIT_FLOATS = (F8E4M3, F8E5M2)
"""Types of quantized values on GPUs that multiply them; on no target do they enter or leave a module."""

LARGEST = {F16: 65504.0, BF16: float.fromhex("0x1.fep127"), F8E4M3: 448.0, F8E5M2: 57344.0}
"""The largest finite number of the floats that are narrower than fp32."""

_BY_ONNX = {d.onnx: d for d in (*DTYPES, *EIGHT_BIT_FLOATS)}
_BY_NUMPY = {d.np: d for d in (*DTYPES, *STORED, *EIGHT_BIT_FLOATS)}


def from_onnx(code: int) -> DType | None:
    """The row of an ONNX type number, or None when bolt has no such type."""
    return _BY_ONNX.get(int(code))


def from_numpy(dtype: np.dtype | str) -> DType | None:
    """The row of a NumPy dtype, or None when bolt has no such type."""
    return _BY_NUMPY.get(np.dtype(dtype))


def convert(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Real numbers as a kernel stores them in a float or 8-bit type: rounded to nearest even.

    NaN and infinity are kept, finite values clamped to the type's range: masks of -3.4e38 must not become
    infinite. 8-bit integers and 8-bit floats saturate (ONNX's `saturate` = 1), infinity too.
    """
    if from_numpy(np.asarray(array).dtype) in EIGHT_BIT_FLOATS:
        array = array.astype(np.float32)  # NumPy can't clip them
    if dtype in (U8, S8):
        limits = np.iinfo(dtype.np)
        whole: np.ndarray = np.clip(np.rint(array), limits.min, limits.max)
        return whole.astype(dtype.np)
    if dtype in LARGEST:
        array = within(array, dtype)
    return np.asarray(array).astype(np.float32).astype(dtype.np)


def within(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Real numbers clamped to the range of a float narrower than fp32, as `convert` does it."""
    clamped: np.ndarray = np.clip(array, -LARGEST[dtype], LARGEST[dtype])
    return clamped if dtype in EIGHT_BIT_FLOATS else np.where(np.isinf(array), array, clamped)
