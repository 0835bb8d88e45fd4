"""`cpu_pool`: max and average pooling, channels-last; windows are cut at the image's border."""

from __future__ import annotations

from dataclasses import dataclass

from bolt.codegen.render import render
from bolt.kernels import rowwise
from bolt.kernels.family import argument_names
from bolt.kernels.loops import nest_of
from bolt.kernels.plain import OneWay, PlainFamily
from bolt.ops.spatial import PoolSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A row of `KINDS`.

    Attributes:
        op: how two taps are joined (a struct of bolt/horizontal.h).
        last: C++ expression of the result from `acc`; `scale` is one over the taps that count.
    """

    op: str
    last: str


KINDS = {"max": Kind(op="FastMaxOp", last="acc"), "avg": Kind(op="SumOp", last="acc * scale")}
"""How the poolings of `PoolSpec.kind` are computed. Max is one instruction per tap and may lose NaN."""


_COUNTED = {False: "height * width", True: "rows.counted * columns.counted"}
"""Taps an average divides by, with and without the padding."""


class CpuPool(PlainFamily):
    """The family; see the module's docstring."""

    name = "cpu_pool"
    op = "pool"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        if not isinstance(spec, PoolSpec):
            return self.reject(spec, "not a pooling spec")
        if spec.kind not in KINDS:
            return self.reject(spec, f"no pooling is called {spec.kind!r}")
        reason = rowwise.unsupported(spec) or rowwise.unsupported_input(spec)
        return self.reject(spec, reason) if reason else None

    def render(self, spec: Spec, config: OneWay, target: Target, name: str) -> str:
        assert isinstance(spec, PoolSpec)
        source, operands = argument_names(spec)[1], (0, *rowwise.extras_of(spec))
        taps = [_taps(spec, axis, extent=source["dims"][axis + 1]) for axis in (0, 1)]
        return render(
            "cpu_pool.cc.jinja",
            {
                "name": name,
                "op": KINDS[spec.kind].op,
                "last": KINDS[spec.kind].last,
                "row_taps": taps[0],
                "column_taps": taps[1],
                "counted": _COUNTED[spec.count_include_pad],
                "kernel": spec.kernel,
                "stride": spec.stride,
                "dilation": spec.dilation,
                "pad": spec.pad,
                "source": source["strides"],
                "channels": argument_names(spec)[0]["dims"][3],
                "width": argument_names(spec)[0]["dims"][2],
                **rowwise.context(spec, nest_of(spec, operands)[:2], operands, along=("q", 2)),
            },
        )


def _taps(spec: PoolSpec, axis: int, *, extent: str) -> str:
    """Arguments of `taps_at` after the position."""
    counted = f"{extent} + {spec.pad_end[axis]}" if spec.count_include_pad else extent
    numbers = (spec.stride[axis], spec.pad[axis], spec.dilation[axis], spec.kernel[axis])
    return ", ".join((*map(str, numbers), extent, counted))
