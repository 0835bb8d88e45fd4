"""How the kernels of a target want values to lie in memory; what lowering knows about a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bolt.dims import Dim
from bolt.options import PRECISIONS, OptionError
from bolt.target import CPU_TARGETS, Target
from bolt.types import BF16, F16, F32, DType

_VECTOR_BYTES = 16
"""What a CUDA thread loads at once."""

_FEWEST_CHANNELS = 4
"""Convolutions of tensor cores read channels by fours at least."""

_STORED = {"fp16": F16, "bf16": BF16}

_CPU_PRECISIONS = ("fp32", "bf16")

_SINCE = {"bf16": 80, "tf32": 80}
"""Compute capability from which on tensor cores have a precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """The conventions between lowering and the kernels of a target.

    Attributes:
        stored: type in which a partition keeps its fp32 values between kernels. What enters and leaves the
            partition is fp32.
        math: how products of fp32 values are computed (`GemmSpec.math`).
        is_device: kernels run on a GPU. There a convolution supplies the zeros of its padding itself,
            operands state their alignment, matrices are row- or column-major, and copies convert between
            float types.
        has_int8: products of 8-bit integers have kernels.
        has_float8: products of 8-bit floats have kernels.
    """

    stored: DType = F32
    math: str = "f32"
    is_device: bool = False
    has_int8: bool = False
    has_float8: bool = False

    def dtype(self, dtype: DType) -> DType:
        """The type in which a value of ONNX type `dtype` is kept."""
        return self.stored if dtype is F32 else dtype

    def pixel_stride(self, channels: Dim, dtype: DType, outer: Sequence[Dim]) -> Dim:
        """Elements between the pixels of a channels-last image whose other extents are `outer`."""
        if not isinstance(channels, int):
            return channels
        if self.is_device:
            return _up(channels, _lanes(channels, _VECTOR_BYTES // dtype.size_bytes))
        return channels if all(d == 1 for d in outer) else _cached_stride(channels, dtype)

    def channels(self, channels: int) -> int:
        """How many channels (the further ones zero) suit a convolution that reads `channels`."""
        if not self.is_device or (self.stored is F32 and self.math == "f32"):
            return channels
        lanes = max(_FEWEST_CHANNELS, _lanes(channels, _VECTOR_BYTES // self.stored.size_bytes))
        return _up(channels, lanes)


CPU = Conventions()
"""The conventions of a CPU target with fp32 products only."""


def conventions(target: Target, precision: str) -> Conventions:
    """The conventions of `target` for one of `bolt.options.PRECISIONS`.

    Raises:
        OptionError: the target does not have that precision.
    """
    if target.gpu is None:
        if precision not in _CPU_PRECISIONS:
            raise OptionError(f"{target.name} has no {precision} arithmetic; CPUs compute in fp32 or bf16")
        if precision == "bf16" and not target.has_bf16:
            known = ", ".join(t.name for t in CPU_TARGETS if t.has_bf16)
            raise OptionError(f"{target.name} has no bf16 arithmetic; compute in fp32, or for {known}")
        return replace(CPU, stored=_STORED.get(precision, F32), has_int8=target.has_vnni)
    if target.gpu.sm < _SINCE.get(precision, 0):
        known = ", ".join(p for p in PRECISIONS if target.gpu.sm >= _SINCE.get(p, 0))
        raise OptionError(f"{target.name} has no {precision} arithmetic; choose one of {known}")
    math = "tf32" if precision == "tf32" else "f32"
    return Conventions(
        stored=_STORED.get(precision, F32), math=math, is_device=True, has_float8=target.has_float8
    )


def shared(targets: Sequence[Target], precision: str) -> Conventions:
    """The conventions of several targets, for which one program is made.

    Raises:
        OptionError: some are CPUs and some GPUs, or one does not have that precision.
    """
    found = [conventions(target, precision) for target in targets]
    has_int8 = all(rules.has_int8 for rules in found)
    has_float8 = all(rules.has_float8 for rules in found)
    found = [replace(rules, has_int8=has_int8, has_float8=has_float8) for rules in found]
    if any(other != found[0] for other in found):
        names = ", ".join(target.name for target in targets)
        raise OptionError(f"a package is for CPUs or for GPUs, {names} are both; make two packages")
    return found[0]


def _cached_stride(channels: int, dtype: DType) -> int:
    """A multiple of the cache line where that is cheap, never a multiple of 4 KB."""
    padded = channels
    if channels >= 32 and channels % 16:
        padded = _up(channels, 16)
    if padded * dtype.size_bytes % 4096 == 0:
        padded += 64 // dtype.size_bytes
    return padded


def _lanes(channels: int, most: int) -> int:
    """Elements of the widest vector that does not go far beyond `channels`."""
    lanes = most
    while lanes // 2 >= channels:
        lanes //= 2
    return lanes


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
