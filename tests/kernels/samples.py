"""One small problem or two of every family: what a new target or compiler has to get right first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from kernels.conv_specs import Conv, epilogue_of, unknown_outer
from kernels.harness import check, f32, ints_of, like, operand, per_channel

from bolt.epilogue import Builder, Epilogue
from bolt.kernels.cpu_attention import CpuAttention
from bolt.kernels.cpu_conv import CpuConv
from bolt.kernels.cpu_conv_transpose import CpuConvTranspose
from bolt.kernels.cpu_copy import CpuCopy
from bolt.kernels.cpu_depthwise import CpuDepthwise
from bolt.kernels.cpu_fill import CpuFill
from bolt.kernels.cpu_gather import CpuGather
from bolt.kernels.cpu_gemm import CpuGemm
from bolt.kernels.cpu_grouped import CpuGrouped
from bolt.kernels.cpu_narrow_conv import CpuNarrowConv
from bolt.kernels.cpu_narrow_gemm import CpuNarrowGemm
from bolt.kernels.cpu_norm import CpuNorm
from bolt.kernels.cpu_pointwise import CpuPointwise
from bolt.kernels.cpu_pool import CpuPool
from bolt.kernels.cpu_reduce import CpuReduce
from bolt.kernels.cpu_resize import CpuResize
from bolt.kernels.cpu_softmax import CpuSoftmax
from bolt.kernels.cpu_winograd import CpuWinograd
from bolt.kernels.family import Family
from bolt.ops.attention import AttentionSpec
from bolt.ops.conv import ConvTransposeSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import CopySpec, FillSpec, GatherSpec, PointwiseSpec
from bolt.ops.rows import NormSpec, ReduceSpec, SoftmaxSpec
from bolt.ops.spatial import PoolSpec, ResizeSpec
from bolt.ops.spec import Operand, Spec
from bolt.target import Target
from bolt.types import S64, U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A problem, and how its kernel is checked.

    Attributes:
        family: who computes it.
        spec: what is computed.
        ints: the `d` array.
        tolerance: as in `harness.check`; 0 means small integers and equality.
        values: {operand: values} that replace random ones.
    """

    family: Family
    spec: Spec
    ints: Sequence[int] = ()
    tolerance: float = 4e-6
    values: Mapping[int, np.ndarray] = field(default_factory=dict)

    def check(self, target: Target) -> None:
        """One share and three, with operands between guards and before a page that can't be touched."""
        ends = tuple(i for i in range(len(self.spec.operands)) if i not in self.spec.constants)
        for parts, page_end in ((1, ()), (3, ends)):
            check(
                self.family,
                self.spec,
                self.ints,
                target=target,
                parts=parts,
                page_end=page_end,
                exact=self.tolerance == 0,
                tolerance=self.tolerance,
                values=self.values,
            )


def _run_time(family: Family, static: Spec, unknown: Mapping[int, Operand], **more: float) -> Sample:
    """The sample `static` with some operands' dims known at run time only."""
    operands = tuple(unknown.get(i, o) for i, o in enumerate(static.operands))
    spec = replace(static, operands=operands)
    return Sample(family=family, spec=spec, ints=ints_of(spec, static.operands), **more)


def _scale_and_bias() -> Epilogue:
    b = Builder()
    return b.finish(b.op("add", b.op("mul", b.acc(), b.input(0)), b.input(1)))


def _unknown(operand: Operand, *axes: int) -> Operand:
    dims = tuple(None if i in axes else d for i, d in enumerate(operand.dims))
    return replace(operand, dims=dims, strides=tuple(s if s in (0, 1) else None for s in operand.strides))


def _conv(family: Family, conv: Conv, *, tolerance: float = 4e-6) -> Sample:
    return Sample(family=family, spec=conv.spec(), tolerance=tolerance)


def _dynamic_conv(family: Family, conv: Conv, *, tolerance: float = 4e-6) -> Sample:
    spec, ints = conv.dynamic()
    return Sample(family=family, spec=spec, ints=ints, tolerance=tolerance)


def _conv_transpose() -> ConvTransposeSpec:
    out = f32((2, 6, 18, 18))
    expression, extras = epilogue_of("residual", out)
    operands = (out, f32((2, 3, 9, 5)), f32((5, 18, 4, 4)), *extras)
    return ConvTransposeSpec(
        operands=operands, epilogue=expression, constants=(2,), stride=(2, 2), pad=(1, 1)
    )


