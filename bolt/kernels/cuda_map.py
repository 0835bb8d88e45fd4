"""What hand-written CUDA kernels share: how rows are cut into packs of elements, and text for templates.

A row is an innermost loop; a thread takes `width` neighbouring elements of one, with loads and stores of up
to 16 bytes where strides and addresses allow. What is not known when the kernel is rendered (run-time
strides, unstated alignments, sizes) the launcher tests, and picks the kernel that fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bolt.codegen.simd import emit
from bolt.kernels.family import Config, Source, argument_names
from bolt.kernels.finish import epilogue_cost
from bolt.kernels.loops import Loop
from bolt.kernels.plain import PlainFamily
from bolt.kernels.rows import product
from bolt.ops.spec import Operand, Spec
from bolt.target import Target

LAUNCH_US = 3.0
"""What a kernel costs besides its memory traffic."""
INDEX_LIMIT = 1 << 30
"""Views that span fewer elements are indexed with 32 bits (BOLT_INDEX_LIMIT of bolt/cuda/grid.h)."""
VECTOR_BYTES = 16
"""The widest load and store."""
BLOCK = 256
_WIDEST = 8
_HEAVY = 60.0
"""Epilogue cost from which on a thread takes fewer elements: code size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packs:
    """How a thread takes elements.

    Attributes:
        width: neighbouring elements at a time, where memory allows.
        block: threads of a block.
    """

    width: int
    block: int = BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How rows of an operand lie in memory.

    Attributes:
        operand: its index.
        steps: strides that lead from row to row: C++ text, and value where it is static.
        inner: stride along the row where it is static.
        inner_text: the same as C++ text.
        offset: C++ text of the row's first element.
    """

    operand: int
    steps: tuple[tuple[str, int | None], ...]
    inner: int | None
    inner_text: str
    offset: str = "0"

    @property
    def moves(self) -> bool:
        """Whether elements along the row differ."""
        return self.inner != 0

    def at(self, index: str) -> str:
        """C++ offset of element `index` of the row."""
        return sum_of((self.offset, product(index, self.inner_text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """What a launcher finds out about its arguments.

    Attributes:
        name: of the C++ variable.
        text: its C++ value.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One kernel a launcher chooses from.

    Attributes:
        test: `if (...) ` in front of its launch, or "".
        arguments: the template arguments.
    """

    test: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How a launcher picks a kernel, for `cuda_launcher.jinja`.

    Attributes:
        tests: what it finds out first.
        ways: the kernels, best first; the last one takes whatever comes.
    """

    tests: tuple[Test, ...]
    ways: tuple[Way, ...]


class CudaFamily(PlainFamily):
    """Base of families whose kernels stand alone: launcher and device code in one source."""

    language = "cuda"

    def units(self, spec: Spec, config: Config, target: Target) -> tuple[Source, ...]:
        return ()

    def estimate(self, spec: Spec, config: Config, target: Target) -> float:
        """Microseconds: the bytes that have to move, and a launch."""
        return traffic_us(spec, target)


def size_bytes(operand: Operand) -> int:
    """Bytes of all elements; run-time dims count as 1."""
    return operand.dtype.size_bytes * math.prod(d or 1 for d in operand.dims)


def unsupported(spec: Spec) -> str | None:
    """Why the output and the epilogue inputs of `spec` can't be walked together, or None when they can."""
    if spec.constants:
        return "constants are operands like any other here: nothing to pack"
    if not spec.out.dims:
        return "rank 0: use rank 1"
    if any(len(o.dims) != len(spec.out.dims) for o in spec.extras):
        return "an epilogue input's rank is not the output's (broadcasts are strides of 0)"
    if spec.epilogue.inputs > len(spec.extras):
        return "the expression reads an input the spec does not have"
    return None


def traffic_us(spec: Spec, target: Target) -> float:
    """Microseconds of moving every operand once; run-time dims count as 1."""
    assert target.gpu is not None
    return LAUNCH_US + spec.bytes() / target.gpu.bandwidth * 1e6


