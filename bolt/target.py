"""Targets: one row per instruction set; what the hardware has and how to compile for it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path

from bolt import gpu
from bolt.errors import TargetError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What an NVIDIA architecture has (CUDA C++ Programming Guide, "Technical Specifications per Compute
    Capability").

    Attributes:
        sm: compute capability, 10 * major + minor.
        also: further compute capabilities that run the same cubin.
        smem_bytes: shared memory one thread block may use (opt-in limit).
        smem_sm_bytes: shared memory of one multiprocessor.
        registers: 32-bit registers of one multiprocessor.
        multiprocessors: of the typical device, for the analytic model.
        bandwidth: bytes per second of its memory.
        tensor_flops: fp16 operations per second of its tensor cores, fp32 accumulation, no sparsity.
        f32_flops: fp32 operations per second of its CUDA cores.
        device: the typical device these rates are of.
    """

    sm: int
    also: tuple[int, ...] = ()
    smem_bytes: int
    smem_sm_bytes: int
    registers: int = 65536
    multiprocessors: int
    bandwidth: float
    tensor_flops: float
    f32_flops: float
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An instruction set bolt compiles for.

    Attributes:
        name: the spelling users give (`--target`).
        arch: machine architecture as `platform.machine()` reports it; "cuda" for a GPU.
        requires: `/proc/cpuinfo` flags that must all be present to run here.
        flags: compiler flags that select the instruction set.
        vector_lanes: fp32 lanes of one vector register.
        vector_registers: architectural vector registers.
        fma_ports: fp32 FMA instructions issued per cycle (for the analytic model).
        l1_bytes: L1 data cache per core.
        l2_bytes: L2 cache per core.
        gpu: of a CUDA target; the vector fields mean nothing there.
    """

    name: str
    arch: str
    requires: tuple[str, ...] = ()
    flags: tuple[str, ...]
    vector_lanes: int = 1
    vector_registers: int = 0
    fma_ports: int = 2
    l1_bytes: int = 32 << 10
    l2_bytes: int = 1 << 20
    gpu: Gpu | None = None

    @property
    def is_cuda(self) -> bool:
        """Whether its kernels run on a GPU."""
        return self.gpu is not None

    @property
    def has_vnni(self) -> bool:
        """Whether a CPU's vectors multiply 8-bit integers, by fours, into 32-bit sums."""
        return "avx512_vnni" in self.requires

    @property
    def has_float8(self) -> bool:
        """Whether kernels for it multiply 8-bit floats (wgmma; other GPUs' instructions have none here)."""
        return self.gpu is not None and self.gpu.sm == 90

    @property
    def has_bf16(self) -> bool:
        """Whether a CPU's vectors multiply bfloat16, by pairs, into fp32 sums."""
        return "avx512_bf16" in self.requires


