"""What softmax and normalization share on CUDA: a team of threads per row.

Rows of a static or short length stay in registers; longer ones are read again, from cache, in every pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bolt.kernels import cuda_map
from bolt.kernels.cuda_map import CudaFamily, View
from bolt.kernels.loops import Loop, collapse, nest, outer_of
from bolt.ops.spec import Spec
from bolt.target import Target

_WARP = 32
_HELD = 32
"""Elements of a row one thread of a warp keeps in registers."""
_HELD_BLOCK = 16
"""The same for a thread of a whole block: 1024 threads have 64 registers each."""
_STREAMING = 256
"""Threads for rows of a run-time length that a warp can't hold."""
_LARGEST = 1024
_BUSY = 512
"""Threads per multiprocessor from which on memory is busy."""
_SYNC_US = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Teams:
    """How rows are shared out.

    Attributes:
        width: neighbouring elements a thread takes at a time, where memory allows.
        threads: threads per row; 0 when the row's length decides at run time.
    """

    width: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a spec.

    Attributes:
        loops: the axes around the rows, and the row's own.
        views: every operand along them.
        widest: the widest packs.
    """

    loops: tuple[Loop, ...]
    views: tuple[View, ...]
    widest: int

    @property
    def length(self) -> int | None:
        return self.loops[-1].length


def rows_of(spec: Spec) -> Rows:
    """Rows of the innermost axis of the output, the input and the epilogue inputs."""
    full = nest(spec)
    outer = collapse(full[:-1]) if len(full) > 1 else outer_of(full)
    loops = (*outer, full[-1])
    views = cuda_map.loop_views(loops, range(len(spec.operands)))
    widest = cuda_map.widest_pack(spec, views, full[-1].length)
    return Rows(loops=loops, views=views, widest=widest)


def _threads(length: int, width: int) -> int:
    """Threads that hold a row in registers, or the largest team when none can."""
    packs = -(-length // width)
    if packs * width <= _WARP * _HELD:
        return min(_WARP, _power_of_two(packs))
    threads = 128
    while threads < _LARGEST and -(-packs // threads) * width > _HELD_BLOCK:
        threads *= 2
    return threads


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _held(length: int, width: int, threads: int) -> int:
    """Packs of a row each thread keeps, 0 when they are too many."""
    packs = -(-length // (width * threads))
    return packs if packs * width <= (_HELD if threads <= _WARP else _HELD_BLOCK) else 0


class CudaRows(CudaFamily):
    """Base of the families."""

    def configs(self, spec: Spec, target: Target) -> Sequence[Teams]:
        rows = rows_of(spec)
        if rows.length is None:
            return (Teams(width=rows.widest, threads=0),)
        own = _threads(rows.length, rows.widest)
        packs = -(-rows.length // rows.widest)
        larger = [t for t in (128, 256, 512) if own < t < 2 * packs]
        teams = (Teams(width=rows.widest, threads=t) for t in (own, *larger))
        return tuple(sorted(teams, key=lambda team: self.estimate(spec, team, target)))

    def estimate(self, spec: Spec, config: Teams, target: Target) -> float:
        """Traffic at the bandwidth that so many threads reach; rows that are not held come from cache."""
        assert target.gpu is not None
        rows = rows_of(spec)
        threads = config.threads or _WARP
        all_threads = threads
        for loop in rows.loops[:-1]:
            all_threads *= loop.length or 1
        busy = min(1.0, all_threads / (target.gpu.multiprocessors * _BUSY))
        traffic = cuda_map.traffic_us(spec, target) - cuda_map.LAUNCH_US
        again = 1.0 if rows.length is None or _held(rows.length, config.width, threads) else 1.5
        sync = _SYNC_US if threads > _WARP else 0.0
        return cuda_map.LAUNCH_US + sync + traffic * again / busy

    def context(self, spec: Spec, config: Teams, name: str) -> dict[str, Any]:
        """What `cuda_rows.jinja` needs."""
        rows = rows_of(spec)
        source = rows.views[1]
        finish = cuda_map.finish_context(spec, (rows.views[0], *rows.views[2:]))
        start = cuda_map.pointer(spec, source, "0")
        return {
            **finish,
            "name": name,
            "operands": len(spec.operands),
            "ints": len(spec.dynamic()),
            "inner": rows.loops[-1].dim,
            "rows": cuda_map.row_count(rows.loops[:-1]),
            "unravel": cuda_map.unravel(rows.loops[:-1]),
            "source": spec.operands[1].dtype.cxx,
            "source_start": start,
            "source_step": source.inner_text,
            "choice": cuda_map.choice_of(
                spec, rows.views, config.width, lambda width: _teams(rows, config, width)
            ),
        }


def _teams(rows: Rows, config: Teams, width: int) -> list[tuple[str, str]]:
    """Template arguments `V, T, PACKS` to choose from, and when; the last one always does."""
    if rows.length is None:
        fits = f"{rows.loops[-1].dim} <= {_WARP * _HELD}"
        return [(fits, f"{width}, {_WARP}, {_HELD // width}"), ("", f"{width}, {_STREAMING}, 0")]
    threads = config.threads if width == config.width else _threads(rows.length, width)
    return [("", f"{width}, {threads}, {_held(rows.length, width, threads)}")]
