"""What the tests of hand-written CUDA families share: operands, and compiling many kernels at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kernels.device_units import compiled

from bolt.errors import ToolchainError
from bolt.kernels.family import Candidate, Config, DeviceFamily
from bolt.ops.spec import Operand, Spec
from bolt.target import Target
from bolt.toolchain import nvcc
from bolt.types import DType


def _missing() -> str:
    try:
        nvcc.find()
    except ToolchainError as error:
        return str(error)
    return ""


needs_nvcc = pytest.mark.skipif(bool(reason := _missing()), reason=reason)


def view(
    dtype: DType,
    dims: tuple[int | None, ...],
    strides: tuple[int | None, ...] | None = None,
    alignment: int = 0,
) -> Operand:
    """An operand; dense without `strides`."""
    if strides is None:
        assert None not in dims
        strides = Operand.dense(dtype, [d or 1 for d in dims]).strides
    return Operand(dtype=dtype, dims=dims, strides=strides, alignment=alignment)


def candidate(family: DeviceFamily, spec: Spec, target: Target, config: Config | None = None) -> Candidate:
    """The family's first candidate for a spec it must support."""
    rejection = family.supports(spec, target)
    assert rejection is None, rejection
    config = family.configs(spec, target)[0] if config is None else config
    return Candidate(spec=spec, family=family, config=config, target=target)


def targets_of(cases: Iterable[Any]) -> list[Target]:
    """The targets of `(family, spec, target)` parameters, each once."""
    return list(dict.fromkeys(case.values[2] for case in cases))


def most_registers(cases: Iterable[Any], target: Target, folder: Path) -> int:
    """Compiles the cases of a target, which must not spill; the registers of the kernel with most."""
    mine = [case.values for case in cases if case.values[2] is target]
    sources = [candidate(*values).source() for values in mine]
    return max(binary.resources.registers for binary in compiled(sources, target, folder))
