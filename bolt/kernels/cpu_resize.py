"""`cpu_resize`: nearest and linear resizing of channels-last images."""

from __future__ import annotations

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.loops import nest_of
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.spatial import ResizeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
"""Coordinate modes; bolt/resize.h has a function of each name."""
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
"""Nearest modes; bolt/resize.h has a function `nearest_<name>` of each."""
_NEAREST_ACC = "load<TAIL>(x00 + i, n)"
_LINEAR_ACC = (
    "vlerp(vlerp(load<TAIL>(x00 + i, n), load<TAIL>(x01 + i, n), column_weight), "
    "vlerp(load<TAIL>(x10 + i, n), load<TAIL>(x11 + i, n), column_weight), row_weight)"
)


class CpuResize(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_resize"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, ResizeSpec):
            return self.reject(spec, "not a resize spec")
        if spec.mode not in ("nearest", "linear"):
            return self.reject(spec, f"mode {spec.mode!r} is neither nearest nor linear")
        if spec.coordinate not in COORDINATES:
            return self.reject(
                spec, f"coordinate mode {spec.coordinate!r} is not one of {', '.join(COORDINATES)}"
            )
        if spec.mode == "nearest" and spec.nearest not in NEAREST:
            return self.reject(spec, f"nearest mode {spec.nearest!r} is not one of {', '.join(NEAREST)}")
        reason = rowwise.unsupported(spec) or rowwise.unsupported_input(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, ResizeSpec)
        operands = (0, *rowwise.extras_of(spec))
        linear = spec.mode == "linear"
        return render(
            "cpu_resize.cc.jinja",
            {
                "name": name,
                "coordinate": spec.coordinate,
                "at": _AT[spec.mode].format(nearest=spec.nearest),
                "rows": _axis(spec, 0),
                "columns": _axis(spec, 1),
                "source": argument_names(spec)[1]["strides"],
                "channels": argument_names(spec)[0]["dims"][3],
                **rowwise.context(
                    spec,
                    nest_of(spec, operands)[:-1],
                    operands,
                    acc=_LINEAR_ACC if linear else _NEAREST_ACC,
                ),
            },
        )


_AT = {
    "linear": "blend_at(at, axis.in)",
    "nearest": "Blend{{clamp_index(nearest_{nearest}(at), axis.in), 0, 0.0f}}",
}
"""C++ expression of the `Blend` at source coordinate `at`."""


def _axis(spec: ResizeSpec, axis: int) -> str:
    """Initializer of an `Axis` of bolt/resize.h."""
    out, source = (argument_names(spec)[i]["dims"][axis + 1] for i in (0, 1))
    given = spec.scales[axis]
    scale = float(given).hex() if given else f"(double){out} / (double){source}"
    return f"{{{out}, {source}, {scale}}}"
