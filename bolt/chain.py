"""Chains: steps that run together, a strip of rows at a time.

Every link of a chain makes an image that only the next one reads. Instead of whole images, each is computed a
few rows at a time, in the order in which the last one needs them, into a small buffer of the thread: what one
kernel writes is still in cache when the next reads it. The rows that two strips share are kept, not computed
again. Threads share the rows of the last image, so a value is also read by the core that made it.
`templates/include/bolt/chain.h` is what runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bolt import dims as D
from bolt.dims import Dim
from bolt.ops.spec import Spec
from bolt.program import AnyStep, Program, Step, View

MOST_LINKS, MOST_OPERANDS = 8, 16
"""What chain.h has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The rows of its input that a link reads: output row y reads [y * stride - before, ... + extent).

    Rows outside the input are the border.
    """

    stride: int = 1
    before: int = 0
    extent: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How the rows of an image that stays inside a chain lie in a thread's buffer, in elements.

    Attributes:
        pitch: between rows.
        lead: border left of a row's pixels; what is behind them up to `pitch` is border, too.
        width: of a row's pixels.
        border: value of every byte of the border.
        is_sparse: pixels have further channels, which are border.
    """

    pitch: int
    lead: int
    width: int
    border: int = 0
    is_sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A step of a chain.

    Attributes:
        step: the call for whole images.
        spec: of a strip: one image, any number of rows.
        rows: of one output image.
        input_rows: of one image of operand 1.
        window: which of them it reads.
        moves: for each operand, elements between images and between rows (of operand 1: between its rows).
        quantum: what a row counts as in the spec's run-time dims.
        kept: how the output lies; None for the last link's, which is written to memory.
    """

    step: Step
    spec: Spec
    rows: int
    input_rows: int
    window: Window
    moves: tuple[tuple[int, int], ...]
    quantum: int = 1
    kept: Kept | None = None

    def ints(self, rows: int, input_rows: int) -> tuple[int, ...]:
        """The kernel's `d` array for so many rows of output, and of input from the first one read on."""
        return tuple(
            (input_rows if slot.operand == 1 else rows) * self.quantum for slot in self.spec.dynamic()
        )

    def sample(self, rows: int) -> tuple[int, ...]:
        """`ints` of `rows` rows somewhere in an image: the input rows they read, borders aside."""
        borders = self.spec.halo().get(1, ((0, 0), (0, 0)))[1]
        return self.ints(rows, max(1, (rows - 1) * self.window.stride + self.window.extent - sum(borders)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Links that run strip by strip.

    Attributes:
        links: each reads what the one before writes, as operand 1.
        images: how many; may be known at run time only.
        strip: most rows of the last link's output that are computed at a time.
    """

    links: tuple[Link, ...]
    images: Dim
    strip: int

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the ONNX nodes it covers."""
        return tuple(n for link in self.links for n in link.step.nodes)

    @property
    def views(self) -> tuple[View, ...]:
        """What it reads and writes in memory."""
        found: list[View] = []
        for index, link in enumerate(self.links):
            inside = {0} if link.kept is not None else set()
            inside |= {1} if index else set()
            found += [v for i, v in enumerate(link.step.views) if i not in inside]
        return tuple(found)

    def capacities(self) -> tuple[int, ...]:
        """The most rows of each link's output that are needed at a time."""
        return capacities([link.window for link in self.links], self.strip)

    def offsets(self, alignment: int) -> tuple[int, ...]:
        """Bytes from the start of a thread's buffer to each image that is kept; last, the end of all."""
        at = [0]
        for link, rows in zip(self.links[:-1], self.capacities(), strict=False):
            assert link.kept is not None
            size = rows * link.kept.pitch * link.spec.out.dtype.size_bytes
            at.append(-(-(at[-1] + size) // alignment) * alignment)
        return tuple(at)

    def strip_rows(self) -> tuple[int, ...]:
        """Rows that each link computes for a strip inside an image."""
        rows = [self.strip]
        for link in reversed(self.links[1:]):
            rows.insert(0, min(rows[0] * link.window.stride, link.input_rows))
        return tuple(rows)


def capacities(windows: Sequence[Window], strip: int) -> tuple[int, ...]:
    """The most rows of each link's output that `strip` rows of the last one need."""
    rows = [strip]
    for window in reversed(windows[1:]):
        rows.insert(0, (rows[0] - 1) * window.stride + window.extent)
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel of a program as it is called: the step it is for, its spec and typical run-time dims."""

    step: Step
    spec: Spec
    ints: tuple[int, ...]


def calls(program: Program, sizes: Mapping[str, int]) -> list[Call]:
    """The kernels of every step, in order; a chain's once.

    Args:
        sizes: typical values of the symbols.
    """
    found: list[Call] = []
    for step in program.steps:
        if isinstance(step, Chain):
            strips = zip(step.links, step.strip_rows(), strict=True)
            found += [Call(link.step, link.spec, link.sample(rows)) for link, rows in strips]
        elif isinstance(step, Step):
            found.append(Call(step, step.spec, tuple(D.evaluate(i, sizes) for i in step.ints())))
    return found


def specs(step: AnyStep) -> tuple[Spec, ...]:
    """What the kernels of a step compute."""
    if isinstance(step, Chain):
        return tuple(link.spec for link in step.links)
    return (step.spec,) if isinstance(step, Step) else ()


def all_specs(program: Program) -> list[Spec]:
    """What every kernel of a program computes."""
    return [spec for step in program.steps for spec in specs(step)]