def _gemm(m: int, n: int, k: int, *, constant: bool) -> GemmSpec:
    out = f32((1, 2, m, n))
    expression, extras = epilogue_of("residual", out)
    b = f32((1, 1, k, n)) if constant else f32((1, 2, k, n), (2 * k * n, k * n, 1, k))
    operands = (out, f32((1, 2, m, k)), b, *extras)
    return GemmSpec(operands=operands, epilogue=expression, constants=(2,) if constant else ())


def _dynamic_gemm() -> Sample:
    static = _gemm(31, 33, 5, constant=False)
    static = replace(static, operands=static.operands[:3], epilogue=epilogue_of("none", static.out)[0])
    return _run_time(CpuGemm(), static, {i: _unknown(static.operands[i], 0, 1, 2, 3) for i in range(3)})


def _pointwise(*, dynamic: bool) -> Sample:
    b = Builder()
    gated = b.op("mul", b.op("sigmoid", b.input(0)), b.input(1))
    out = f32((3, 2, 41))
    operands = (out, f32(out.dims, (82, 41, 1)), like(out, (0, 0, 1)))
    spec = PointwiseSpec(operands=operands, epilogue=b.finish(b.op("max", gated, b.input(1))))
    unknown = {i: replace(o, dims=(None, None, 41)) for i, o in enumerate(operands)} if dynamic else {}
    return _run_time(CpuPointwise(), spec, unknown)


def _pool(kind: str) -> PoolSpec:
    window = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "pad_end": (1, 1)}
    return PoolSpec(operands=(f32((2, 5, 4, 37)), f32((2, 9, 8, 37))), kind=kind, **window)


def _resize(mode: str) -> ResizeSpec:
    return ResizeSpec(operands=(f32((2, 6, 10, 20)), f32((2, 3, 5, 20))), mode=mode)


def _rows(make: type[Spec], *, dynamic: bool, **more: bool) -> Sample:
    out = f32((1, 2, 5, 45))
    extras = (per_channel(out), like(out, (0, 0, 1, 0)))
    spec = make(operands=(out, out, *extras), epilogue=_scale_and_bias(), **more)
    family = CpuSoftmax() if make is SoftmaxSpec else CpuNorm()
    if not dynamic:
        return Sample(family=family, spec=spec)
    plain = make(operands=(out, out), **more)
    return _run_time(family, plain, {i: _unknown(out, 0, 1, 2, 3) for i in (0, 1)})


def _reduce(kind: str, dims: tuple[int, ...]) -> Sample:
    out = f32((dims[0], dims[2], dims[4]))
    return Sample(family=CpuReduce(), spec=ReduceSpec(operands=(out, f32(dims)), kind=kind))


def _copy(dims: tuple[int, ...], strides: tuple[int, ...]) -> Sample:
    return Sample(family=CpuCopy(), spec=CopySpec(operands=(f32(dims), f32(dims, strides))), tolerance=0)


def _dynamic_copy() -> Sample:
    """Channels last to channels first."""
    out, source = f32((2, 24, 5, 7)), f32((2, 24, 5, 7), (840, 1, 168, 24))
    first = replace(out, dims=(None, 24, None, None), strides=(None, None, None, 1))
    last = replace(source, dims=first.dims, strides=(None, 1, None, 24))
    return _run_time(CpuCopy(), CopySpec(operands=(out, source)), {0: first, 1: last}, tolerance=0)


def _gather() -> Sample:
    index = np.array([4, -1, 0, 2, -5, 99, -99])
    spec = GatherSpec(operands=(f32((3, 7, 35)), f32((3, 5, 35)), operand(S64, (7,))))
    unknown = {
        0: f32((3, None, 35), (None, 35, 1)),
        2: operand(S64, (None,), (1,)),
    }
    return replace(_run_time(CpuGather(), spec, unknown, tolerance=0), values={2: index})


def _attention(*, causal: bool = False) -> AttentionSpec:
    def heads(rows: int, columns: int) -> Operand:
        return f32((2, 3, rows, columns), (rows * 3 * columns, columns, 3 * columns, 1))

    m, n = 21, 21 if causal else 37
    operands = (heads(m, 19), heads(m, 17), heads(n, 17), heads(n, 19), f32((2, 3, m, n), (n, 0, 0, 1)))
    return AttentionSpec(
        operands=operands[: 4 if causal else 5], scale=0.25, has_bias=not causal, causal=causal
    )


_WINOGRAD = Conv(n=2, h=7, w=9, c=19, k=37, kernel=(3, 3), pad=(1, 1), c_wide=21, k_wide=40)
_DEPTHWISE = Conv(n=2, h=9, w=12, c=21, k=21, groups=21, kernel=(3, 3), pad=(1, 1), stride=(2, 2))
_GROUPED = Conv(n=2, h=9, w=12, c=22, k=22, groups=11, kernel=(3, 3), pad=(1, 1), stride=(2, 2))
_CONV = Conv(n=2, h=6, w=9, c=13, k=33, kernel=(3, 3), pad=(1, 1))

