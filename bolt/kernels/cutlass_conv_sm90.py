"""`cutlass_conv_sm90`: convolutions by Hopper's warp-specialized kernels (CUTLASS 3.x: TMA and wgmma).

A convolution of 1x1 taps, steps of one and no padding is a matrix product over its pixels, with the units of
`cutlass_gemm_sm90`. The others are implicit GEMMs whose input TMA gathers in its im2col mode, padding
included. CUTLASS has one schedule for those (a producer and a consumer warpgroup, one tile per thread block),
and TMA sets the limits: 16-byte alignment, offsets of taps in 8 bits, steps of at most 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bolt.codegen import evt, evt90
from bolt.codegen.evt90 import Loader
from bolt.codegen.render import render
from bolt.kernels import cutlass_gemm_sm90
from bolt.kernels.cutlass_gemm_sm90 import GEMM
from bolt.kernels.cutlass_gemm_sm90_code import ALIGNMENT, Sm90Gemm, constants, launch_context, unit_source
from bolt.kernels.cutlass_tiles_sm90 import ELEMENT_BYTES, Tile, tiles
from bolt.kernels.family import Config, Source, argument_names
from bolt.kernels.finish import beside_weights, epilogue_cost
from bolt.kernels.sm90_model import Problem, microseconds
from bolt.ops.conv import ConvSpec
from bolt.ops.gemm import GemmSpec
from bolt.ops.spec import Operand, Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import BF16, F16, F32, convert

MAX_STEP = 8
"""`elementStrides` of cuTensorMapEncodeIm2col."""
MAX_OFFSET = 254
"""Of a tap from the first one, along each of two dims (8 bits each; CUTLASS leaves the last value out)."""
MAX_CORNER = 128
"""Of the padding before, and of the last tap's offset less the padding after, likewise."""

