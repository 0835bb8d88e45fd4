"""`cuda_pool`: max and average pooling, channels-last; a thread takes a pack of channels of one pixel."""

from __future__ import annotations

from collections.abc import Sequence

from bolt.codegen.render import render
from bolt.kernels import cuda_map, rowwise
from bolt.kernels.cpu_pool import KINDS
from bolt.kernels.cuda_map import CudaFamily, Packs, View
from bolt.kernels.family import argument_names
from bolt.kernels.loops import Loop, nest_of
from bolt.kernels.rows import product
from bolt.ops.spatial import PoolSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_UNROLLED = 9
"""Windows of so many taps or fewer are unrolled."""


def image_view(spec: Spec) -> View:
    """Operand 1, an image, along its channels; the row starts at image `at0`."""
    text, strides = argument_names(spec)[1]["strides"], spec.operands[1].strides
    dims = spec.operands[1].dims
    return View(
        operand=1,
        steps=tuple((text[a], strides[a]) for a in range(3) if dims[a] != 1),
        inner=strides[3] if dims[3] != 1 else 0,
        inner_text=text[3] if dims[3] != 1 else "0",
        offset=product("at0", text[0]),
    )


def image_rows(spec: Spec) -> tuple[tuple[Loop, ...], tuple[View, ...], int]:
    """The loops over the output; views of it, the epilogue inputs and the image; the widest packs."""
    operands = (0, *rowwise.extras_of(spec))
    loops = nest_of(spec, operands)
    views = (*cuda_map.loop_views(loops, operands), image_view(spec))
    return loops, views, cuda_map.widest_pack(spec, views, loops[-1].length)


class CudaPool(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_pool"
    op = "pool"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, PoolSpec)
        if spec.kind not in KINDS:
            return self.reject(spec, f"no pooling is called {spec.kind!r}")
        reason = cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Packs]:
        return cuda_map.pack_configs(image_rows(spec)[2])

    def estimate(self, spec: Spec, config: Packs, target: Target) -> float:
        return cuda_map.traffic_us(spec, target) * cuda_map.narrowing(config, image_rows(spec)[2])

    def render(self, spec: Spec, config: Packs, target: Target, name: str) -> str:
        assert isinstance(spec, PoolSpec)
        loops, views, _ = image_rows(spec)
        source = argument_names(spec)[1]
        unrolled = spec.kernel[0] * spec.kernel[1] <= _UNROLLED
        return render(
            "cuda_pool.cu.jinja",
            {
                "op": KINDS[spec.kind].op,
                "is_average": spec.kind == "avg",
                "counted": " * ".join(_counted(spec, axis, source["dims"][axis + 1]) for axis in (0, 1)),
                "kernel": spec.kernel,
                "stride": spec.stride,
                "dilation": spec.dilation,
                "pad": spec.pad,
                "unroll": "" if unrolled else "1",
                "source": spec.operands[1].dtype.cxx,
                "source_start": cuda_map.pointer(spec, views[-1], "i"),
                "extents": source["dims"][1:3],
                "steps": source["strides"][1:3],
                **cuda_map.map_context(spec, name, loops, config=config, views=views),
                **cuda_map.finish_context(spec, views[:-1]),
            },
        )


def _counted(spec: PoolSpec, axis: int, extent: str) -> str:
    """C++ number of taps along one axis that an average divides by."""
    start = ("top", "left")[axis]

    def before(end: str) -> str:
        return f"taps_before({start}, {spec.dilation[axis]}, {spec.kernel[axis]}, {end})"

    if spec.count_include_pad:
        return before(f"{extent} + {spec.pad_end[axis]}")
    return f"({before(extent)} - {before('0')})"
