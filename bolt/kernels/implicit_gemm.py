"""Implicit GEMM by CUTLASS 2.x: what plain and transposed convolutions share.

Which iterator reads the input depends on the channels of a group: 4 or 8 of them are best read by the one for
that fixed number, other short ones by the one that walks (r, s, c) as one line ("few"); long ones go tap by
tap ("optimized"; "analytic" where a kernel has more than 32 rows or columns of taps). Reads are as wide as
channels, strides and addresses allow: images of 3 channels should have a fourth one of zeros.
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
from bolt.kernels.cuda_pixels import LAUNCH_US, VECTOR_BYTES, known, widest
from bolt.kernels.cutlass_tiles import ELEMENT_BYTES, Tile, tiles, unaligned_tiles
from bolt.kernels.family import Source
from bolt.ops.conv import ConvSpec
from bolt.ops.spec import Spec
from bolt.target import Gpu, Target
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

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)


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


def _channels(spec: ConvSpec) -> tuple[int, int]:
    """Input and output channels of a group."""
    return known(spec.operands[1].dims[3]) // spec.groups, known(spec.out.dims[3]) // spec.groups


def _alignment(spec: ConvSpec) -> int:
    """Channels of the input (and of the weights) that are read at once."""
    x = spec.operands[1]
    return widest(x, _channels(spec)[0], VECTOR_BYTES // x.dtype.size_bytes)


def _iterators(spec: ConvSpec) -> tuple[str, ...]:
    long = "optimized" if max(spec.kernel) <= MOST_TAPS else "analytic"
    if _element(spec) == "f32" or 8 * _image_bytes(spec) >= 2**31:
        return (long,)
    channels, width = _channels(spec)[0], _alignment(spec)
    if channels == width and channels * ELEMENT_BYTES[_element(spec)] in (8, 16):
        return ("fixed",)
    return ("few", long) if channels < 32 else (long,)


def _tiles(spec: ConvSpec, target: Target) -> tuple[Tile, ...]:
    element, width = _element(spec), _alignment(spec)
    if element == "f32":
        return tuple(t for t in tiles(target, "conv", element).legal if t.opclass == "Simt")
    rows = tiles(target, "conv", element).legal
    if width == 1 and not any(1 in t.alignments for t in rows):
        rows = unaligned_tiles(target, "conv", element)
    return tuple(t for t in rows if width in t.alignments and t.math_op == "multiply_add")


def _fits(iterator: str, tile: Tile) -> bool:
    """The iterators of short channels need one access of a thread along the depth of a tile."""
    return iterator in ("optimized", "analytic") or tile.shape[2] * ELEMENT_BYTES[tile.element] <= 128


def _splits(spec: ConvSpec, iterator: str, tile: Tile, target: Target) -> Iterator[int]:
    yield 1
    extents = (*spec.out.dims[:3], *spec.operands[1].dims[:3], *spec.operands[1].strides[:3])
    if spec.groups > 1 or iterator not in ("optimized", "analytic") or None in extents:
        return
    assert target.gpu is not None
    blocks = _blocks(spec, tile)
    for split in SPLITS[1:]:
        if blocks * split <= 2 * target.gpu.multiprocessors and split * tile.shape[2] <= _channels(spec)[0]:
            yield split


def _pixels(spec: ConvSpec) -> int:
    return math.prod(d or 1 for d in spec.out.dims[:3])


def _blocks(spec: ConvSpec, tile: Tile) -> int:
    """Thread blocks without split-K."""
    m, n, _ = tile.shape
    return _ceildiv(_pixels(spec), m) * _ceildiv(_channels(spec)[1], n) * spec.groups


def _iterations(spec: ConvSpec, config: ConvConfig) -> int:
    """Steps of the main loop of one block."""
    (r, s), c, depth = spec.kernel, _channels(spec)[0], config.tile.shape[2]
    if config.iterator in ("few", "fixed"):
        return _ceildiv(r * s * c, depth)
    return r * s * _ceildiv(_ceildiv(c, config.split_k), depth)


STEP_LATENCY_US = 0.12
"""Least time of a main loop's step: barrier, shared memory, first instruction's latency."""
L2_FACTOR = 2.5
"""Bandwidth of the L2 cache over that of the memory."""
USUAL = {"128x128_32x4", "128x64_64x3", "64x64_64x5", "256x64_32x4", "128x128_32x2", "64x64_32x2"}
"""Tiles that are good for most problems: others have to be 3 % better, so that a model needs few units."""
PARTIAL_WIDTH = {8: 1.0, 4: 1.1, 2: 1.4, 1: 2.5}
"""Slowdown by the elements (of 16 bits) a read takes."""


def _registers(tile: Tile) -> int:
    """Of a thread, roughly: accumulators, fragments, addresses."""
    m, n, _ = tile.shape
    return min(255, m * n // tile.threads + 110)


def _resident(tile: Tile, gpu: Gpu) -> int:
    """Thread blocks of a multiprocessor at a time."""
    by_registers = gpu.registers // (_registers(tile) * tile.threads)
    return max(1, min(gpu.smem_sm_bytes // (tile.smem_bytes + 1024), by_registers, 2048 // tile.threads))


def _multiply_rate(tile: Tile, gpu: Gpu) -> float:
    """Operations per microsecond of one multiprocessor with this tile, as far as shared memory feeds it."""
    peak = gpu.f32_flops if tile.opclass == "Simt" else gpu.tensor_flops * 2 / ELEMENT_BYTES[tile.element]
    m, n, _ = tile.warp
    reuse = m * n / (m + n) / 32  # of a fragment, 1 at 64 x 64
    return float(peak / 1e6 / gpu.multiprocessors * 0.9 * min(1.0, reuse**0.4))


def microseconds(spec: ConvSpec, config: ConvConfig, gpu: Gpu) -> float:
    tile, iterations = config.tile, _iterations(spec, config)
    m, n, k = tile.shape
    size = ELEMENT_BYTES[tile.element]
    blocks = _blocks(spec, tile) * config.split_k
    resident = _resident(tile, gpu)
    together = min(resident, _ceildiv(blocks, gpu.multiprocessors))
    step = together * 2 * m * n * k / _multiply_rate(tile, gpu)
    if tile.opclass != "Simt":
        step *= PARTIAL_WIDTH[min(8, _alignment(spec) * size // 2)]
    step *= 1.15 if config.iterator in ("few", "analytic") else 1.0
    waves = _ceildiv(blocks, resident * gpu.multiprocessors)
    compute = waves * (iterations * max(step, STEP_LATENCY_US) + 1.0)
    l2 = blocks * iterations * (m + n) * k * size / (gpu.bandwidth / 1e6 * L2_FACTOR)
    memory = spec.bytes() / (gpu.bandwidth / 1e6)
    cost = max(compute, l2, memory) + LAUNCH_US
    if config.split_k > 1:
        partial = 8 * config.split_k * math.prod(d or 1 for d in spec.out.dims)
        cost += LAUNCH_US + partial / (gpu.bandwidth / 1e6 * L2_FACTOR)
    return cost if tile.name in USUAL else cost * 1.03


def _fragment(spec: ConvSpec) -> int:
    """Output channels a thread finishes at a time: 16 bytes; one on CUDA cores, as CUTLASS asks."""
    return 1 if _element(spec) == "f32" else VECTOR_BYTES // spec.out.dtype.size_bytes


def _extra(spec: ConvSpec, index: int) -> dict[str, Any]:
    operand, channels = spec.extras[index], _channels(spec)[1]
    step = known(operand.strides[3])
    return {
        "index": index,
        "dtype": operand.dtype.cxx,
        "bytes": operand.dtype.size_bytes,
        "by_channel": all(s == 0 for s in operand.strides[:3]),
        "step": step,
        "vector": widest(operand, channels, _fragment(spec), step),
    }


def _unit_context(spec: ConvSpec, config: ConvConfig) -> dict[str, Any]:
    x, tile = spec.operands[1], config.tile
    extras = [_extra(spec, i) for i in range(spec.epilogue.inputs)]

    def load(index: int) -> str:
        extra = extras[index]
        held = "channel" if extra["by_channel"] else "pixel"
        return f"Element<{extra['dtype']}>::to_float({held}.in{index}[i])"

    body, result = emit(spec.epilogue, acc="acc", load=load)
    fragment = _fragment(spec)
    return {
        "title": f"Implicit GEMM, {_element(spec)}, tile {tile.name}, {config.iterator} iterator",
        "element": x.dtype.cutlass,
        "out": spec.out.dtype.cxx,
        "out_cutlass": spec.out.dtype.cutlass,
        "fragment": fragment,
        "vector": widest(spec.out, _channels(spec)[1], fragment),
        "extras": extras,
        "body": body,
        "result": result,
        "tile": tile,
        "iterator": ITERATORS[config.iterator],
        "alignment": 1 if tile.opclass == "Simt" else _alignment(spec),
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


def launcher(config: ConvConfig, name: str, unit: str, calls: Sequence[Call]) -> str:
    """The C++ function that calls the unit."""
    context = {"name": name, "unit": unit, "calls": calls, "split_k": config.split_k}
    return render("implicit_gemm_launch.cc.jinja", context)