SCHEDULE = "im2col"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sm90Conv:
    """A config of an implicit GEMM.

    Attributes:
        tile: pixels, output channels and input channels of a thread block's tile.
        cluster: thread blocks along pixels and output channels that share loads.
    """

    tile: tuple[int, int, int]
    cluster: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A convolution as a matrix product.

    Attributes:
        spec: the product: pixels x input channels times input channels x output channels.
        names: how its dims and strides are spelled with the convolution's run-time values.
    """

    spec: GemmSpec
    names: tuple[dict[str, list[str]], ...]


class CutlassConvSm90:
    """The family; see the module's docstring."""

    name = "cutlass_conv_sm90"
    op = "conv"
    language = "cxx"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        reason = _obstacle(spec, target)
        return (
            Rejection(stage="supports", subject=f"{self.name} {spec.op}", reason=reason) if reason else None
        )

    def configs(self, spec: Spec, target: Target) -> Sequence[Config]:
        assert isinstance(spec, ConvSpec)
        product = _product(spec, target)
        if product is not None:
            return GEMM.configs(product.spec, target)
        return tuple(Sm90Conv(tile=t.shape, cluster=t.cluster) for t in _tiles(spec))

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        assert isinstance(spec, ConvSpec) and target.gpu is not None
        if isinstance(config, Sm90Gemm):
            return GEMM.estimate(_as_product(spec, target).spec, config, target)
        tile = Tile(shape=config.tile, cluster=config.cluster, schedule=SCHEDULE)
        return microseconds(_problem(spec, config), tile, target.gpu)

    def render(self, spec: Spec, config: Config, target: Target, name: str) -> str:
        assert isinstance(spec, ConvSpec)
        unit = self.units(spec, config, target)[0].name
        if isinstance(config, Sm90Gemm):
            product = _as_product(spec, target)
            context = launch_context(product.spec, config, name, unit, product.names)
            return render("cutlass_gemm_sm90_launch.cc.jinja", context)
        return render("cutlass_conv_sm90_launch.cc.jinja", _launch_context(spec, name, unit))

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        assert isinstance(spec, ConvSpec)
        if isinstance(config, Sm90Gemm):
            return GEMM.units(_as_product(spec, target).spec, config, target)
        context = _unit_context(spec, config)
        return (unit_source("cutlass_conv_sm90.cu.jinja", f"bolt_conv_{target.name}", context),)

    def pack(
        self, spec: Spec, config: Config, target: Target, constants: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Weights as (k, r, s, c) in the type of the input."""
        packed = beside_weights(spec, constants)
        krsc = np.ascontiguousarray(constants[2].transpose(0, 2, 3, 1)).ravel()
        packed[2] = convert(krsc, spec.operands[1].dtype)
        return packed

    def scratch_bytes(self, spec: Spec, config: Config, target: Target) -> int:
        assert isinstance(spec, ConvSpec)
        if isinstance(config, Sm90Gemm):
            return GEMM.scratch_bytes(_as_product(spec, target).spec, config, target)
        return 0


def _known(value: int | None) -> int:
    assert value is not None
    return value


def _obstacle(spec: Spec, target: Target) -> str | None:
    """Why the family can't compute `spec`, or None."""
    assert isinstance(spec, ConvSpec)
    if target.name != "sm90a":
        return f"wgmma is an instruction of sm90a, not of {target.name}"
    x = spec.operands[1]
    checks = (
        (spec.has_halo, "the padding is in memory"),
        (2 not in spec.constants, "the weights are not constant"),
        (spec.groups != 1, f"{spec.groups} groups; TMA gathers whole pixels"),
        (
            _element(spec) is None,
            f"wgmma has no instruction for {x.dtype} operands (f32 needs precision tf32)",
        ),
    )
    reason = next((text for wrong, text in checks if wrong), None)
    refused = evt.obstacle(spec.extras, spec.out.dtype, CutlassConvSm90.name)
    if reason is not None or refused is not None:
        return reason or refused.reason  # type: ignore[union-attr]
    if _product(spec, target) is not None:
        return None
    return (
        _unaligned(x, "the input")
        or _unaligned(spec.out, "the output")
        or _out_of_range(spec)
        or _unread(spec)
    )


def _element(spec: ConvSpec) -> str | None:
    """What the tensor cores multiply, or None when they have no instruction for it."""
    dtype = spec.operands[1].dtype
    if dtype is F32:
        return "tf32" if spec.math == "tf32" else None
    return {F16: "f16", BF16: "bf16"}.get(dtype)


def _unaligned(operand: Operand, what: str) -> str | None:
    """Why TMA can't move the pixels of an operand, or None.

    Strides of lines and images that are known at run time only are multiples of the pixels': views cut whole
    pixels.
    """
    size = operand.dtype.size_bytes
    if operand.strides[3] != 1:
        return f"the channels of {what} are not contiguous"
    if operand.alignment < ALIGNMENT:
        return f"{what} is not known to be aligned to {ALIGNMENT} bytes"
    channels = _known(operand.dims[3])
    if channels * size % ALIGNMENT:
        return f"{what} has {channels} channels, not a multiple of {ALIGNMENT} bytes"
    for stride in operand.strides[:3]:
        if stride is not None and stride * size % ALIGNMENT:
            return f"a stride of {what} is {stride}, not a multiple of {ALIGNMENT} bytes"
    return None


def _out_of_range(spec: ConvSpec) -> str | None:
    """Why TMA's im2col mode can't gather the taps, or None."""
    for axis in (0, 1):
        offset, step = (spec.kernel[axis] - 1) * spec.dilation[axis], spec.stride[axis]
        before, after = spec.pad[axis], spec.pad_end[axis]
        # the launch leaves out padding that no output reaches: less than a step
        corners = (-before, max(0, after - step + 1) - offset, after - offset)
        if step > MAX_STEP:
            return f"steps of {step}; TMA takes {MAX_STEP}"
        if offset > MAX_OFFSET:
            return f"the last tap is {offset} away; TMA takes {MAX_OFFSET}"
        if not all(-MAX_CORNER <= corner < MAX_CORNER for corner in corners):
            return f"padding {before} and {after}, taps over {offset}: beyond TMA's corners"
    return None


def _unread(spec: ConvSpec) -> str | None:
    """Why the visitor tree of an implicit GEMM can't read the epilogue inputs, or None."""
    kinds = [_kind(extra) for extra in spec.extras]
    if None in kinds:
        return f"epilogue input {kinds.index(None)} is no channel vector, scalar or aligned tensor"
    if kinds.count("source") > 1:
        return "more than one epilogue input of full size"
    return None


def _kind(extra: Operand) -> str | None:
    if not any(extra.strides[:3]) and None not in extra.strides[:3]:
        return "row" if extra.strides[3] else "scalar"
    broadcast = any(s == 0 and d != 1 for d, s in zip(extra.dims, extra.strides, strict=True))
    is_source = not broadcast and extra.dtype in evt.STORABLE and _unaligned(extra, "") is None
    return "source" if is_source else None


_STRIDES = {"row": "Stride<_0, _1, _0>", "scalar": "Stride<_0, _0, _0>", "source": ""}


def _loaders(spec: ConvSpec) -> tuple[Loader, ...]:
    kinds = [_kind(extra) or "" for extra in spec.extras]
    return tuple(
        Loader(kind=kind, dtype=extra.dtype, stride=_STRIDES[kind], strides="{}")
        for kind, extra in zip(kinds, spec.extras, strict=True)
    )


def _tiles(spec: ConvSpec) -> list[Tile]:
    """Tiles one consumer warpgroup can hold, half as deep where the channels are few."""
    kind = _element(spec)
    assert kind is not None
    depth = 64 if _known(spec.operands[1].dims[3]) * ELEMENT_BYTES[kind] <= 64 else 128
    return [
        replace(t, shape=(*t.shape[:2], depth // ELEMENT_BYTES[kind]))
        for t in tiles(kind).legal
        if t.schedule == "pingpong" and t.shape[0] <= 128 and t.shape[1] >= 32
    ]


def _problem(spec: ConvSpec, config: Sm90Conv) -> Problem:
    kind = _element(spec)
    assert kind is not None
    n, p, q, k = (cutlass_gemm_sm90.UNKNOWN if d is None else d for d in spec.out.dims)
    (r, s), depth = spec.kernel, config.tile[2]
    whole = [e for e in spec.extras if any(e.strides[:3])]
    return Problem(
        m=(1 if spec.out.dims[0] is None else n) * p * q,
        n=k,
        k=r * s * -(-_known(spec.operands[1].dims[3]) // depth) * depth,
        batch=1,
        element=kind,
        bytes=spec.bytes(),
        out_bytes=spec.out.dtype.size_bytes + sum(e.dtype.size_bytes for e in whole),
        epilogue_cost=epilogue_cost(spec.epilogue),
    )


def _unit_context(spec: ConvSpec, config: Sm90Conv) -> dict[str, object]:
    loaders = _loaders(spec)
    tree = evt90.tree(spec.epilogue, loaders, spec.out.dtype)
    element, out = spec.operands[1].dtype, spec.out.dtype
    source: dict[str, object] = {"type": "void", "alignment": 1, "index": -1}
    if tree.source >= 0:
        dtype = loaders[tree.source].dtype
        alignment = ALIGNMENT // dtype.size_bytes
        source = {"type": evt.ELEMENTS[dtype], "alignment": alignment, "index": tree.source}
    return {
        "functor": tree.functor,
        "visitor": tree.types,
        "arguments": tree.arguments,
        "tile": constants(config.tile[:2]),
        "depth": constants(config.tile[2:]),
        "cluster": constants((*config.cluster, 1)),
        "element": element.cutlass,
        "alignment": ALIGNMENT // element.size_bytes,
        "d": {"type": out.cutlass, "alignment": ALIGNMENT // out.size_bytes},
        "source": source,
    }


def _launch_context(spec: ConvSpec, name: str, unit: str) -> dict[str, object]:
    names = argument_names(spec)
    (n, p, q, k), (_, h, w, c), (r, s) = names[0]["dims"], names[1]["dims"], spec.kernel
    sizes = {"n": n, "h": h, "w": w, "c": c, "k": k, "p": p, "q": q, "r": r, "s": s, "groups": 1}
    fields = list(sizes.items())
    for field, pair in (("pad", spec.pad), ("stride", spec.stride), ("dilation", spec.dilation)):
        fields += [(f"{field}[{i}]", str(v)) for i, v in enumerate(pair)]
    addresses = [("y", "y_strides", 0), ("x", "x_strides", 1)]
    addresses += [(f"extras[{i}].data", f"extras[{i}].strides", 3 + i) for i in range(len(spec.extras))]
    for data, steps, operand in addresses:
        fields.append((data, f"p[{operand}]"))
        fields += [(f"{steps}[{i}]", step) for i, step in enumerate(names[operand]["strides"][:3])]
    return {"name": name, "unit": unit, "fields": [*fields, ("weights", "p[2]")]}


def _product(spec: ConvSpec, target: Target) -> Product | None:
    """The matrix product a convolution is and `cutlass_gemm_sm90` computes, or None."""
    if spec.kernel != (1, 1) or spec.stride != (1, 1) or any((*spec.pad, *spec.pad_end)) or spec.groups != 1:
        return None
    pixels = [o for i, o in enumerate(spec.operands) if i != 2]
    if not all(_lines_continue(o) for o in pixels):
        return None
    product = _joined(spec, whole=all(_images_continue(o) for o in pixels))
    return product if GEMM.supports(product.spec, target) is None else None


def _as_product(spec: ConvSpec, target: Target) -> Product:
    product = _product(spec, target)
    assert product is not None
    return product


def _lines_continue(operand: Operand) -> bool:
    """Whether all pixels of an image are the same step apart."""
    (_, height, width, _), (_, line, pixel, _) = operand.dims, operand.strides
    if (line == 0 and pixel == 0) or height == 1:
        return True
    return width is not None and line == width * _known(pixel)


def _images_continue(operand: Operand) -> bool:
    """Whether the next image follows with the same step."""
    (images, height, width, _), (image, line, pixel, _) = operand.dims, operand.strides
    if images == 1 or (not any((image, line, pixel)) and image is not None):
        return True
    return None not in (height, width) and image == _known(height) * _known(width) * _known(pixel)


def _joined(spec: ConvSpec, *, whole: bool) -> Product:
    """Pixels as rows: of all images, or image by image."""
    names = argument_names(spec)
    operands, spelled = [], []
    for index, operand in enumerate(spec.operands):
        if index == 2:
            c, k = spec.operands[1].dims[3], spec.out.dims[3]
            dims: Extents = (1, 1, c, k)
            strides: Extents = (0, 0, k, 1)
            texts = {"dims": [str(x) for x in dims], "strides": [str(x) for x in strides]}
        else:
            dims, strides, texts = _rows(operand, names[index], whole=whole)
        operands.append(replace(operand, dims=dims, strides=strides))
        spelled.append(texts)
    gemm = GemmSpec(
        operands=tuple(operands), epilogue=spec.epilogue, constants=spec.constants, math=spec.math
    )
    return Product(spec=gemm, names=tuple(spelled))


Extents = tuple[int | None, ...]


def _rows(
    operand: Operand, names: Mapping[str, list[str]], *, whole: bool
) -> tuple[Extents, Extents, dict[str, list[str]]]:
    """(dims, strides, their spelling) of an operand whose pixels are rows."""
    n, h, w, c = operand.dims
    image, _, pixel, channel = operand.strides
    n_, h_, w_, c_ = names["dims"]
    image_, _, pixel_, channel_ = names["strides"]
    if whole:
        spelled = {"dims": ["1", "1", f"{n_} * {h_} * {w_}", c_], "strides": ["0", "0", pixel_, channel_]}
        return (1, 1, _times(n, h, w), c), (0, 0, pixel, channel), spelled
    spelled = {"dims": ["1", n_, f"{h_} * {w_}", c_], "strides": ["0", image_, pixel_, channel_]}
    return (1, n, _times(h, w), c), (0, image, pixel, channel), spelled


def _times(*dims: int | None) -> int | None:
    out = 1
    for d in dims:
        if d is None:
            return None
        out *= d
    return out
