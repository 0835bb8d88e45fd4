"""Finds chains: neighbouring steps whose images need not leave the cache.

An image is kept in a chain when only one step reads it, as its first input, and it is large enough not to
stay in cache anyway. Where to cut a row of such steps into chains, and how tall their strips are, is decided
by an estimate of memory traffic; whether a chain ships is measured (`bolt.search.chains`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from bolt import dims as D
from bolt.chain import MOST_LINKS, Chain, Link, capacities
from bolt.graph.links import Images, Part, links, part
from bolt.ops.conv import ConvSpec
from bolt.ops.pointwise import FillSpec
from bolt.ops.spec import Spec
from bolt.program import AnyStep, Program, Step, View

SHARE = 0.6
"""Of the L2 cache, what the kept rows and the weights of a chain may take."""
WORTH = 0.12
"""Share of the L2 cache from which on an image is worth keeping in a chain."""
LONGEST = 6
"""Most links of a chain."""
MOST_STEPS = 40
"""Longest row of steps that is looked at as a whole."""
NEAR = 1 / 3
"""Cost of a byte that is read or written in the L2 cache, relative to one outside."""
CALL_BYTES = 30_000
"""What calling a kernel once more costs, in bytes moved outside the L2 cache."""
FLOPS_PER_BYTE = 3.0
"""Operations done in the time that a byte outside the L2 cache takes."""
HEIGHTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a program runs: a core's cache, the threads, and typical values of the symbols."""

    l2_bytes: int
    threads: int = 1
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """A chain, and the indices of the steps it replaces; it takes the place of the last of them."""

    chain: Chain
    steps: frozenset[int]


def find(program: Program, l2_bytes: int, threads: int, sizes: Mapping[str, int]) -> tuple[Found, ...]:
    """The chains of `program` that are likely to pay, in the order they run in; no two share a step.

    Args:
        l2_bytes: cache of a core.
        threads: that run it.
        sizes: typical values of the symbols.
    """
    finder = _Finder(program, Setting(l2_bytes, threads, sizes))
    return tuple(sorted(finder.chains(), key=lambda found: max(found.steps)))


def apply(program: Program, chains: Sequence[Found]) -> Program:
    """`program` with `chains` in place of their steps."""
    at = {max(found.steps): found.chain for found in chains}
    dropped = frozenset[int]().union(*(found.steps for found in chains))
    steps: list[AnyStep] = []
    for index, step in enumerate(program.steps):
        if index in at:
            steps.append(at[index])
        elif index not in dropped:
            steps.append(step)
    return replace(program, steps=tuple(steps))


class _Finder:
    """The readers and writers of every buffer of a program."""

    def __init__(self, program: Program, setting: Setting) -> None:
        self.program = program
        self.setting = setting
        self.writers: dict[str, list[int]] = {}
        self.readers: dict[str, list[int]] = {}
        self.fills: dict[str, list[int]] = {}
        for index, step in enumerate(program.steps):
            views = step.views if isinstance(step, Step) else ()
            for i, view in enumerate(views):
                is_fill = isinstance(step, Step) and isinstance(step.spec, FillSpec)
                users = self.readers if i else self.fills if is_fill else self.writers
                users.setdefault(view.buffer.name, []).append(index)

    def chains(self) -> Iterator[Found]:
        for run in self._runs():
            for parts, chain in self._cut(run):
                names = [link.step.views[0].buffer.name for link in chain.links[:-1]]
                clears = [i for name in names for i in self.fills.get(name, ())]
                yield Found(chain, frozenset([p.index for p in parts] + clears))

    def _runs(self) -> Iterator[list[Part]]:
        """Longest rows of steps each of which alone reads what the one before writes, where that pays."""
        taken: set[int] = set()
        for index, step in enumerate(self.program.steps):
            first = None if index in taken else part(index, step)
            if first is None:
                continue
            run = [first]
            while len(run) < MOST_STEPS and (following := self._next(run[-1])) is not None:
                run.append(following)
            taken |= {p.index for p in run}
            if len(run) > 1:
                yield run

    def _next(self, writer: Part) -> Part | None:
        """The only reader of what `writer` writes, if the image can stay inside a chain of the two."""
        view = writer.step.views[0]
        name = view.buffer.name
        readers = self.readers.get(name, [])
        if view.buffer.kind != "temp" or self.writers[name] != [writer.index] or len(readers) != 1:
            return None
        reader = part(readers[0], self.program.steps[readers[0]])
        if reader is None or reader.step.views[1].buffer.name != name or not self._is_large(view):
            return None
        return reader if D.equal(view.offset, reader.step.views[1].offset) else None

    def _is_large(self, view: View) -> bool:
        elements = D.evaluate(D.prod(view.dims), self.setting.sizes)
        return elements * view.dtype.size_bytes > WORTH * self.setting.l2_bytes

    def _cut(self, run: Sequence[Part]) -> list[tuple[Sequence[Part], Chain]]:
        """The cut of `run` into chains and single steps that saves most."""
        best: list[tuple[float, list[tuple[Sequence[Part], Chain]]]] = [(0.0, [])]
        for end in range(1, len(run) + 1):
            found = best[end - 1]
            for start in range(end - 2, max(-1, end - 1 - min(LONGEST, MOST_LINKS)), -1):
                chain = self._chain(run[start:end])
                saved = best[start][0] + (saved_bytes(chain, self.setting) if chain else 0.0)
                if chain is not None and saved > found[0]:
                    found = saved, [*best[start][1], (run[start:end], chain)]
            best.append(found)
        return best[-1][1]

    def _chain(self, parts: Sequence[Part]) -> Chain | None:
        """The chain of `parts` with the tallest strips that fit the cache."""
        linked = links(parts)
        if linked is None:
            return None
        last, found = linked
        height = _height(found, last, SHARE * self.setting.l2_bytes - weight_bytes(found))
        return None if height is None else Chain(links=found, images=last.count, strip=height)


