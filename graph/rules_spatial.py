"""Shape rules of convolution, pooling, resizing and space/depth moves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx_ir as ir

from bolt import dims
from bolt.dims import Dim
from bolt.graph import bounds
from bolt.graph.rules_pointwise import Rule
from bolt.graph.site import Fact, Site, Unknown, exact, normalize


@lru_cache(maxsize=4096)
def _window(extent: Dim, kernel: int, stride: int, pads: int, *, ceil: bool = False, start: int = 0) -> Dim:
    """How many windows fit; a last window that would start in the end padding does not exist."""
    span = dims.add(extent, pads - kernel)
    if not ceil:
        return dims.add(bounds.floordiv(span, stride), 1)
    fit = dims.add(bounds.ceildiv(span, stride), 1)
    return bounds.minimum(fit, bounds.ceildiv(dims.add(extent, start), stride))


def _sliding(site: Site, extents: tuple[Dim, ...], kernel: list[int], *, ceil: bool = False) -> list[Dim]:
    """Output extents of a convolution or pool over the spatial `extents`."""
    rank = len(extents)
    strides = site.ints(None, "strides", default=(1,) * rank)
    dilations = site.ints(None, "dilations", default=(1,) * rank)
    pads = site.ints(None, "pads", default=(0,) * (2 * rank))
    auto_pad = str(site.attr("auto_pad", "NOTSET"))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return [bounds.ceildiv(e, s) for e, s in zip(extents, strides, strict=True)]
    if auto_pad == "VALID":
        pads = (0,) * (2 * rank)
    return [
        _window(e, reach[i], strides[i], pads[i] + pads[i + rank], ceil=ceil, start=pads[i])
        for i, e in enumerate(extents)
    ]


def _static_kernel(site: Site, weights: tuple[Dim, ...]) -> list[int]:
    kernel = site.attr("kernel_shape") or weights[2:]
    if not dims.is_static(*kernel):
        raise Unknown
    return [int(k) for k in kernel]


def _conv(site: Site, weight_index: int, dtype: ir.DataType | None) -> list[Fact]:
    x, w = site.dims(), site.dims(weight_index)
    if len(x) != len(w) or len(x) < 3:
        raise Unknown
    return [Fact((x[0], w[0], *_sliding(site, x[2:], _static_kernel(site, w))), dtype)]


def conv(site: Site) -> list[Fact]:
    return _conv(site, 1, site.dtype())


def conv_integer(site: Site) -> list[Fact]:
    return _conv(site, 1, ir.DataType.INT32)


def quantized_conv(site: Site) -> list[Fact]:
    return _conv(site, 1, ir.DataType.FLOAT)


def qlinear_conv(site: Site) -> list[Fact]:
    return _conv(site, 3, site.dtype(7))


def conv_transpose(site: Site) -> list[Fact]:
    x, w = site.dims(), site.dims(1)
    rank = len(x) - 2
    out: list[Dim] = [x[0], dims.mul(w[1], int(site.attr("group", 1)))]
    given = site.attr("output_shape")
    if given:
        return [Fact((*out, *(int(v) for v in given[-rank:])), site.dtype())]
    kernel = _static_kernel(site, w)
    strides = site.ints(None, "strides", default=(1,) * rank)
    dilations = site.ints(None, "dilations", default=(1,) * rank)
    pads = site.ints(None, "pads", default=(0,) * (2 * rank))
    extra = site.ints(None, "output_padding", default=(0,) * rank)
    auto_pad = str(site.attr("auto_pad", "NOTSET"))
    for i, extent in enumerate(x[2:]):
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            out.append(dims.mul(extent, strides[i]))
            continue
        padding = 0 if auto_pad == "VALID" else pads[i] + pads[i + rank]
        reach = (kernel[i] - 1) * dilations[i] + 1
        out.append(dims.add(dims.mul(dims.sub(extent, 1), strides[i]), extra[i] + reach - padding))
    return [Fact(tuple(out), site.dtype())]


def pool(site: Site) -> list[Fact]:
    x = site.dims()
    spatial = _sliding(site, x[2:], list(site.attr("kernel_shape")), ceil=bool(site.attr("ceil_mode", 0)))
    out = (*x[:2], *spatial)
    return [Fact(out, site.dtype()), Fact(out, ir.DataType.INT64)]


def global_pool(site: Site) -> list[Fact]:
    x = site.dims()
    return [Fact((*x[:2], *(1 for _ in x[2:])), site.dtype())]


def _scaled(extent: Dim, scale: float) -> Dim:
    """floor(extent * scale) as ORT computes it: in fp32 where the extent is known."""
    if isinstance(extent, int):
        return int(np.float32(extent) * np.float32(scale))
    if exact(scale) is None:
        raise Unknown
    numerator, denominator = scale.as_integer_ratio()
    return bounds.floordiv(dims.mul(extent, numerator), denominator)


def resize(site: Site) -> list[Fact]:
    """Resize of every opset, and Upsample: sizes or scales, possibly for some axes only."""
    x = list(site.dims())
    axes = [normalize(int(a), len(x)) for a in site.attr("axes") or range(len(x))]
    if site.has(3):
        if site.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise Unknown
        for axis, size in zip(axes, site.content(3).reshape(-1), strict=True):
            x[axis] = size
        return [Fact(tuple(x), site.dtype())]
    for axis, scale in zip(axes, _scales(site), strict=True):
        x[axis] = _scaled(x[axis], float(scale))
    return [Fact(tuple(x), site.dtype())]


def _scales(site: Site) -> list[float]:
    attribute = site.attr("scales")
    if attribute:
        return list(attribute)
    index = 2 if len(site.node.inputs) > 2 else 1
    constant = site.constant(index)
    if constant is not None:
        return [float(v) for v in constant.reshape(-1)]
    content = site.content(index).reshape(-1)
    if not all(isinstance(v, int) or v.is_number for v in content):
        raise Unknown
    return [float(v) for v in content]


def depth_to_space(site: Site) -> list[Fact]:
    n, c, h, w = site.dims()
    b = int(site.attr("blocksize"))
    return [Fact((n, bounds.floordiv(c, b * b), dims.mul(h, b), dims.mul(w, b)), site.dtype())]


def space_to_depth(site: Site) -> list[Fact]:
    n, c, h, w = site.dims()
    b = int(site.attr("blocksize"))
    return [Fact((n, dims.mul(c, b * b), bounds.floordiv(h, b), bounds.floordiv(w, b)), site.dtype())]


def grid_sample(site: Site) -> list[Fact]:
    x, grid = site.dims(0), site.dims(1)
    return [Fact((*x[:2], *grid[1:-1]), site.dtype())]


def roi_align(site: Site) -> list[Fact]:
    rows, columns = int(site.attr("output_height", 1)), int(site.attr("output_width", 1))
    return [Fact((site.dims(1)[0], site.dims()[1], rows, columns), site.dtype())]


RULES: dict[str, Rule] = {
    "Conv": conv,
    "ConvInteger": conv_integer,
    "QuantizedConv": quantized_conv,
    "QLinearConv": qlinear_conv,
    "ConvTranspose": conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), global_pool),
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
}
