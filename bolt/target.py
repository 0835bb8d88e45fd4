"""Targets: one row per instruction set; what the hardware has and how to compile for it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from bolt.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An instruction set bolt compiles for.

    Attributes:
        name: the spelling users give (`--target`).
        arch: machine architecture as `platform.machine()` reports it.
        requires: `/proc/cpuinfo` flags that must all be present to run here.
        flags: compiler flags that select the instruction set.
        vector_lanes: fp32 lanes of one vector register.
        vector_registers: architectural vector registers.
        fma_ports: fp32 FMA instructions issued per cycle (for the analytic model).
        l1_bytes: L1 data cache per core.
        l2_bytes: L2 cache per core.
    """

    name: str
    arch: str
    requires: tuple[str, ...]
    flags: tuple[str, ...]
    vector_lanes: int
    vector_registers: int
    fma_ports: int = 2
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20


X86_AVX512 = Target(
    name="x86-avx512",
    arch="x86_64",
    requires=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"),
    flags=("-march=x86-64-v4", "-mprefer-vector-width=512"),
    vector_lanes=16,
    vector_registers=32,
)
X86_AVX2 = Target(
    name="x86-avx2",
    arch="x86_64",
    requires=("avx2", "fma", "bmi2"),
    flags=("-march=x86-64-v3",),
    vector_lanes=8,
    vector_registers=16,
)
X86_PORTABLE = Target(
    name="x86-portable",
    arch="x86_64",
    requires=(),
    flags=("-march=x86-64",),
    vector_lanes=4,
    vector_registers=16,
)
AARCH64_PORTABLE = Target(
    name="aarch64-portable",
    arch="aarch64",
    requires=(),
    flags=("-march=armv8-a",),
    vector_lanes=4,
    vector_registers=32,
)

TARGETS = (X86_AVX512, X86_AVX2, X86_PORTABLE, AARCH64_PORTABLE)
"""Best first: `detect` and the EP take the first row the machine can run."""


def cpu_flags() -> frozenset[str]:
    """The CPU feature flags the kernel reports for this machine (empty where it reports none)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def runs_here(target: Target) -> bool:
    """Whether this machine can execute code compiled for `target`."""
    return target.arch == platform.machine() and set(target.requires) <= cpu_flags()


def detect() -> Target:
    """The best target of this machine.

    Raises:
        TargetError: the machine's architecture has no target.
    """
    for target in TARGETS:
        if runs_here(target):
            return target
    known = ", ".join(sorted({t.arch for t in TARGETS}))
    raise TargetError(f"no target for architecture {platform.machine()!r}; bolt compiles for {known}")


def by_name(name: str) -> Target:
    """The target called `name`; "auto" detects.

    Raises:
        TargetError: there is no such target.
    """
    if name == "auto":
        return detect()
    for target in TARGETS:
        if target.name == name:
            return target
    raise TargetError(f"unknown target {name!r}; choose auto or one of {', '.join(t.name for t in TARGETS)}")
