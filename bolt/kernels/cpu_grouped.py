"""Grouped convolution on the CPU with several groups to a vector of output channels.

A vector holds all outputs of a few small groups. For value j of their reduction every lane needs input
channel j of its own group: one permutation of the vector of the groups' input channels. So no lane is idle,
where an implicit GEMM fills `k / groups` lanes of each vector only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bolt.codegen.render import render
from bolt.kernels.finish import STORAGE, beside_weights, epilogue_cycles, finish_context, wrong_storage
from bolt.kernels.igemm import ASSUMED_COLUMNS, ISSUE, L2_BYTES_PER_CYCLE, LINE_BYTES, Cut
from bolt.kernels.rows import number, window_context
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F32, S8

L1_SETS, L1_WAYS = 64, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedConfig:
    """How a grouped convolution runs.

    Attributes:
        mr: most pixels of a register tile.
        chunk: vectors of output channels that go over the image together.
    """

    mr: int
    chunk: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """A grouped convolution in numbers.

    Attributes:
        k, c: output and input channels of one group.
        groups: groups.
        together: groups of one vector of outputs.
        vectors: vectors of outputs.
    """

    k: int
    c: int
    groups: int
    together: int
    vectors: int

    @classmethod
    def of(cls, spec: ConvSpec, target: Target) -> _Sizes:
        channels_out, channels_in = spec.out.dims[3], spec.operands[1].dims[3]
        assert channels_out is not None and channels_in is not None
        k, c = channels_out // spec.groups, channels_in // spec.groups
        together = max(1, target.vector_lanes // k)
        return cls(k=k, c=c, groups=spec.groups, together=together, vectors=-(-spec.groups // together))


def _chunks(spec: ConvSpec, sizes: _Sizes, target: Target) -> list[int]:
    """All vectors at once, and as many as keep the weights or the input rows under the taps in L1."""
    r, s = spec.kernel
    columns = (spec.out.dims[2] or ASSUMED_COLUMNS) * spec.stride[1] + s
    weights = 4 * target.vector_lanes * r * s * sizes.c
    rows = 4 * sizes.together * sizes.c * columns * r
    fits = [target.l1_bytes // 2 // size for size in (weights, rows)]
    return sorted({sizes.vectors, *(min(sizes.vectors, max(1, fit)) for fit in fits)})


class CpuGrouped:
    """Family of `ConvSpec` with small groups that share a vector."""

    name = "cpu_grouped"
    op = "conv"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ConvSpec) or spec.groups == 1 or spec.is_depthwise:
            return self._no(f"computes convolutions in groups of several channels, not {spec.op}")
        if 2 not in spec.constants:
            return self._no("the weights are not constant")
        sizes, lanes = _Sizes.of(spec, target), target.vector_lanes
        if sizes.together < 2:
            return self._no(f"groups of {sizes.k} output channels do not share vectors of {lanes}")
        if sizes.c * sizes.together > lanes:
            return self._no(f"the {sizes.c} input channels of {sizes.together} groups do not fit a vector")
        return wrong_storage(spec, self.name, a=STORAGE, b=(F32, BF16, S8))

    def _no(self, reason: str) -> Rejection:
        return Rejection(stage="supports", subject=self.name, reason=reason)

    def configs(self, spec: Spec, target: Target) -> Sequence[GroupedConfig]:
        assert isinstance(spec, ConvSpec)
        columns, sizes = spec.out.dims[2], _Sizes.of(spec, target)
        found: dict[GroupedConfig, None] = {}
        for most in range(2, 25):
            mr = most if columns is None else -(-columns // -(-columns // most))
            if mr + spec.kernel[1] + 3 > target.vector_registers:
                continue
            for chunk in _chunks(spec, sizes, target):
                found[GroupedConfig(mr=mr, chunk=chunk)] = None
        return sorted(found, key=lambda c: self.estimate(spec, c, target))

    def estimate(self, spec: Spec, config: GroupedConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, ConvSpec)
        sizes, (r, s) = _Sizes.of(spec, target), spec.kernel
        n, p = (d or 1 for d in spec.out.dims[:2])
        columns = spec.out.dims[2] or ASSUMED_COLUMNS
        macs, inputs = config.mr * s, _columns(spec, config.mr)
        # A permutation takes one of the ports that multiply.
        step = max((macs + inputs / 2) / target.fma_ports, (inputs + s) / 2, (macs + 2 * inputs + s) / ISSUE)
        tile = r * sizes.c * max(step, 4.0) + 20
        tile += config.mr * (1 + epilogue_cycles(spec.epilogue))
        tiles = n * p * -(-columns // config.mr)
        weight_bytes = 4 * r * s * sizes.c * target.vector_lanes * min(config.chunk, sizes.vectors)
        if weight_bytes > target.l1_bytes // 2:
            tile = max(tile, weight_bytes / config.chunk / L2_BYTES_PER_CYCLE) * 1.05
        tile *= _conflicts(spec, inputs)
        return float(tiles * sizes.vectors * tile)

    def render(self, spec: Spec, config: GroupedConfig, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        sizes, lanes, (r, s) = _Sizes.of(spec, target), target.vector_lanes, spec.kernel
        window = window_context(spec)
        context = {
            "title": f"Convolution {r}x{s} in groups of {sizes.c} to {sizes.k} channels, "
            f"tiles of {config.mr} pixels x {sizes.together} groups",
            "name": name,
            "a_type": spec.operands[1].dtype.cpu,
            "lanes": lanes,
            "groups": sizes.groups,
            "group_k": sizes.k,
            "group_c": sizes.c,
            "vectors": sizes.vectors,
            "mr": config.mr,
            "chunk": config.chunk,
            "spread": [_spread(sizes, lanes, j) for j in range(sizes.c)],
            "cut": Cut.of(number(window["extents"][2]), config.mr),
            **window,
            **finish_context(spec),
        }
        return render("cpu_grouped.cc.jinja", context)

    def pack(
        self, spec: Spec, config: GroupedConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (vectors, r, c / groups, s, lanes)."""
        assert isinstance(spec, ConvSpec)
        sizes, lanes = _Sizes.of(spec, target), target.vector_lanes
        weights, used = constants[2], sizes.together * sizes.k
        every = np.zeros((sizes.vectors * used, *weights.shape[1:]), np.float32)
        every[: len(weights)] = weights
        padded = np.zeros((sizes.vectors, lanes, *weights.shape[1:]), np.float32)
        padded[:, :used] = every.reshape(sizes.vectors, used, *weights.shape[1:])
        packed = beside_weights(spec, constants)
        packed[2] = padded.transpose(0, 3, 2, 4, 1).ravel()
        return packed

    def scratch_bytes(self, spec: Spec, config: GroupedConfig, target: Target) -> int:
        return 0


def _columns(spec: ConvSpec, mr: int) -> int:
    """Input pixels under a row of taps of a tile."""
    return (mr - 1) * spec.stride[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1


def _conflicts(spec: ConvSpec, columns: int) -> float:
    """Slow-down by input pixels that share few sets of L1; they are read once for each value."""
    step = spec.operands[1].strides[2]
    assert step is not None
    lines = {4 * step * column // LINE_BYTES for column in range(columns)}
    same_set = max(Counter(line % L1_SETS for line in lines).values())
    return 1.0 if spec.kernel[0] * same_set <= L1_WAYS else 1.3


def _spread(sizes: _Sizes, lanes: int, j: int) -> str:
    """Which lane of the input each lane of the output takes for value `j` of the reduction."""
    used = sizes.together * sizes.k
    return ", ".join(str(lane // sizes.k * sizes.c + j if lane < used else 0) for lane in range(lanes))