SAMPLES: dict[str, Sample] = {
    "conv": _conv(CpuConv(), _CONV, tolerance=0),
    "conv_1x1_views": _conv(CpuConv(), Conv(n=2, h=4, w=7, c=5, k=19, c_wide=9, k_wide=23), tolerance=0),
    "conv_groups": _conv(CpuConv(), Conv(h=4, w=5, c=32, k=32, kernel=(3, 3), pad=(1, 1), groups=8)),
    "conv_run_time": _dynamic_conv(CpuConv(), replace(_CONV, epilogue="gate")),
    "winograd": _conv(CpuWinograd(), _WINOGRAD, tolerance=4e-5),
    "winograd_run_time": _dynamic_conv(CpuWinograd(), replace(_WINOGRAD, c_wide=0, k_wide=0), tolerance=4e-5),
    "depthwise": _conv(CpuDepthwise(), _DEPTHWISE, tolerance=0),
    "depthwise_run_time": _dynamic_conv(CpuDepthwise(), replace(_DEPTHWISE, epilogue="gate")),
    "grouped": _conv(CpuGrouped(), _GROUPED, tolerance=0),
    "grouped_run_time": _dynamic_conv(CpuGrouped(), replace(_GROUPED, epilogue="gate")),
    "narrow_conv": _conv(CpuNarrowConv(), replace(_CONV, k=1), tolerance=0),
    "narrow_conv_run_time": _dynamic_conv(CpuNarrowConv(), replace(_CONV, k=3, epilogue="gate")),
    "narrow_gemm": Sample(family=CpuNarrowGemm(), spec=_gemm(17, 2, 40, constant=True)),
    "conv_transpose": Sample(family=CpuConvTranspose(), spec=_conv_transpose(), tolerance=0),
    "conv_transpose_run_time": _run_time(
        CpuConvTranspose(),
        _conv_transpose(),
        {i: unknown_outer(o) for i, o in enumerate(_conv_transpose().operands) if i != 2},
    ),
    "gemm_constant": Sample(family=CpuGemm(), spec=_gemm(17, 40, 65, constant=True)),
    "gemm": Sample(family=CpuGemm(), spec=_gemm(18, 37, 35, constant=False), tolerance=0),
    "gemm_run_time": _dynamic_gemm(),
    "attention": Sample(family=CpuAttention(), spec=_attention()),
    "attention_causal": Sample(family=CpuAttention(), spec=_attention(causal=True)),
    "attention_run_time": _run_time(
        CpuAttention(),
        _attention(),
        {
            i: _unknown(o, 0, 1, 2, 3) if i == 4 else _unknown(o, 0, 2)
            for i, o in enumerate(_attention().operands)
        },
    ),
    "pointwise": _pointwise(dynamic=False),
    "pointwise_run_time": _pointwise(dynamic=True),
    "max_pool": Sample(family=CpuPool(), spec=_pool("max"), tolerance=0),
    "average_pool_run_time": _run_time(
        CpuPool(), _pool("avg"), {i: unknown_outer(o) for i, o in enumerate(_pool("avg").operands)}
    ),
    "resize_linear": Sample(family=CpuResize(), spec=_resize("linear")),
    "resize_cubic": Sample(family=CpuResize(), spec=_resize("cubic")),
    "resize_nearest_run_time": _run_time(
        CpuResize(),
        _resize("nearest"),
        {i: unknown_outer(o) for i, o in enumerate(_resize("nearest").operands)},
        tolerance=0,
    ),
    "softmax": _rows(SoftmaxSpec, dynamic=False),
    "log_softmax_run_time": _rows(SoftmaxSpec, dynamic=True, log=True),
    "norm": _rows(NormSpec, dynamic=False),
    "rms_norm_run_time": _rows(NormSpec, dynamic=True, rms=True),
    "reduce_columns": _reduce("l2", (2, 3, 1, 4, 37)),
    "reduce_row": _reduce("max", (2, 3, 4, 20, 1)),
    "copy_transposed": _copy((19, 70), (1, 19)),
    "copy_interleaved": _copy((2, 19, 21, 3), (1197, 21, 1, 399)),
    "copy_run_time": _dynamic_copy(),
    "fill": Sample(
        family=CpuFill(), spec=FillSpec(operands=(operand(U8, (3, 2, 5), (60, 10, 2)),), value=200.0)
    ),
    "gather_run_time": _gather(),
}
"""At least one problem of every family, static and with run-time dims where the family has both."""
