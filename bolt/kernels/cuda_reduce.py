"""`cuda_reduce`: sums, means, extrema, products and norms over two axes.

Where the input is contiguous along the innermost output dim a thread joins packs of columns, and a block
shares out the window; a single output element is joined by a team of threads instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bolt.codegen.render import render
from bolt.kernels import cuda_map, rowwise
from bolt.kernels.cpu_reduce import KINDS
from bolt.kernels.cuda_map import BLOCK, CudaFamily, View
from bolt.kernels.family import argument_names
from bolt.kernels.loops import nest_of
from bolt.kernels.rows import number, product
from bolt.ops.rows import ReduceSpec
from bolt.ops.spec import Spec
from bolt.report import Rejection
from bolt.target import Target

_TEAMS = {32: 1 << 10, 256: 1 << 14, 1024: None}
"""Threads that join one element -> the longest window they are for."""
_SLICES = (1, 8, 32)
_BUSY = 512
"""Threads per multiprocessor from which on memory is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How the work is shared out.

    Attributes:
        width: neighbouring elements a thread takes at a time, where memory allows.
        slices: shares of a window in one block; 0 where a team joins one element.
    """

    width: int
    slices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The two reduced axes, the one with neighbours in memory last.

    Attributes:
        inner: position of the last one in the input's dims.
        dims, steps: extents and strides as C++ text.
        joined: whether they are one long axis.
    """

    inner: int
    dims: tuple[str, str]
    steps: tuple[str, str]
    joined: bool

    @property
    def length(self) -> int | None:
        return number(product(*self.dims))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a spec is computed.

    Attributes:
        columns: whether threads run along the innermost output dim.
        window: the reduced axes.
        views: the output, the epilogue inputs, and then the input, along what packs are taken of.
        widest: the widest packs.
    """

    columns: bool
    window: Window
    views: tuple[View, ...]
    widest: int


def _window(spec: Spec) -> Window:
    source, names = spec.operands[1], argument_names(spec)[1]
    order = (3, 1) if source.strides[3] != 1 and source.strides[1] == 1 else (1, 3)
    outer, inner = order
    length, step = source.dims[inner], source.strides[inner]
    known = length is not None and step is not None and source.strides[outer] == length * step
    return Window(
        inner=inner,
        dims=(names["dims"][outer], names["dims"][inner]),
        steps=(names["strides"][outer], names["strides"][inner]),
        joined=known or source.dims[outer] == 1,
    )


def _plan(spec: Spec) -> Plan:
    source, text = spec.operands[1], argument_names(spec)[1]["strides"]
    operands = (0, *rowwise.extras_of(spec))
    views = cuda_map.loop_views(nest_of(spec, operands), operands)
    window = _window(spec)
    columns = spec.out.dims[2] != 1 and source.strides[4] == 1
    along = 4 if columns else window.inner
    steps = [a for a in range(5) if a != along and source.dims[a] != 1]
    if not columns and window.joined:
        steps = [a for a in steps if a not in (1, 3)]
    rows = View(
        operand=1,
        steps=tuple((text[a], source.strides[a]) for a in steps),
        inner=source.strides[along],
        inner_text=text[along],
        offset=cuda_map.sum_of((product("at0", text[0]), product("at1", text[2]))),
    )
    packed = (*views, rows) if columns else (rows,)
    length = spec.out.dims[2] if columns else window.length
    widest = cuda_map.widest_pack(spec, packed, length) if columns or window.joined else 1
    return Plan(columns=columns, window=window, views=(*views, rows), widest=widest)


def _elements(spec: Spec) -> int:
    out = 1
    for extent in spec.out.dims:
        out *= extent or 1
    return out


class CudaReduce(CudaFamily):
    """The family; see the module's docstring."""

    name = "cuda_reduce"
    op = "reduce"

    def supports(self, spec: Spec, target: Target) -> Rejection | None:
        assert isinstance(spec, ReduceSpec)
        if spec.kind not in KINDS:
            return self.reject(spec, f"no reduction is called {spec.kind!r}")
        reason = cuda_map.unsupported(spec)
        return self.reject(spec, reason) if reason else None

    def configs(self, spec: Spec, target: Target) -> Sequence[Shares]:
        plan = _plan(spec)
        if not plan.columns:
            return (Shares(width=plan.widest, slices=0),)
        length = plan.window.length
        slices = [s for s in _SLICES if length is None or s == 1 or 2 * s <= length]
        configs = (Shares(width=plan.widest, slices=s) for s in slices)
        return tuple(sorted(configs, key=lambda c: self.estimate(spec, c, target)))

    def estimate(self, spec: Spec, config: Shares, target: Target) -> float:
        """Traffic at the bandwidth that so many threads reach."""
        assert target.gpu is not None
        plan = _plan(spec)
        threads = _elements(spec) * _threads(plan.window.length or 1)
        if config.slices:
            threads = -(-_elements(spec) // config.width) * config.slices
        busy = min(1.0, threads / (target.gpu.multiprocessors * _BUSY))
        traffic = cuda_map.traffic_us(spec, target) - cuda_map.LAUNCH_US
        return cuda_map.LAUNCH_US + traffic / busy + 0.02 * config.slices

    def render(self, spec: Spec, config: Shares, target: Target, name: str) -> str:
        plan = _plan(spec)
        template = "cuda_reduce_columns.cu.jinja" if plan.columns else "cuda_reduce.cu.jinja"
        return render(template, _context(spec, plan, config, name))


def _context(spec: Spec, plan: Plan, config: Shares, name: str) -> dict[str, Any]:
    assert isinstance(spec, ReduceSpec)
    operands = (0, *rowwise.extras_of(spec))
    loops, kind = nest_of(spec, operands), KINDS[spec.kind]
    rows = plan.views[-1]
    start = cuda_map.pointer(spec, rows, "i") if plan.columns else _element(spec, rows)
    packed = plan.views if plan.columns else (rows,)
    variants = None if plan.columns else (lambda width: _teams(plan, width))
    return {
        "name": name,
        "block": BLOCK,
        "slices": config.slices,
        "operands": len(spec.operands),
        "ints": len(spec.dynamic()),
        "inner": loops[-1].dim,
        "rows": cuda_map.row_count(loops[:-1]),
        "unravel": cuda_map.unravel(loops[:-1]),
        "window": plan.window,
        "op": kind.op,
        "map": kind.map,
        "last": kind.last,
        "source": spec.operands[1].dtype.cxx,
        "source_start": start,
        "choice": cuda_map.choice_of(spec, packed, config.width, variants or cuda_map.width_alone),
        **cuda_map.finish_context(spec, plan.views[:-1]),
    }


def _element(spec: Spec, rows: View) -> str:
    """C++ pointer to the first element of the window of output element `i`."""
    offset = cuda_map.sum_of((rows.offset, product("i", argument_names(spec)[1]["strides"][4])))
    return f"(const {spec.operands[1].dtype.cxx}*)p[1] + {offset}"


def _teams(plan: Plan, width: int) -> list[tuple[str, str]]:
    """Template arguments `V, T` to choose from, and when."""
    length = plan.window.length
    if length is not None:
        return [("", f"{width}, {_threads(length)}")]
    window = product(*plan.window.dims)
    return [
        (f"{window} <= {limit}" if limit else "", f"{width}, {threads}") for threads, limit in _TEAMS.items()
    ]


def _threads(length: int) -> int:
    """Threads that join one element of a window."""
    return next(threads for threads, limit in _TEAMS.items() if limit is None or length <= limit)
