"""Compiles the kernels of hand-written CUDA families and looks at what the assembler says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from bolt.kernels.family import Candidate, Config, DeviceFamily
from bolt.ops.spec import Operand, Spec
from bolt.target import Target
from bolt.templates import ROOT
from bolt.types import DType

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")

_FLAGS = ("-O3", "-DNDEBUG", "-std=c++17", "-Xcompiler", "-fPIC", "--expt-relaxed-constexpr", "-Xptxas", "-v")


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


def compiled(family: DeviceFamily, spec: Spec, target: Target, config: Config | None = None) -> list[int]:
    """Compiles a kernel, fails on spills and local memory, and returns the registers of its variants."""
    source = candidate(family, spec, target, config).source()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cu")
        path.write_text(source.text)
        command = [
            "nvcc",
            *_FLAGS,
            *target.flags,
            f"-I{ROOT / 'include'}",
            "-c",
            str(path),
            "-o",
            f"{path}.o",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log + source.text
    assert "(C75" not in log and "warning" not in log, log
    moved = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert moved and all(numbers == ("0", "0", "0") for numbers in moved), log
    return [int(n) for n in re.findall(r"Used (\d+) registers", log)]
