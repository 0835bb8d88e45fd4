"""`cutlass_depthwise_sm80`: depthwise convolution by CUTLASS's direct convolution, with fp32 sums.

CUTLASS sums 16-bit products in 16 bits; `templates/include/bolt/cuda/depthwise.h` supplies the step that
sums them in fp32. Kernel size, strides and dilations are compile-time constants of this kernel, so they are
part of the unit; images, channels and padding are not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels import implicit_gemm
from bolt.kernels.cuda_pixels import LAUNCH_US, VECTOR_BYTES, known, widest
from bolt.kernels.family import Source
from bolt.kernels.finish import beside_weights
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import F16, convert

CHANNELS = 64
"""Of a thread block: 8 threads take 8 each."""

MOST_BLOCKS = 65535
"""Along the third dimension of a grid."""

MOST_TAPS = 25
"""More are unrolled for minutes and spill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A thread block's tile.

    Attributes:
        rows, columns: output pixels.
        warp_pixels: of them, those of one warp.
        stages: input tiles in shared memory at a time.
    """

    rows: int
    columns: int
    warp_pixels: int
    stages: int


CONFIGS = (
    Config(rows=8, columns=8, warp_pixels=16, stages=4),
    Config(rows=4, columns=4, warp_pixels=4, stages=4),
)
"""The tile of CUTLASS's own depthwise example (46), and a smaller one."""


class CutlassDepthwise:
    """Family of `ConvSpec` with one input and one output channel per group."""

    name = "cutlass_depthwise_sm80"
    op = "conv"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ConvSpec)
        reason = _obstacle(spec, target) if spec.is_depthwise else "the convolution is not depthwise"
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        assert isinstance(spec, ConvSpec)
        return _fitting(spec, target)

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds: memory traffic, with what the tiles' edges read twice."""
        assert isinstance(spec, ConvSpec) and target.gpu is not None
        gpu = target.gpu
        n, p, q, k = (d or 1 for d in spec.out.dims)
        tiles = n * math.ceil(p / config.rows) * math.ceil(q / config.columns)
        threads = tiles * math.ceil(k / CHANNELS) * 32 * config.rows * config.columns // config.warp_pixels
        busy = min(1.0, threads / (gpu.multiprocessors * 256))
        inputs = _input_pixels(spec, config) * tiles * k * spec.out.dtype.size_bytes
        outputs = n * p * q * k * spec.out.dtype.size_bytes
        flops = tiles * config.rows * config.columns * k * 2 * math.prod(spec.kernel)
        moved = max((inputs + outputs) / (2 * gpu.bandwidth), spec.bytes() / gpu.bandwidth) / busy
        return LAUNCH_US + 1e6 * max(moved, flops / (0.5 * gpu.f32_flops * busy))

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        unit = self._unit(spec, config, target)
        return implicit_gemm.launcher(name, unit.name, [implicit_gemm.call_of(spec)])

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, ConvSpec)
        return (self._unit(spec, config, target),)

    def _unit(self, spec: ConvSpec, config: Config, target: Target) -> Source:
        assert target.gpu is not None
        context = {
            "title": f"Depthwise convolution, {config.rows}x{config.columns} pixels",
            **implicit_gemm.finish_context(spec),
            "element": spec.operands[1].dtype.cutlass,
            "out_cutlass": spec.out.dtype.cutlass,
            "rows": config.rows,
            "columns": config.columns,
            "channels": CHANNELS,
            "warp_pixels": config.warp_pixels,
            "stages": config.stages,
            "taps": spec.kernel,
            "stride": spec.stride,
            "dilation": spec.dilation,
            "multiprocessors": target.gpu.multiprocessors,
            "alone": "true" if _is_alone(spec, config) else "false",
        }
        text = render("cutlass_depthwise_sm80.cu.jinja", {**context, "name": ""})
        name = f"bolt_depthwise_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        text = render("cutlass_depthwise_sm80.cu.jinja", {**context, "name": name})
        return Source(name=name, text=text, language="cuda")

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (r, s, k) in the type of the input."""
        packed = beside_weights(spec, constants)
        taps = np.ascontiguousarray(constants[2][:, 0].transpose(1, 2, 0)).ravel()
        packed[2] = convert(taps, spec.operands[1].dtype)
        return packed

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _obstacle(spec: ConvSpec, target: Target) -> str | None:
    gpu, x, out = target.gpu, spec.operands[1], spec.out
    if gpu is None or gpu.sm < 80:
        return "the kernel needs sm80"
    vector = VECTOR_BYTES // F16.size_bytes
    channels = known(out.dims[3])
    checks = (
        (spec.has_halo, "the padding is in memory"),
        (2 not in spec.constants, "the weights are not constant"),
        (x.dtype is not F16 or out.dtype is not F16, "the input or the output is not f16"),
        (x.strides[3] != 1 or out.strides[3] != 1, "the channels are not contiguous"),
        (min(widest(o, channels, vector) for o in (x, out)) < vector, "pixels are not multiples of 16 bytes"),
        (any(any(e.strides[:3]) for e in spec.extras), "the epilogue reads more than a number per channel"),
        (any(e.strides[3] not in (0, 1) for e in spec.extras), "channels of an epilogue input are apart"),
        (len(spec.extras) > implicit_gemm.MAX_EXTRAS, "the epilogue reads too many tensors"),
        (math.prod(spec.kernel) > MOST_TAPS, f"more than {MOST_TAPS} taps"),
        (not _fitting(spec, target), "no tile fits shared memory and registers"),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def _fitting(spec: ConvSpec, target: Target) -> list[Config]:
    """Configs whose input tiles fit shared memory; with strides a thread of the large tile spills."""
    assert target.gpu is not None
    unit_stride = spec.stride == (1, 1) and spec.dilation == (1, 1)
    bytes_ = CHANNELS * F16.size_bytes
    return [
        c
        for c in CONFIGS
        if (unit_stride or c.rows <= 4)
        and (not _is_alone(spec, c) or 0 < _tiles(spec, c) <= MOST_BLOCKS)
        and bytes_ * (c.stages * _input_pixels(spec, c) + math.prod(spec.kernel)) <= target.gpu.smem_bytes
    ]


def _is_alone(spec: ConvSpec, config: Config) -> bool:
    """Whether a tile's fp32 sums need more shared memory than its input, so that no other tile may follow."""
    return 4 * config.rows * config.columns > F16.size_bytes * _input_pixels(spec, config)


def _tiles(spec: ConvSpec, config: Config) -> int:
    """Of one image; 0 when its size is only known at run time."""
    _, p, q, _ = spec.out.dims
    return math.ceil(p / config.rows) * math.ceil(q / config.columns) if p and q else 0


def _input_pixels(spec: ConvSpec, config: Config) -> int:
    """That an output tile reads."""
    extents = (
        (tile - 1) * stride + (taps - 1) * dilation + 1
        for tile, stride, taps, dilation in zip(
            (config.rows, config.columns), spec.stride, spec.kernel, spec.dilation, strict=True
        )
    )
    return math.prod(extents)
