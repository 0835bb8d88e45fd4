"""Implicit GEMM by CUTLASS 2.x: what plain and transposed convolutions share.

Which iterator reads the input depends on the channels of a group: 4 or 8 of them are best read by the one for
that fixed number, other short ones by the one that walks (r, s, c) as one line ("few"); long ones go tap by
tap ("optimized"; "analytic" where a kernel has more than 32 rows or columns of taps). Reads are as wide as
channels, strides and addresses allow: images of 3 channels should have a fourth one of zeros.

The iterators of short channels go on after the last tap, to the row below it, and multiply what is there by
zero weights: an infinity or a NaN then reaches outputs whose taps end just above it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt.codegen.render import render
from bolt.codegen.simd import emit
from bolt.kernels.cuda_pixels import VECTOR_BYTES, known, widest
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES, Tile, tiles, unaligned_tiles
from bolt.kernels.family import Source, argument_names
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.target import Target
from bolt.types import BF16, F16, F32, convert

MAX_EXTRAS = 8
"""BOLT_MAX_EXTRAS of templates/include/bolt/cuda/launch.h."""

ITERATORS = {
    "optimized": "kOptimized",
    "analytic": "kAnalytic",
    "few": "kFewChannels",
    "fixed": "kFixedChannels",
}
"""`cutlass::conv::IteratorAlgorithm` of each iterator."""

MOST_TAPS = 32
"""Rows or columns of taps the optimized iterator keeps as bits of a mask."""

MOST_COPIES = 32
"""Copies of a thread in a step beyond which registers spill; a quarter of it for the input where accumulators
take half of the registers."""

SPLITS = (2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvConfig:
    """How an implicit GEMM runs.

    Attributes:
        tile: of a thread block: pixels, output channels, depth.
        iterator: a key of `ITERATORS`.
        split_k: slices of the input channels that are summed apart and then added.
    """

    tile: Tile
    iterator: str
    split_k: int = 1

    def __str__(self) -> str:
        split = f" split {self.split_k}" if self.split_k > 1 else ""
        return f"{self.tile.name} {self.iterator}{split}"


def _ceildiv(a: int, b: int) -> int:
    return -(-a // b)


def obstacle(spec: ConvSpec, target: Target) -> str | None:
    """Why no implicit GEMM computes `spec`, or None."""
    gpu, x = target.gpu, spec.operands[1]
    if gpu is None:
        return "needs a CUDA target"
    checks = (
        (spec.has_halo, "the padding is in memory"),
        (spec.is_depthwise, "depthwise: no reduction over channels"),
        (2 not in spec.constants, "the weights are not constant"),
        (x.dtype not in (F32, F16, BF16), f"the input is {x.dtype}"),
        (spec.out.dtype not in (F32, F16, BF16), f"the output is {spec.out.dtype}"),
        (_element(spec) in ("bf16", "tf32") and gpu.sm < 80, f"{target.name} does not multiply {x.dtype}"),
        (len(spec.extras) > MAX_EXTRAS, f"an epilogue reads at most {MAX_EXTRAS} tensors"),
        (x.strides[3] != 1 or spec.out.strides[3] != 1, "the channels are not contiguous"),
        (any(e.strides[3] not in (0, 1) for e in spec.extras), "channels of an epilogue input are apart"),
        (spec.groups > 65535, "more than 65535 groups"),
        (_image_bytes(spec) >= 2**31, "an image has 2 GiB or more"),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def configs_of(spec: ConvSpec, target: Target) -> list[ConvConfig]:
    """Legal configs, in the order of the tables."""
    return [
        ConvConfig(tile=tile, iterator=iterator, split_k=split)
        for iterator in _iterators(spec)
        for tile in _tiles(spec, target)
        if _fits(iterator, tile)
        for split in _splits(spec, iterator, tile, target)
    ]


def unit_of(spec: ConvSpec, config: ConvConfig) -> Source:
    """The device code: depends on types, alignments, the epilogue and the config."""
    context = _unit_context(spec, config)
    text = render("implicit_gemm.cu.jinja", {**context, "name": ""})
    name = f"bolt_implicit_gemm_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    text = render("implicit_gemm.cu.jinja", {**context, "name": name})
    return Source(name=name, text=text, language="cuda")


def pack_weights(spec: Spec, krsc: np.ndarray) -> np.ndarray:
    """Weights as (k, r, s, c / groups) in the type of the input."""
    return convert(np.ascontiguousarray(krsc).ravel(), spec.operands[1].dtype)


def _image_bytes(spec: ConvSpec) -> int:
    """Bytes of one input image, as far as known; CUTLASS counts them in 32 bits, or even their bits."""
    x = spec.operands[1]
    ends = [(d - 1) * s for d, s in zip(x.dims[1:], x.strides[1:], strict=True) if d and s]
    return x.dtype.size_bytes * (1 + sum(ends))


def _element(spec: ConvSpec) -> str:
    """What the instructions multiply."""
    dtype = spec.operands[1].dtype
    return "tf32" if dtype is F32 and spec.math == "tf32" else dtype.name


def channels_of(spec: ConvSpec) -> tuple[int, int]:
    """Input and output channels of a group."""
    return known(spec.operands[1].dims[3]) // spec.groups, known(spec.out.dims[3]) // spec.groups


def alignment_of(spec: ConvSpec) -> int:
    """Channels of the input (and of the weights) that are read at once."""
    x = spec.operands[1]
    return widest(x, channels_of(spec)[0], VECTOR_BYTES // x.dtype.size_bytes)


def _iterators(spec: ConvSpec) -> tuple[str, ...]:
    long = "optimized" if max(spec.kernel) <= MOST_TAPS else "analytic"
    if _element(spec) == "f32" or 8 * _image_bytes(spec) >= 2**31:
        return (long,)
    channels, width = channels_of(spec)[0], alignment_of(spec)
    if channels == width and channels * ELEMENT_BYTES[_element(spec)] in (8, 16):
        return ("fixed",)
    return ("few", long) if channels < 32 else (long,)


def _tiles(spec: ConvSpec, target: Target) -> tuple[Tile, ...]:
    element, width = _element(spec), alignment_of(spec)
    if element == "f32":
        return tuple(t for t in tiles(target, "conv", element).legal if t.opclass == "Simt")
    rows = tiles(target, "conv", element).legal
    if width == 1 and not any(1 in t.alignments for t in rows):
        rows = unaligned_tiles(target, "conv", element)
    plain = (t for t in rows if width in t.alignments and t.math_op == "multiply_add")
    return tuple(t for t in plain if not _spills(t, width))


def _spills(tile: Tile, width: int) -> bool:
    """Whether a thread's copies of a step, each with address and predicates, leave too few registers.

    Those of the input need more than those of the weights: their padding is different in each row.
    """
    m, n, k = tile.shape
    accumulators = tile.warp[0] * tile.warp[1] // 32
    if accumulators >= 128 and m * k // (width * tile.threads) > MOST_COPIES // 4:
        return True
    return (m + n) * k // (width * tile.threads) > MOST_COPIES


def _fits(iterator: str, tile: Tile) -> bool:
    """The iterators of short channels need one access of a thread along the depth of a tile."""
    return iterator in ("optimized", "analytic") or tile.shape[2] * ELEMENT_BYTES[tile.element] <= 128


def _splits(spec: ConvSpec, iterator: str, tile: Tile, target: Target) -> Iterator[int]:
    yield 1
    extents = (*spec.out.dims[:3], *spec.operands[1].dims[:3], *spec.operands[1].strides[:3])
    if spec.groups > 1 or iterator not in ("optimized", "analytic") or None in extents:
        return
    assert target.gpu is not None
    count = blocks(spec, tile)
    for split in SPLITS:
        if count * split <= 2 * target.gpu.multiprocessors and split * tile.shape[2] <= channels_of(spec)[0]:
            yield split


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """Thread blocks without split-K; dims known at run time only count as 1."""
    m, n, _ = tile.shape
    pixels = math.prod(d or 1 for d in spec.out.dims[:3])
    return _ceildiv(pixels, m) * _ceildiv(channels_of(spec)[1], n) * spec.groups


def iterations(spec: ConvSpec, config: ConvConfig) -> int:
    """Steps of the main loop of one block."""
    (r, s), c, depth = spec.kernel, channels_of(spec)[0], config.tile.shape[2]
    if config.iterator in ("few", "fixed"):
        return _ceildiv(r * s * c, depth)
    return r * s * _ceildiv(_ceildiv(c, config.split_k), depth)


def _fragment(spec: ConvSpec) -> int:
    """Output channels a thread finishes at a time: 16 bytes; one on CUDA cores, as CUTLASS asks."""
    return 1 if _element(spec) == "f32" else VECTOR_BYTES // spec.out.dtype.size_bytes


def _extra(spec: ConvSpec, index: int) -> dict[str, Any]:
    operand, channels = spec.extras[index], channels_of(spec)[1]
    step = known(operand.strides[3])
    return {
        "index": index,
        "dtype": operand.dtype.cxx,
        "bytes": operand.dtype.size_bytes,
        "by_channel": all(s == 0 for s in operand.strides[:3]),
        "step": step,
        "vector": widest(operand, channels, _fragment(spec), step),
    }


def finish_context(spec: ConvSpec) -> dict[str, Any]:
    """Substitutions of templates/implicit_gemm_finish.jinja."""
    extras = [_extra(spec, i) for i in range(spec.epilogue.inputs)]

    def load(index: int) -> str:
        extra = extras[index]
        held = "channel" if extra["by_channel"] else "pixel"
        return f"Element<{extra['dtype']}>::to_float({held}.in{index}[i])"

    body, result = emit(spec.epilogue, acc="acc", load=load)
    fragment = _fragment(spec)
    return {
        "out": spec.out.dtype.cxx,
        "fragment": fragment,
        "vector": widest(spec.out, channels_of(spec)[1], fragment),
        "extras": extras,
        "body": body,
        "result": result,
    }


def _unit_context(spec: ConvSpec, config: ConvConfig) -> dict[str, Any]:
    tile = config.tile
    return {
        "title": f"Implicit GEMM, {_element(spec)}, tile {tile.name}, {config.iterator} iterator",
        **finish_context(spec),
        "element": spec.operands[1].dtype.cutlass,
        "out_cutlass": spec.out.dtype.cutlass,
        "tile": tile,
        "iterator": ITERATORS[config.iterator],
        "alignment": 1 if tile.opclass == "Simt" else alignment_of(spec),
        "split": config.split_k > 1,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A tensor of a call, as C++ text.

    Attributes:
        operand: its index.
        offset: of its first element, in bytes.
        strides: of images, rows and pixels, in elements.
    """

    operand: int
    offset: str
    strides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the unit by a launcher.

    Attributes:
        sizes: fields of BoltConv that are one number, as C++ text.
        pairs: fields that are (rows, columns).
        weights: offset of the packed weights, in bytes.
        x: the input.
        y: the output.
        extras: the epilogue's inputs.
    """

    sizes: dict[str, str | int]
    pairs: dict[str, tuple[int, int]]
    weights: int
    x: View
    y: View
    extras: tuple[View, ...]


def call_of(spec: ConvSpec) -> Call:
    """The one call of a convolution."""
    names = argument_names(spec)
    (n, p, q, k), (_, h, w, c) = names[0]["dims"], names[1]["dims"]
    r, s = spec.kernel
    views = [View(operand=i, offset="0", strides=tuple(v["strides"][:3])) for i, v in enumerate(names)]
    return Call(
        sizes={"n": n, "h": h, "w": w, "c": c, "k": k, "p": p, "q": q, "r": r, "s": s, "groups": spec.groups},
        pairs={"pad": spec.pad, "stride": spec.stride, "dilation": spec.dilation},
        weights=0,
        x=views[1],
        y=views[0],
        extras=tuple(views[spec.extra_base :][: spec.epilogue.inputs]),
    )


def launcher(name: str, unit: str, calls: Sequence[Call], *, split_k: int = 1) -> str:
    """The C++ function that calls the unit."""
    context = {"name": name, "unit": unit, "calls": calls, "split_k": split_k}
    return render("implicit_gemm_launch.cc.jinja", context)
