"""`cpu_resize`: nearest, linear and cubic resizing of channels-last images."""

from __future__ import annotations

from typing import Any

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.loops import nest_of
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.spatial import ResizeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target
from bolt.types import F32

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
"""Coordinate modes; bolt/sampling.h has a function of each name."""
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
"""Nearest modes; bolt/sampling.h has a function `nearest_<name>` of each."""
_NEAREST_ACC = "load<TAIL>(x00 + i, n)"
_LINEAR_ACC = (
    "vlerp(vlerp(load<TAIL>(x00 + i, n), load<TAIL>(x01 + i, n), column_weight), "
    "vlerp(load<TAIL>(x10 + i, n), load<TAIL>(x11 + i, n), column_weight), row_weight)"
)
_CUBIC_ACC = "blended<TAIL>(lines, d, row, column, i, n)"


def unsupported_mode(spec: ResizeSpec) -> str | None:
    """Why no kernel resizes as `spec` asks, or None when there are some."""
    if spec.mode not in AT:
        return f"mode {spec.mode!r} is neither nearest nor linear"
    if spec.coordinate not in COORDINATES:
        return f"coordinate mode {spec.coordinate!r} is not one of {', '.join(COORDINATES)}"
    if spec.mode == "nearest" and spec.nearest not in NEAREST:
        return f"nearest mode {spec.nearest!r} is not one of {', '.join(NEAREST)}"
    return None


class CpuResize(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_resize"
    op = "resize"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ResizeSpec):
            return self.reject(spec, "not a resize spec")
        mode = None if spec.mode == "cubic" and spec.coordinate in COORDINATES else unsupported_mode(spec)
        reason = mode or rowwise.unsupported(spec) or rowwise.unsupported_input(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, ResizeSpec)
        common = {
            "name": name,
            "coordinate": spec.coordinate,
            "rows": axis_text(spec, 0),
            "columns": axis_text(spec, 1),
            "source": argument_names(spec)[1]["strides"],
            "channels": argument_names(spec)[0]["dims"][3],
        }
        if spec.mode == "cubic":
            context = _walked(spec, _CUBIC_ACC)
            return render("cpu_resize_cubic.cc.jinja", {**common, **context, "cubic": spec.cubic.hex()})
        common["at"] = AT[spec.mode].format(nearest=spec.nearest)
        draw = _draw(spec)
        if draw is not None:
            target_names = argument_names(spec)[0]
            images, strides = target_names["dims"][0], target_names["strides"]
            plain = {**common, "images": images, "target": strides, "draw": draw, "type": spec.out.dtype.cpu}
            return render("cpu_resize_plain.cc.jinja", plain)
        context = _walked(spec, _LINEAR_ACC if spec.mode == "linear" else _NEAREST_ACC)
        return render("cpu_resize.cc.jinja", {**common, **context})


def _walked(spec: ResizeSpec, acc: str) -> dict[str, Any]:
    """What the templates need to walk the output's lines, with the accumulator `acc`."""
    operands = (0, *rowwise.extras_of(spec))
    loops = nest_of(spec, operands)[:2]
    return rowwise.context(spec, loops, operands, acc=acc, along=("q", 2))


_FEW = 4
"""Channels up to which blending pixel by pixel beats vectors along the channels."""

_DRAW_LINEAR = "linear_line<{c}>(y, low, image + row.high * {row_step}, row.weight, strip, width);"
_DRAW_NEAREST = """if (row.low == above && line % rows.out != 0) {{
      __builtin_memcpy(y, y - {line_step}, (size_t)width * {c} * sizeof *y);
    }} else {{
      nearest_line<{c}>(y, low, {pixel_step}, strip, width);
    }}
    above = row.low;"""


def _draw(spec: ResizeSpec) -> str | None:
    """C++ that draws one line of contiguous pixels without an epilogue, or None where vectors do better."""
    c, source = spec.out.dims[3], spec.operands[1]
    if c is None or spec.out.strides[2:] != (c, 1):
        return None
    if not spec.epilogue.is_identity or spec.out.dtype is not source.dtype:
        return None
    out_steps, source_steps = (argument_names(spec)[i]["strides"] for i in (0, 1))
    if spec.mode == "nearest":
        return _DRAW_NEAREST.format(c=c, line_step=out_steps[1], pixel_step=source_steps[2])
    if c <= _FEW and source.strides[2] == c and source.dtype is F32:
        return _DRAW_LINEAR.format(c=c, row_step=source_steps[1])
    return None


AT = {
    "linear": "blend_at(at, axis.in)",
    "nearest": "Blend{{clamp_index(nearest_{nearest}(at), axis.in), 0, 0.0f}}",
}
"""C++ expression of the `Blend` at source coordinate `at`."""


def axis_text(spec: ResizeSpec, axis: int) -> str:
    """Initializer of an `Axis` of bolt/sampling.h."""
    out, source = (argument_names(spec)[i]["dims"][axis + 1] for i in (0, 1))
    given = spec.scales[axis]
    scale = float(given).hex() if given else f"(double){out} / (double){source}"
    return f"{{{out}, {source}, {scale}}}"