def _height(chain: Sequence[Link], last: Images, room: float) -> int | None:
    """The tallest strips with which `chain` touches no more than `room` bytes."""
    tile = max(_tile_rows(link.spec) for link in chain)
    heights = sorted({*(h for h in HEIGHTS if h < last.rows and h % tile == 0), last.rows})
    fitting = [h for h in heights if _touched(chain, h) <= room]
    return fitting[-1] if fitting else None


def _tile_rows(spec: Spec) -> int:
    """Rows that the best kernels compute together: Winograd's work on tiles."""
    tiled = isinstance(spec, ConvSpec) and not spec.is_depthwise and spec.kernel == (3, 3)
    return 4 if tiled and isinstance(spec, ConvSpec) and spec.stride == spec.dilation == (1, 1) else 1


def _touched(chain: Sequence[Link], height: int) -> int:
    """Bytes a strip touches: the kept rows, and what the first and last link read and write in memory."""
    rows = capacities([link.window for link in chain], height)
    kept = sum(r * _row_bytes(link) for r, link in zip(rows, chain, strict=True) if link.kept)
    first, last = chain[0], chain[-1]
    taken = (rows[0] - 1) * first.window.stride + first.window.extent
    size = first.step.views[1].dtype.size_bytes
    return kept + taken * first.moves[1][1] * size + height * _row_bytes(last)


def _row_bytes(link: Link) -> int:
    return link.moves[0][1] * link.step.views[0].dtype.size_bytes


def weight_bytes(chain: Sequence[Link]) -> int:
    """Bytes of the constants that its kernels read."""
    sizes = [(a.size, link.spec.operands[i].dtype) for link in chain for i, a in link.step.constants.items()]
    return sum(size * dtype.size_bytes for size, dtype in sizes)


def saved_bytes(chain: Chain, setting: Setting) -> float:
    """How much less a chain costs than its steps one by one, in bytes moved; a rough estimate."""
    images = D.evaluate(chain.images, setting.sizes)
    strips = -(-chain.links[-1].rows // chain.strip)
    if strips * images * setting.threads == 1:
        return 0.0  # nothing is cut
    saved = 0.0
    for link, reader in pairwise(chain.links):
        again = max(0, reader.window.extent - reader.window.stride)
        saved += 2 * _row_bytes(link) * (link.rows - NEAR * again * strips)
    cost = NEAR * weight_bytes(chain.links) + CALL_BYTES * len(chain.links)
    return images * (saved - strips * cost) - _extra_flops(chain, images, setting) / FLOPS_PER_BYTE


def _extra_flops(chain: Chain, images: int, setting: Setting) -> float:
    """What sharing rows between threads adds: uneven shares, and rows that two threads need."""
    if setting.threads == 1:
        return 0.0
    share = -(-images * chain.links[-1].rows // setting.threads)
    needed, extra = capacities([link.window for link in chain.links], share), 0.0
    for link, rows in zip(chain.links, needed, strict=True):
        flops = link.step.bound(setting.sizes).flops()
        extra += flops * max(0.0, rows * setting.threads / (images * link.rows) - 1)
    return extra
