"""`cpu_pointwise`: an expression over strided views in one pass, vectorized along the innermost dim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.codegen.simd import emit
from bolt.kernels.loops import Loop, collapse, nest, outer_of, walk
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target

_MAX_RANK = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Attributes:
    unroll: vectors per iteration of the inner loop.
    """

    unroll: int


def _reject(spec: Spec, reason: str) -> Rejection:
    return Rejection(stage="supports", subject=f"cpu_pointwise {spec.op}", reason=reason)


class CpuPointwise:
    """The family; see the module's docstring."""

    name = "cpu_pointwise"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, PointwiseSpec):
            return _reject(spec, "not a pointwise spec")
        if not 1 <= len(spec.out.dims) <= _MAX_RANK:
            return _reject(spec, f"rank is not between 1 and {_MAX_RANK}")
        if spec.constants:
            return _reject(spec, "constants are operands like any other here: nothing to pack")
        if spec.out.strides[-1] != 1 and spec.out.dims[-1] != 1:
            return _reject(spec, "the output's innermost stride is not 1")
        if any(o.strides[-1] not in (0, 1) and o.dims[-1] != 1 for o in spec.extras):
            return _reject(spec, "an input's innermost stride is neither 0 nor 1")
        if spec.epilogue.inputs > len(spec.extras):
            return _reject(spec, "the expression reads an input the spec does not have")
        return None

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        return (
            (Config(unroll=4), Config(unroll=1)) if _is_light(spec) else (Config(unroll=1), Config(unroll=4))
        )

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        loop_overhead = 2.0 / config.unroll
        pressure = 0.0 if _is_light(spec) else 0.5 * config.unroll
        return loop_overhead + pressure + len(spec.epilogue.nodes)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        return render("cpu_pointwise.cc.jinja", _context(spec, config, name))

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        return {}

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0


def _is_light(spec: Spec) -> bool:
    """Few enough nodes that several vectors in flight fit the registers."""
    return len(spec.epilogue.nodes) <= 8


def _context(spec: Spec, config: Config, name: str) -> dict[str, Any]:
    loops = _vector_loops(spec)
    inputs = [
        _input(index, operand, moves=loops[-1].steps[index] == 1)
        for index, operand in enumerate(spec.operands[1:], start=1)
    ]
    statements, result = emit(spec.epilogue, acc="", load=lambda i: inputs[i]["load"])
    return {
        "name": name,
        "out": spec.out.dtype.cxx,
        "inputs": inputs,
        "walk_type": f"Walk<{len(outer_of(loops))}, {len(spec.operands)}>",
        "walk": walk(outer_of(loops)),
        "inner": loops[-1].dim,
        "unroll": config.unroll,
        "statements": statements,
        "result": result,
        "arguments": "".join(f"x{x['index']}, " for x in inputs),
    }


def _vector_loops(spec: Spec) -> tuple[Loop, ...]:
    """The collapsed nest; its innermost loop moves every operand by 0 or 1 and the output by 1."""
    full = nest(spec)
    loops = collapse(full)
    inner = loops[-1]
    if inner.steps[0] == 1 and all(step in (0, 1) for step in inner.steps):
        return loops
    return loops if inner is full[-1] else (*loops, full[-1])  # the vector dim has extent 1 and was dropped


def _input(index: int, operand: Operand, *, moves: bool) -> dict[str, Any]:
    """How the template declares, passes and loads one input."""
    pointer = f"(const {operand.dtype.cxx}*)p[{index}] + walk.offset[{index}]"
    if moves:
        return {
            "index": index,
            "type": f"const {operand.dtype.cxx}*",
            "start": pointer,
            "load": f"load<TAIL>(x{index} + i, n)",
        }
    return {"index": index, "type": "vf", "start": f"vset((float)*({pointer}))", "load": f"x{index}"}
