"""What CUDA kernels over channels-last images share: how wide they read and write channels, and their frame.

In hand-written ones a thread finishes some neighbouring channels (lanes) of some neighbouring pixels of a
line; the sums are the families' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bolt.codegen.simd import emit
from bolt.kernels.family import Config, Source, argument_names
from bolt.kernels.rows import product, total
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16, F32

VECTOR_BYTES = 16
"""The widest load and store."""

LAUNCH_US = 3.0
"""What a kernel costs besides its work."""

BLOCK = 128

WEIGHT_BYTES = 16
"""Packed weights are aligned to this at least: module constants are to 64."""


def known(value: int | None) -> int:
    """A dim or stride that specs of images always state."""
    assert value is not None
    return value


def widest(operand: Operand, channels: int, most: int, step: int = 1) -> int:
    """Elements (a power of two, at most `most`) of which an aligned vector never crosses the end of a group.

    Strides of images and lines that are only known at run time are taken to be multiples of what the pixel
    stride is a multiple of: views are cut by pixels, not inside them.

    Args:
        operand: channels-last.
        channels: of a group.
        most: the upper bound.
        step: its channel stride; 0 reads one element for all channels.
    """
    width = most
    while width > 1 and not _aligned(operand, channels, width, step):
        width //= 2
    return width


def _aligned(operand: Operand, channels: int, width: int, step: int) -> bool:
    if channels % width or step == 0:
        return channels % width == 0
    size = operand.dtype.size_bytes
    vector = min(VECTOR_BYTES, width * size)
    if max(operand.alignment, size) % vector:
        return False
    return all(s is None or s * size % vector == 0 for s in operand.strides[:3])


def obstacle(spec: Spec) -> str | None:
    """Why a kernel can't finish the pixels of `spec`, or None."""
    images = (*spec.operands[:2], *spec.extras)
    if 2 not in spec.constants:
        return "the weights are not constant"
    if any(o.dtype not in (F32, F16, BF16) for o in images[:2]):
        return "the input or the output is not f32, f16 or bf16"
    if any(o.strides[3] != 1 for o in images[:2]) or any(o.strides[3] not in (0, 1) for o in spec.extras):
        return "the channels of an operand are not contiguous"
    return None


def lanes_of(spec: Spec, channels: int, most: int) -> int:
    """Channels (a power of two, at most `most`) a thread can take: they divide a group's."""
    lanes = most
    while channels % lanes:
        lanes //= 2
    return lanes


def frame(spec: Spec, name: str, *, lanes: int, columns: int, channels: int) -> dict[str, Any]:
    """What `cuda_pixels.jinja` needs.

    Args:
        spec: the kernel's spec.
        name: of the kernel.
        lanes: neighbouring channels of a thread.
        columns: neighbouring pixels of a thread.
        channels: output channels of a group.
    """
    names = argument_names(spec)
    extras = [_extra(spec, names, i, lanes, channels) for i in range(spec.epilogue.inputs)]

    def load(index: int) -> str:
        extra = extras[index]
        return f"Element<{extra['dtype']}>::to_float(in{index}[e])" if extra["step"] else f"in{index}"

    body, result = emit(spec.epilogue, acc="acc[e]", load=load)
    return {
        "name": name,
        "block": BLOCK,
        "operands": len(spec.operands),
        "ints": len(spec.dynamic()),
        "lanes": lanes,
        "columns": columns,
        "k": known(spec.out.dims[3]),
        "dims": names[0]["dims"],
        "extras": extras,
        "body": body,
        "result": result,
        "out": {
            "dtype": spec.out.dtype.cxx,
            "vector": widest(spec.out, channels, lanes),
            "offset": _offset(names[0]["strides"]),
        },
        "input": {
            "dtype": spec.operands[1].dtype.cxx,
            "dims": names[1]["dims"],
            "strides": names[1]["strides"],
        },
        "weight": spec.operands[1].dtype.cxx,
    }


def _extra(
    spec: Spec, names: Sequence[dict[str, list[str]]], index: int, lanes: int, channels: int
) -> dict[str, Any]:
    operand, place = spec.extras[index], spec.extra_base + index
    step = known(operand.strides[3])
    return {
        "index": index,
        "operand": place,
        "dtype": operand.dtype.cxx,
        "step": step,
        "vector": widest(operand, channels, lanes, step),
        "offset": _offset(names[place]["strides"]),
    }


def _offset(strides: Sequence[str]) -> str:
    """Of the first channel of the pixel (n, y, x)."""
    return total(*(product(i, s) for i, s in zip("nyx", strides, strict=False)))


class PixelFamily:
    """Base of hand-written families: launcher and device code in one source."""

    name: str
    language = "cuda"

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        return ()

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        return 0

    def reject(self, reason: str | None) -> Rejection | None:
        """`supports` of a spec with an obstacle, or with None."""
        return None if reason is None else Rejection(stage="supports", subject=self.name, reason=reason)
