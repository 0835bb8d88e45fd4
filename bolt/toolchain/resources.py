"""What a compiled CUDA kernel occupies, as ptxas reports it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

_KERNEL = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_OF = re.compile(r"Function properties for (\S+)")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One `__global__` function.

    Attributes:
        symbol: its mangled name.
        arch: what it was compiled for, as ptxas spells it ("sm_80").
        registers: of one thread.
        stack_bytes: of one thread.
        spill_store_bytes: registers written to memory for want of room.
        spill_load_bytes: registers read back.
        shared_bytes: static shared memory; what a launch asks for on top is not known here.
    """

    symbol: str
    arch: str
    registers: int = 0
    stack_bytes: int = 0
    spill_store_bytes: int = 0
    spill_load_bytes: int = 0
    shared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What the kernels of an object, or of several, occupy; those of host code have none."""

    kernels: tuple[Kernel, ...] = ()

    @property
    def registers(self) -> int:
        """Of the kernel with most."""
        return max((k.registers for k in self.kernels), default=0)

    @property
    def spill_bytes(self) -> int:
        """Of the kernel with most, stores and loads together."""
        return max((k.spill_store_bytes + k.spill_load_bytes for k in self.kernels), default=0)

    @property
    def shared_bytes(self) -> int:
        """Static shared memory of the kernel with most."""
        return max((k.shared_bytes for k in self.kernels), default=0)

    def of(self, name: str, batch: Iterable[str]) -> Resources:
        """Those of one source among the names of a `batch` that was compiled as one.

        A kernel made of library types alone carries no source's name: it counts for every source that has no
        kernel of its own.
        """
        own = tuple(k for k in self.kernels if name in k.symbol)
        others = tuple(batch)
        return Resources(
            own or tuple(k for k in self.kernels if not any(other in k.symbol for other in others))
        )

    def to_json(self) -> str:
        """As the cache keeps it."""
        return json.dumps([asdict(k) for k in self.kernels], sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Resources:
        """What `to_json` gave."""
        rows: list[Mapping[str, Any]] = json.loads(text)
        return cls(tuple(Kernel(**row) for row in rows))


def together(parts: Iterable[Resources]) -> Resources:
    """All kernels of several objects."""
    return Resources(tuple(kernel for part in parts for kernel in part.kernels))


def parse(log: str) -> Resources:
    """What `ptxas -v` wrote."""
    kernels: list[dict[str, Any]] = []
    inside = False
    for line in log.splitlines():
        if found := _KERNEL.search(line):
            kernels.append({"symbol": found[1], "arch": found[2]})
            inside = True
        elif found := _OF.search(line):  # device functions have properties too
            inside = bool(kernels) and found[1] == kernels[-1]["symbol"]
        elif inside:
            kernels[-1].update(_numbers(line))
    return Resources(tuple(Kernel(**row) for row in kernels))


def _numbers(line: str) -> dict[str, int]:
    found: dict[str, int] = {}
    if match := _STACK.search(line):
        stack, stores, loads = map(int, match.groups())
        found |= {"stack_bytes": stack, "spill_store_bytes": stores, "spill_load_bytes": loads}
    if match := _REGISTERS.search(line):
        found["registers"] = int(match[1])
    if match := _SHARED.search(line):
        found["shared_bytes"] = int(match[1])
    return found