X86_AVX512 = Target(
    name="x86-avx512",
    arch="x86_64",
    requires=("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"),
    flags=("-march=x86-64-v4", "-mprefer-vector-width=512"),
    vector_lanes=16,
    vector_registers=32,
)
X86_AVX512_VNNI = replace(
    X86_AVX512,
    name="x86-avx512-vnni",
    requires=(*X86_AVX512.requires, "avx512_vnni"),
    flags=(*X86_AVX512.flags, "-mavx512vnni"),
)
X86_AVX512_BF16 = replace(
    X86_AVX512_VNNI,
    name="x86-avx512-bf16",
    requires=(*X86_AVX512_VNNI.requires, "avx512_bf16"),
    flags=(*X86_AVX512_VNNI.flags, "-mavx512bf16"),
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

CPU_TARGETS = (X86_AVX512_BF16, X86_AVX512_VNNI, X86_AVX512, X86_AVX2, X86_PORTABLE, AARCH64_PORTABLE)
"""Best first: `detect` and the EP take the first row the machine can run."""


def _cuda(name: str, gpu: Gpu) -> Target:
    arch = name.removeprefix("sm")
    flags = ("-gencode", f"arch=compute_{arch},code=sm_{arch}")
    return Target(name=name, arch="cuda", flags=flags, gpu=gpu)


SM75 = _cuda(
    "sm75",
    Gpu(
        sm=75,
        smem_bytes=64 << 10,
        smem_sm_bytes=64 << 10,
        multiprocessors=40,
        bandwidth=320e9,
        tensor_flops=65e12,
        f32_flops=8.1e12,
        device="T4",
    ),
)
SM80 = _cuda(
    "sm80",
    Gpu(
        sm=80,
        also=(86, 87, 89),
        smem_bytes=163 << 10,
        smem_sm_bytes=164 << 10,
        multiprocessors=108,
        bandwidth=2039e9,
        tensor_flops=312e12,
        f32_flops=19.5e12,
        device="A100 SXM 80 GB",
    ),
)
SM86 = _cuda(
    "sm86",
    Gpu(
        sm=86,
        also=(87, 89),
        smem_bytes=99 << 10,
        smem_sm_bytes=100 << 10,
        multiprocessors=72,
        bandwidth=600e9,
        tensor_flops=125e12,
        f32_flops=31.2e12,
        device="A10",
    ),
)
SM89 = _cuda(
    "sm89",
    Gpu(
        sm=89,
        smem_bytes=99 << 10,
        smem_sm_bytes=100 << 10,
        multiprocessors=58,
        bandwidth=300e9,
        tensor_flops=121e12,
        f32_flops=30.3e12,
        device="L4",
    ),
)
SM90A = _cuda(
    "sm90a",
    Gpu(
        sm=90,
        smem_bytes=227 << 10,
        smem_sm_bytes=228 << 10,
        multiprocessors=132,
        bandwidth=4800e9,
        tensor_flops=989e12,
        f32_flops=67e12,
        device="H200 SXM",
    ),
)
SM100A = _cuda(
    "sm100a",
    Gpu(
        sm=100,
        smem_bytes=227 << 10,
        smem_sm_bytes=228 << 10,
        multiprocessors=148,
        bandwidth=8000e9,
        tensor_flops=2250e12,
        f32_flops=75e12,
        device="B200",
    ),
)
SM120A = _cuda(
    "sm120a",
    Gpu(
        sm=120,
        smem_bytes=99 << 10,
        smem_sm_bytes=100 << 10,
        multiprocessors=170,
        bandwidth=1792e9,
        tensor_flops=209e12,
        f32_flops=105e12,
        device="RTX 5090",
    ),
)

CUDA_TARGETS = (SM120A, SM100A, SM90A, SM89, SM86, SM80, SM75)
"""Newest first. A cubin runs on its own compute capability and on later minor ones of the same major."""

TARGETS = (*CPU_TARGETS, *CUDA_TARGETS)


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
    if target.is_cuda:
        return any(runs_on(target, device.sm) for device in gpu.query().devices)
    return target.arch == platform.machine() and set(target.requires) <= cpu_flags()


def runs_on(target: Target, sm: int) -> bool:
    """Whether a GPU of this compute capability executes code compiled for `target`."""
    return target.gpu is not None and (sm == target.gpu.sm or sm in target.gpu.also)


def detect_cuda() -> Target:
    """The best target of this machine's first GPU.

    Raises:
        TargetError: there is none, or none for it.
    """
    found = gpu.query()
    known = ", ".join(t.name for t in CUDA_TARGETS)
    if not found.devices:
        raise TargetError(
            f"target cuda takes the row of this machine's GPU, but {found.reason}. "
            f"Name the GPU to compile for: {known}"
        )
    first = found.devices[0]
    for target in CUDA_TARGETS:
        if runs_on(target, first.sm):
            return target
    raise TargetError(f"no target for {first.description}; bolt compiles for {known}")


def detect() -> Target:
    """The best CPU target of this machine. (A GPU is used when it is asked for.)

    Raises:
        TargetError: the machine's architecture has no target.
    """
    for target in CPU_TARGETS:
        if runs_here(target):
            return target
    known = ", ".join(sorted({t.arch for t in CPU_TARGETS}))
    raise TargetError(f"no target for architecture {platform.machine()!r}; bolt compiles for {known}")


_DETECTED = {"auto": detect, "cuda": detect_cuda}


def by_name(name: str) -> Target:
    """The target called `name`; "auto" detects the CPU's, "cuda" the GPU's.

    Raises:
        TargetError: there is no such target.
    """
    if name in _DETECTED:
        return _DETECTED[name]()
    for target in TARGETS:
        if target.name == name:
            return target
    known = ", ".join((*_DETECTED, *(t.name for t in TARGETS)))
    raise TargetError(f"unknown target {name!r}; choose one of {known}")
