"""What candidates are measured on: this machine's CPU, or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bolt import gpu
from bolt.module.host import library_path
from bolt.options import Options
from bolt.search.measure import CUDA_WORKER, Worker
from bolt.search.records import device_name
from bolt.target import Target, runs_here, runs_on
from bolt.toolchain.host import Compiler

_MB = 1 << 20
_CPU_COLD = ((1 * _MB, 0), (24 * _MB, 16 * _MB))
_CPU_COLDEST = 48 * _MB
_GPU_COLD = ((4 * _MB, 0), (40 * _MB, 32 * _MB))
_GPU_COLDEST = 256 * _MB
"""Twice the L2 cache of the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where kernels run while they are measured.

    Attributes:
        name: model and whatever else a time depends on; part of a record's key.
        threads: shares of the work; one on a GPU, where a launcher does it all.
        start: a child process that runs kernels on it; None when this machine can't.
        obstacle: why it can't ("" when it can).
        cold: (bytes of a model's constants up to here, memory that copies of a spec's constants take).
        coldest: the same beyond the last row.
    """

    name: str
    threads: int
    start: Callable[[], Worker] | None
    obstacle: str = ""
    cold: tuple[tuple[int, int], ...] = _CPU_COLD
    coldest: int = _CPU_COLDEST

    def rotate_bytes(self, constant_bytes: int) -> int:
        """How cold a model's constants are between two runs: in the near cache, the far one, or memory."""
        return next((rotate for limit, rotate in self.cold if constant_bytes <= limit), self.coldest)


def device(target: Target, options: Options, compiler: Compiler) -> Device:
    """The device of a target; one that this machine does not have, or can't use, only has a name."""
    return _gpu(target, compiler) if target.is_cuda else _cpu(target, options)


def _cpu(target: Target, options: Options) -> Device:
    here = runs_here(target)
    return Device(
        name=device_name(),
        threads=options.thread_count,
        start=partial(_cpu_worker, options) if here else None,
        obstacle="" if here else f"this machine can't run {target.name}",
    )


def _gpu(target: Target, compiler: Compiler) -> Device:
    fitting = [found for found in gpu.query().devices if runs_on(target, found.sm)]
    obstacle = _obstacle(fitting[0], compiler) if fitting else f"this machine can't run {target.name}"
    return Device(
        name=fitting[0].identity if fitting else f"no {target.name}",
        threads=1,
        start=None if obstacle else partial(Worker, fitting[0].ordinal, CUDA_WORKER),
        obstacle=obstacle,
        cold=_GPU_COLD,
        coldest=_GPU_COLDEST,
    )


def _obstacle(found: gpu.Device, compiler: Compiler) -> str:
    """Why the driver can't run what the compiler makes: it serves runtimes up to its own major version."""
    assert compiler.device is not None
    major, known = compiler.device.version[0], ".".join(map(str, found.cuda))
    if found.cuda[0] >= major:
        return ""
    return f"the driver serves CUDA {known}, the compiler is of CUDA {major}; update the driver"


def _cpu_worker(options: Options) -> Worker:
    return Worker(library_path(options.cache_root, options.compiler))
