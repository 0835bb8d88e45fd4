"""Products with a constant matrix of few columns on the CPU: vectors of the reduction (`narrow`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bolt.kernels.cpu_gemm import gemm_problem, is_prepacked
from bolt.kernels.finish import STORAGE, beside_weights, wrong_storage
from bolt.kernels.narrow import (
    WEIGHTS,
    NarrowConfig,
    TapRow,
    narrow_configs,
    narrow_cycles,
    narrow_source,
    pack_narrow,
    wrong_narrow,
)
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_ROW = TapRow(count=1, step=1, spread=1, pixel="0")


class CpuNarrowGemm:
    """Family of `GemmSpec` with one constant matrix of a handful of columns."""

    name = "cpu_narrow_gemm"
    op = "gemm"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, GemmSpec):
            return Rejection(stage="supports", subject=self.name, reason=f"computes gemm, not {spec.op}")
        if not is_prepacked(spec) or None in spec.operands[2].dims[2:]:
            reason = "b is not one constant matrix of known size, or the rows of a are not contiguous"
            return Rejection(stage="supports", subject=self.name, reason=reason)
        narrow = wrong_narrow(gemm_problem(spec), self.name, target)
        return wrong_storage(spec, self.name, a=STORAGE, b=WEIGHTS) if narrow is None else narrow

    def configs(self, spec: Spec, target: Target) -> Sequence[NarrowConfig]:
        assert isinstance(spec, GemmSpec)
        return narrow_configs(gemm_problem(spec), _ROW, target)

    def estimate(self, spec: Spec, config: NarrowConfig, target: Target) -> float:
        """Cycles of one core."""
        assert isinstance(spec, GemmSpec)
        return narrow_cycles(gemm_problem(spec), _ROW, config, target)

    def render(self, spec: Spec, config: NarrowConfig, target: Target, name: str) -> str:
        assert isinstance(spec, GemmSpec)
        columns = spec.operands[2].dims[3]
        title = f"Product with a constant matrix of {columns} columns, {config.mr} rows at a time"
        return narrow_source(gemm_problem(spec), _ROW, config, target, name=name, title=title)

    def pack(
        self, spec: Spec, config: NarrowConfig, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        packed = beside_weights(spec, constants)
        packed[2] = pack_narrow(constants[2], config, target.vector_lanes)
        return packed

    def scratch_bytes(self, spec: Spec, config: NarrowConfig, target: Target) -> int:
        return 0
