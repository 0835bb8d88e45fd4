"""Transposed convolution by CUTLASS 2.x implicit GEMM, one output phase at a time.

Outputs whose row and column leave the same remainders by the stride are made by the same taps: each such
phase is a convolution with stride 1 by a part of the kernel, written to every stride-th pixel. All phases run
the same unit, which takes any strides.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bolt.kernels import implicit_gemm
from bolt.kernels.cpu_conv_transpose import phases
from bolt.kernels.cuda_pixels import known
from bolt.kernels.family import Source, argument_names
from bolt.kernels.finish import beside_weights
from bolt.kernels.implicit_gemm import Call, ConvConfig, View
from bolt.kernels.implicit_gemm_cost import conv_us
from bolt.kernels.rows import product, total
from bolt.ops.conv import ConvSpec, ConvTransposeSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """The outputs `first + i * stride` along rows and columns.

    Attributes:
        first: (row, column).
        taps: the kernel's rows and columns that make them, in the order of their inputs.
        pad: inputs before the first one that the phase's first output reads.
    """

    first: tuple[int, int]
    taps: tuple[tuple[int, ...], tuple[int, ...]]
    pad: tuple[int, int]


def phases_of(spec: ConvTransposeSpec) -> list[Phase]:
    """In the order of their packed weights."""
    r, s = (known(d) for d in spec.operands[2].dims[2:])
    rows = phases(r, spec.stride[0], spec.dilation[0], spec.pad[0])
    columns = phases(s, spec.stride[1], spec.dilation[1], spec.pad[1])
    found = []
    for (y, down), (x, right) in itertools.product(enumerate(rows), enumerate(columns)):
        if down and right:
            taps = tuple(tuple(tap for tap, _ in reversed(line)) for line in (down, right))
            pad = (-min(o for _, o in down), -min(o for _, o in right))
            found.append(Phase(first=(y, x), taps=(taps[0], taps[1]), pad=pad))
    return found


def _step(spec: ConvTransposeSpec) -> tuple[int, int]:
    """Distance between the inputs of neighbouring taps of a phase."""
    pairs = zip(spec.dilation, spec.stride, strict=True)
    rows, columns = (dilation // math.gcd(dilation, stride) for dilation, stride in pairs)
    return rows, columns


def _sparse(operand: Operand, phase: Phase, stride: tuple[int, int]) -> Operand:
    """The part of the output, or of an epilogue input, that belongs to a phase."""
    n, p, q, k = operand.dims
    steps = operand.strides
    extents = [
        None if extent is None else -(-(extent - first) // step)
        for extent, first, step in zip((p, q), phase.first, stride, strict=True)
    ]
    far = [None if s is None else s * step for s, step in zip(steps[1:3], stride, strict=True)]
    return replace(operand, dims=(n, *extents, k), strides=(steps[0], *far, steps[3]))


def convolution(spec: ConvTransposeSpec, phase: Phase) -> ConvSpec:
    """What a phase computes."""
    out, x, weights = spec.operands[:3]
    c, k, _, _ = (known(d) for d in weights.dims)
    dims = (k * spec.groups, c // spec.groups, *map(len, phase.taps))
    packed = replace(Operand.dense(x.dtype, dims), alignment=weights.alignment)
    sparse = [_sparse(o, phase, spec.stride) for o in (out, *spec.extras)]
    return ConvSpec(
        operands=(sparse[0], x, packed, *sparse[1:]),
        epilogue=spec.epilogue,
        constants=spec.constants,
        dilation=_step(spec),
        pad=phase.pad,
        groups=spec.groups,
        has_halo=False,
    )


class CutlassConvTransposeSm80:
    """Family of `ConvTransposeSpec` whose every output has a tap."""

    name = "cutlass_conv_transpose_sm80"
    op = "conv_transpose"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = _obstacle(spec, target)
        return Rejection(stage="supports", subject=self.name, reason=reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[ConvConfig]:
        found = [c for c in implicit_gemm.configs_of(_widest_phase(spec), target) if c.split_k == 1]
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: ConvConfig, target: Target) -> float:
        """Microseconds on the target's typical device."""
        assert isinstance(spec, ConvTransposeSpec)
        parts = [convolution(spec, phase) for phase in phases_of(spec)]
        return sum(conv_us(part, config, target) for part in parts)

    def render(self, spec: Spec, config: ConvConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvTransposeSpec)
        unit = implicit_gemm.unit_of(_widest_phase(spec), config)
        return implicit_gemm.launcher(name, unit.name, _calls(spec), split_k=config.split_k)

    def units(self, spec: Spec, config: ConvConfig, target: Target) -> tuple[Source, ...]:
        return (implicit_gemm.unit_of(_widest_phase(spec), config),)

    def pack(
        self, spec: Spec, config: ConvConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Per phase the weights as (k, r, s, c / groups)."""
        assert isinstance(spec, ConvTransposeSpec)
        c, k, r, s = constants[2].shape
        grouped = constants[2].reshape(spec.groups, c // spec.groups, k, r, s)
        krsc = grouped.transpose(0, 2, 3, 4, 1).reshape(-1, r, s, c // spec.groups)
        parts = [krsc[:, list(p.taps[0])][:, :, list(p.taps[1])].ravel() for p in phases_of(spec)]
        packed = beside_weights(spec, constants)
        packed[2] = implicit_gemm.pack_weights(spec, np.concatenate(parts))
        return packed

    def scratch_bytes(self, spec: Spec, config: ConvConfig, target: Target) -> int:
        return 0


def _widest_phase(spec: Spec) -> ConvSpec:
    """The phase with most taps; all phases have the same types, alignments and epilogue."""
    assert isinstance(spec, ConvTransposeSpec)
    return convolution(spec, max(phases_of(spec), key=lambda p: len(p.taps[0]) * len(p.taps[1])))


def _obstacle(spec: Spec, target: Target) -> str | None:
    assert isinstance(spec, ConvTransposeSpec)
    if len(phases_of(spec)) < math.prod(spec.stride):
        return "some outputs have no tap: the kernel is smaller than the stride, or the dilation skips them"
    return implicit_gemm.obstacle(_widest_phase(spec), target)


def _calls(spec: ConvTransposeSpec) -> list[Call]:
    names, weights, calls = argument_names(spec), 0, []
    (n, p, q, k), (_, h, w, c) = names[0]["dims"], names[1]["dims"]
    extras = range(spec.extra_base, spec.extra_base + spec.epilogue.inputs)
    for phase in phases_of(spec):
        part = convolution(spec, phase)
        r, s = part.kernel
        sizes: dict[str, str | int] = {"n": n, "h": h, "w": w, "c": c, "k": k, "groups": spec.groups}
        sizes |= {"r": r, "s": s}
        sizes["p"] = _extent(p, phase.first[0], spec.stride[0])
        sizes["q"] = _extent(q, phase.first[1], spec.stride[1])
        calls.append(
            Call(
                sizes=sizes,
                pairs={"pad": part.pad, "stride": part.stride, "dilation": part.dilation},
                weights=weights,
                x=View(operand=1, offset="0", strides=tuple(names[1]["strides"][:3])),
                y=_view(spec, names, 0, phase),
                extras=tuple(_view(spec, names, i, phase) for i in extras),
            )
        )
        weights += part.operands[1].dtype.size_bytes * math.prod(known(d) for d in part.operands[2].dims)
    return calls


def _extent(extent: str, first: int, stride: int) -> str:
    """Outputs of a phase along one dim."""
    return f"({extent} + {stride - 1 - first}) / {stride}"


def _view(spec: ConvTransposeSpec, names: Sequence[dict[str, list[str]]], operand: int, phase: Phase) -> View:
    n, y, x = names[operand]["strides"][:3]
    elements = total(product(str(phase.first[0]), y), product(str(phase.first[1]), x))
    offset = product(str(spec.operands[operand].dtype.size_bytes), elements)
    strides = (n, product(str(spec.stride[0]), y), product(str(spec.stride[1]), x))
    return View(operand=operand, offset=offset, strides=strides)