def pack_configs(widest: int) -> tuple[Packs, ...]:
    """The widest pack and what is worth trying beside it."""
    narrow = (Packs(width=widest // 2),) if widest > 1 else ()
    return (Packs(width=widest), *narrow, Packs(width=widest, block=128))


def narrowing(config: Packs, widest: int) -> float:
    """How much longer memory traffic takes with less than the widest packs."""
    return 1.0 + 0.05 * (widest // config.width - 1) + (0.02 if config.block != BLOCK else 0.0)


def loop_views(loops: Sequence[Loop], operands: Sequence[int]) -> tuple[View, ...]:
    """The rows of operands that move with `loops`; the last loop runs along the row."""
    return tuple(
        View(
            operand=operand,
            steps=tuple((loop.strides[n], loop.steps[n]) for loop in loops[:-1] if loop.length != 1),
            inner=0 if loops[-1].length == 1 else loops[-1].steps[n],
            inner_text="0" if loops[-1].length == 1 else loops[-1].strides[n],
            offset=offset_text(loops[:-1], n),
        )
        for n, operand in enumerate(operands)
    )


def offset_text(loops: Sequence[Loop], operand: int) -> str:
    """C++ offset of the row at `at0`, `at1`, ...; `operand` counts those the loops have strides of."""
    return sum_of(product(f"at{axis}", loop.strides[operand]) for axis, loop in enumerate(loops))


def sum_of(terms: Iterable[str]) -> str:
    """C++ sum without the terms that are 0."""
    return " + ".join(t for t in terms if t != "0") or "0"


def unravel(loops: Sequence[Loop]) -> list[str]:
    """C++ statements that turn `row` into `at0`, `at1`, ... over `loops`, outermost first."""
    lines: list[str] = []
    left = "row"
    for axis in range(len(loops) - 1, 0, -1):
        lines.append(f"const Index left{axis} = quotient<Index>({left}, {loops[axis].dim});")
        lines.append(f"[[maybe_unused]] const Index at{axis} = {left} - left{axis} * {loops[axis].dim};")
        left = f"left{axis}"
    if loops:
        lines.append(f"[[maybe_unused]] const Index at0 = {left};")
    return lines


def row_count(loops: Sequence[Loop]) -> str:
    """C++ text of how many rows there are."""
    text = product(*(loop.dim for loop in loops))
    return text if text.isdigit() else f"({text})"


def widest_pack(spec: Spec, views: Iterable[View], inner: int | None) -> int:
    """The largest number of elements a thread can take at a time; `inner` is the row's length if static."""
    views = tuple(views)
    sizes = [spec.operands[v.operand].dtype.size_bytes for v in views if v.moves]
    width = min(_WIDEST, VECTOR_BYTES // min([s for s in sizes if s > 1], default=2))
    if epilogue_cost(spec.epilogue) >= _HEAVY:
        width = min(width, 4)
    while width > 1 and (
        (inner is not None and inner < width) or any(_needs(spec, view, width) is None for view in views)
    ):
        width //= 2
    return width


def _needs(spec: Spec, view: View, width: int) -> list[str] | None:
    """C++ conditions for packs of `width` elements, or None when they can't be."""
    operand = spec.operands[view.operand]
    size = operand.dtype.size_bytes
    pack = min(VECTOR_BYTES, width * size)
    if not view.moves or width == 1:
        return []
    if view.inner != 1 or any(value is not None and value * size % pack for _, value in view.steps):
        return None
    tests = [f"{text} * {size} % {pack} == 0" for text, value in view.steps if value is None]
    if operand.alignment < pack:
        tests.append(f"is_aligned(p[{view.operand}], {pack})")
    return tests


def _spans(spec: Spec) -> list[str] | None:
    """C++ conditions for indexing with 32 bits, or None when that is too few."""
    tests = []
    for operand, name in zip(spec.operands, argument_names(spec), strict=True):
        if None in operand.dims or None in operand.strides:
            dims, strides = ", ".join(name["dims"]), ", ".join(name["strides"])
            tests.append(f"span_of({{{dims}}}, {{{strides}}}) < BOLT_INDEX_LIMIT")
        elif _span(operand) >= INDEX_LIMIT:
            return None
    return tests


def _span(operand: Operand) -> int:
    pairs = zip(operand.dims, operand.strides, strict=True)
    return 1 + sum(((d or 1) - 1) * abs(s or 0) for d, s in pairs)


Variants = Callable[[int], Sequence[tuple[str, str]]]
"""Width of the packs -> (C++ condition or "", template arguments) to choose from; the last has none."""


def width_alone(width: int) -> Sequence[tuple[str, str]]:
    """The packs are all there is to choose."""
    return [("", str(width))]


def choice_of(
    spec: Spec, views: Iterable[View] = (), width: int = 1, variants: Variants = width_alone
) -> Choice:
    """What the launcher tests, and the kernels by index type, packs and whatever else there is to choose.

    Args:
        spec: the kernel's spec.
        views: rows that are loaded and stored in packs.
        width: of the packs.
        variants: template arguments after the index type.
    """
    spans = _spans(spec)
    packs = list(dict.fromkeys(test for view in views for test in _needs(spec, view, width) or ()))
    fits = ["fits"] if spans else []
    packed = ["packed"] if packs else []
    index = "int64_t" if spans is None else "int32_t"
    kernels = [(index, width, fits + packed), (index, 1, fits), ("int64_t", 1, [])]
    ways: list[Way] = []
    for index, taken, tests in kernels:
        general = index == "int64_t" and spans is not None  # rare: one kernel will do
        for test, arguments in list(variants(taken))[-1 if general else 0 :]:
            every = [*tests, *([test] if test else [])]
            condition = f"if ({' && '.join(every)}) " if every else ""
            way = Way(test=condition, arguments=", ".join(filter(None, (index, arguments))))
            if all(way.arguments != earlier.arguments for earlier in ways):
                ways.append(way)
            if not every:
                found = (("fits", spans or []), ("packed", packs))
                return Choice(tests=tuple(_test(n, t) for n, t in found if t), ways=tuple(ways))
    raise AssertionError("the last kernel has a condition")


def _test(name: str, conditions: Sequence[str]) -> Test:
    return Test(name=name, text=" &&\n      ".join(conditions))


def finish_context(
    spec: Spec, views: Sequence[View], *, index: str = "i", acc: str = "acc[e]"
) -> dict[str, Any]:
    """What `cuda_finish.jinja` and the calls of its function need.

    Args:
        spec: the kernel's spec.
        views: of the output and the epilogue inputs, in this order.
        index: C++ text of the first element's place in the row.
        acc: C++ expression of element `e` of the accumulator.
    """
    inputs = [
        {"index": v.operand, "type": spec.operands[v.operand].dtype.cxx, "moves": v.moves} for v in views[1:]
    ]
    loads = [f"in{x['index']}[e]" if x["moves"] else f"in{x['index']}" for x in inputs]
    statements, result = emit(spec.epilogue, acc=acc, load=loads.__getitem__)
    return {
        "out": spec.out.dtype.cxx,
        "inputs": inputs,
        "statements": statements,
        "result": result,
        "starts": "".join(f"{pointer(spec, v, index)},\n              " for v in views),
    }


def pointer(spec: Spec, view: View, index: str) -> str:
    """C++ pointer to element `index` of the row."""
    const = "const " if view.operand else ""
    start = f"({const}{spec.operands[view.operand].dtype.cxx}*)p[{view.operand}]"
    offset = view.at(index)
    return start if offset == "0" else f"{start} + {offset}"


def map_context(
    spec: Spec, name: str, loops: Sequence[Loop], *, config: Packs, views: Sequence[View]
) -> dict[str, Any]:
    """What `cuda_map.jinja` needs for a kernel that walks `loops`.

    Args:
        views: rows that are loaded and stored in packs.
    """
    return {
        "name": name,
        "block": config.block,
        "operands": len(spec.operands),
        "ints": len(spec.dynamic()),
        "inner": loops[-1].dim,
        "rows": row_count(loops[:-1]),
        "unravel": unravel(loops[:-1]),
        "choice": choice_of(spec, views, config.width),
    }
