"""One small problem for each family of a CUDA target and each arithmetic: the rows of the support table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from kernels import samples
from kernels.conv_specs import Conv, epilogue_of
from kernels.device_convs import on_device, transposed
from kernels.harness import f32, operand

from bolt.epilogue import Builder
from bolt.kernels import CUDA_FAMILIES
from bolt.kernels.family import DeviceFamily
from bolt.ops.attention import AttentionSpec
from bolt.ops.dual_gemm import DualGemmSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import FillSpec
from bolt.ops.spec import Operand, Spec
from bolt.types import BF16, F8E4M3, F16, F32, S8, S64, DType

ALIGNED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """What a kernel computes with.

    Attributes:
        name: column of the table.
        stored: type of the operands.
        math: `GemmSpec.math`.
    """

    name: str
    stored: DType
    math: str = "f32"


ARITHMETIC = (
    Arithmetic(name="f16", stored=F16),
    Arithmetic(name="bf16", stored=BF16),
    Arithmetic(name="tf32", stored=F32, math="tf32"),
    Arithmetic(name="f32", stored=F32),
    Arithmetic(name="s8", stored=S8),
    Arithmetic(name="f8", stored=F8E4M3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A problem, and values that replace random operands."""

    spec: Spec
    values: Mapping[int, np.ndarray] = field(default_factory=dict)


def _in_type(spec: Spec, arithmetic: Arithmetic) -> Sample:
    """`spec` of fp32 operands with them stored as the arithmetic says, aligned."""
    operands = tuple(
        replace(o, dtype=arithmetic.stored if o.dtype is F32 else o.dtype, alignment=ALIGNED)
        for o in spec.operands
    )
    return Sample(spec=replace(spec, operands=operands))


def _dense(dtype: DType, *dims: int) -> Operand:
    return replace(Operand.dense(dtype, dims), alignment=ALIGNED)


def _gemm(arithmetic: Arithmetic) -> Sample:
    wide = {S8: F32, F8E4M3: F16}
    out = _dense(wide.get(arithmetic.stored, arithmetic.stored), 1, 1, 72, 136)
    expression, extras = epilogue_of("bias_relu", f32(out.dims))
    b = _dense(arithmetic.stored, 1, 1, 96, 136)
    biases = [replace(e, alignment=ALIGNED) for e in extras]
    operands = (out, _dense(arithmetic.stored, 1, 1, 72, 96), b, *biases)
    return Sample(spec=GemmSpec(operands=operands, epilogue=expression, constants=(2,), math=arithmetic.math))


def _conv(arithmetic: Arithmetic, **changes: object) -> Sample:
    conv = replace(Conv(h=9, w=10, c=64, k=72, kernel=(3, 3), pad=(1, 1), epilogue="bias_relu"), **changes)  # type: ignore[arg-type]
    return Sample(spec=on_device(conv, arithmetic.stored, math=arithmetic.math))


def _depthwise(arithmetic: Arithmetic) -> Sample:
    return _conv(arithmetic, k=64, groups=64)


def _transposed(arithmetic: Arithmetic) -> Sample:
    spec = transposed((1, 5, 6, 64), 72, (4, 4), dtype=arithmetic.stored, pad=(1, 1))
    return Sample(spec=spec)


def _attention(arithmetic: Arithmetic) -> Sample:
    def heads(rows: int) -> Operand:
        return Operand(
            dtype=arithmetic.stored, dims=(1, 2, rows, 32), strides=(rows * 64, 32, 64, 1), alignment=ALIGNED
        )

    operands = (heads(40), heads(40), heads(72), heads(72))
    return Sample(spec=AttentionSpec(operands=operands, scale=0.2))


def _dual_gemm(arithmetic: Arithmetic) -> Sample:
    b = Builder()
    gate = b.finish(b.op("mul", b.op("silu", b.acc()), b.input(0)))
    weights = _dense(arithmetic.stored, 1, 1, 72, 136)
    operands = (
        _dense(arithmetic.stored, 1, 1, 70, 136),
        _dense(arithmetic.stored, 1, 1, 70, 72),
        weights,
        weights,
    )
    return Sample(spec=DualGemmSpec(operands=operands, epilogue=gate, constants=(2, 3)))


def _of(name: str) -> Callable[[Arithmetic], Sample]:
    """The CPU's sample of that name."""
    return lambda arithmetic: _in_type(samples.SAMPLES[name].spec, arithmetic)


def _gather(arithmetic: Arithmetic) -> Sample:
    spec = samples.SAMPLES["gather_run_time"].spec
    operands = (f32((3, 7, 40)), f32((3, 5, 40)), operand(S64, (7,)))
    index = np.array([4, -1, 0, 2, -5, 1, 3])
    return replace(_in_type(replace(spec, operands=operands), arithmetic), values={2: index})


def _fill(arithmetic: Arithmetic) -> Sample:
    return _in_type(FillSpec(operands=(f32((3, 2, 40)),), value=2.0), arithmetic)


PROBLEMS: Mapping[str, Callable[[Arithmetic], Sample]] = {
    "cutlass_gemm_sm80": _gemm,
    "cutlass_gemm_sm90": _gemm,
    "cutlass_gemm_sm100": _gemm,
    "cutlass_conv_sm80": _conv,
    "cutlass_conv_sm90": _conv,
    "cutlass_conv_transpose_sm80": _transposed,
    "cutlass_depthwise_sm80": _depthwise,
    "cutlass_attention_sm80": _attention,
    "cutlass_attention_sm90": _attention,
    "cutlass_dual_gemm_sm80": _dual_gemm,
    "cuda_depthwise": _depthwise,
    "cuda_conv_direct": _conv,
    "cuda_conv_transpose": _transposed,
    "cuda_pointwise": _of("pointwise"),
    "cuda_copy": _of("copy_interleaved"),
    "cuda_fill": _fill,
    "cuda_gather": _gather,
    "cuda_softmax": _of("softmax"),
    "cuda_norm": _of("norm"),
    "cuda_reduce": _of("reduce_columns"),
    "cuda_pool": _of("max_pool"),
    "cuda_resize": _of("resize_linear"),
}
"""The problem of each family, by its name."""


PRODUCTS_ONLY = ("tf32", "s8", "f8")
"""Arithmetic that only matrix products have kernels of their own for."""


def sample(family: DeviceFamily, arithmetic: Arithmetic) -> Sample | None:
    """The family's problem; None where the arithmetic means nothing for it."""
    if arithmetic.name in PRODUCTS_ONLY and not family.name.startswith("cutlass"):
        return None
    found = PROBLEMS[family.name](arithmetic)
    return None if arithmetic.math != getattr(found.spec, "math", "f32") else found


FAMILIES = {family.name: family for family in CUDA_FAMILIES}
