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
        start: a child process that runs kernels on it; None when this machine has no such device.
        cold: (bytes of a model's constants up to here, memory that copies of a spec's constants take).
        coldest: the same beyond the last row.
    """

    name: str
    threads: int
    start: Callable[[], Worker] | None
    cold: tuple[tuple[int, int], ...] = _CPU_COLD
    coldest: int = _CPU_COLDEST

    def rotate_bytes(self, constant_bytes: int) -> int:
        """How cold a model's constants are between two runs: in the near cache, the far one, or memory."""
        return next((rotate for limit, rotate in self.cold if constant_bytes <= limit), self.coldest)


def device(target: Target, options: Options) -> Device:
    """The device of a target; without it, one that only has a name."""
    if not target.is_cuda:
        return Device(
            name=device_name(),
            threads=options.thread_count,
            start=partial(_cpu_worker, options) if runs_here(target) else None,
        )
    fitting = [found for found in gpu.query().devices if runs_on(target, found.sm)]
    return Device(
        name=fitting[0].identity if fitting else f"no {target.name} here",
        threads=1,
        start=partial(Worker, fitting[0].ordinal, CUDA_WORKER) if fitting else None,
        cold=_GPU_COLD,
        coldest=_GPU_COLDEST,
    )


def _cpu_worker(options: Options) -> Worker:
    return Worker(library_path(options.cache_root, options.compiler))
