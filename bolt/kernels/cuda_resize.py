"""`cuda_resize`: nearest and linear resizing of channels-last images; a block draws a piece of a line."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.codegen.render import render
from bolt.kernels import cuda_map
from bolt.kernels.cpu_resize import AT, axis_text, unsupported_mode
from bolt.kernels.cuda_map import CudaFamily, Packs
from bolt.kernels.cuda_pool import image_rows
from bolt.kernels.family import argument_names
from bolt.kernels.rows import product
from bolt.ops.spatial import ResizeSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_PACKS = 1024
"""Packs of a strip: some per thread, so that working out its sources costs little."""
_WIDEST_STRIP = 256


class CudaResize(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_resize"
    op = "resize"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ResizeSpec)
        reason = unsupported_mode(spec) or cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs]:
        return cuda_map.pack_configs(image_rows(spec)[2])

    def estimate(self, spec: Spec, config: Packs, target: Target) -> float:
        return cuda_map.traffic_us(spec, target) * cuda_map.narrowing(config, image_rows(spec)[2])

    def render(self, spec: Spec, config: Packs, target: Target, name: str) -> str:
        assert isinstance(spec, ResizeSpec)
        loops, views, _ = image_rows(spec)
        source = argument_names(spec)[1]["strides"]
        return render(
            "cuda_resize.cu.jinja",
            {
                "name": name,
                "block": config.block,
                "operands": len(spec.operands),
                "ints": len(spec.dynamic()),
                "strip": _strip(loops[3].length, config.width),
                "coordinate": spec.coordinate,
                "at": AT[spec.mode].format(nearest=spec.nearest),
                "is_linear": spec.mode == "linear",
                "rows": axis_text(spec, 0),
                "columns": axis_text(spec, 1),
                "channels": loops[3].dim,
                "width": loops[2].dim,
                "lines": cuda_map.row_count(loops[:2]),
                "unravel": cuda_map.unravel(loops[:2]),
                "source": spec.operands[1].dtype.cxx,
                "source_start": cuda_map.pointer(spec, views[-1], "0"),
                "steps": source[1:3],
                "along": product("i", views[-1].inner_text),
                "choice": cuda_map.choice_of(spec, views, config.width),
                **cuda_map.finish_context(spec, views[:-1]),
            },
        )


def _strip(channels: int | None, width: int) -> int:
    """Columns a block draws at a time."""
    packs = -(-(channels or 64) // width)
    return max(1, min(_WIDEST_STRIP, _PACKS // packs))
