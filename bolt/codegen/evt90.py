"""Epilogue -> epilogue visitor tree of CUTLASS 3.x (Hopper and later).

The whole expression is one n-ary compute node, as in `bolt.codegen.evt`, whose functor it shares. Its
children are the accumulator and one loader per epilogue input, chosen by the input's strides:

    source  the tensor C of the kernel, prefetched by TMA (one at most; the builder has one slot)
    row     one value per output column, staged through shared memory
    column  one value per output row
    scalar  one value per batch
    tensor  anything else, read from global memory by the threads that need it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.codegen import evt
from bolt.codegen.evt import functor
from bolt.epilogue import Epilogue
from bolt.types import EIGHT_BIT_FLOATS, DType

ELEMENTS = evt.ELEMENTS | {d: d.cutlass for d in EIGHT_BIT_FLOATS}
"""How CUTLASS spells what a visitor can load."""

STORABLE = (*evt.STORABLE, *EIGHT_BIT_FLOATS)
"""What it rounds results to; Hopper has instructions for all of them."""

TYPES = evt.Types(loaded=frozenset(ELEMENTS), stored=STORABLE)

FUNCTOR = "Finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How the tree reads one epilogue input.

    Attributes:
        kind: see the module's docstring.
        dtype: element type in memory.
        stride: C++ type of its stride over (rows, columns, batch).
        strides: C++ expression of that type, from `BoltExtra& x`.
    """

    kind: str
    dtype: DType
    stride: str
    strides: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """An epilogue as C++.

    Attributes:
        functor: definition of the class template the compute node applies.
        types: declarations that end in the tree's type, `Fusion`.
        arguments: initializer list of `Fusion::Arguments`, from `g.extras`.
        source: index of the epilogue input that is the kernel's C, or -1.
    """

    functor: str
    types: tuple[str, ...]
    arguments: str
    source: int


def tree(epilogue: Epilogue, loaders: Sequence[Loader], out: DType) -> Tree:
    """The visitor tree of `epilogue`, whose inputs `loaders` read, stored as `out`.

    The types it names in its surroundings are `CtaTileShape` and `ElementD`.
    """
    names = [f"In{i}" for i in range(len(loaders))]
    types = [f"using {name} = {_node(loader)};" for name, loader in zip(names, loaders, strict=True)]
    children = ", ".join(("cutlass::epilogue::fusion::Sm90AccFetch", *names))
    compute = f"Sm90Compute<{FUNCTOR}, ElementD, float, cutlass::FloatRoundStyle::round_to_nearest>"
    types += [
        f"using Compute = cutlass::epilogue::fusion::{compute};",
        f"using Fusion = cutlass::epilogue::fusion::Sm90EVT<Compute, {children}>;",
    ]
    values = [_arguments(i, loader) for i, loader in enumerate(loaders)]
    kinds = [loader.kind for loader in loaders]
    assert kinds.count("source") <= 1
    return Tree(
        functor=functor(epilogue, name=FUNCTOR, inputs=len(loaders), out=out),
        types=tuple(types),
        arguments=", ".join(("{}", *values, "{}")),
        source=kinds.index("source") if "source" in kinds else -1,
    )


_BROADCASTS = {
    "row": "Sm90RowBroadcast<0, CtaTileShape, {element}, float, {stride}, 1, false>",
    "column": "Sm90ColBroadcast<0, CtaTileShape, {element}, float, {stride}, 1, false>",
    "scalar": "Sm90ScalarBroadcast<{element}, {stride}>",
    "tensor": "Sm90AuxLoad<0, void, {element}, {stride}, void, void, 1, false>",
    "source": "Sm90SrcFetch<{element}>",
}


def _node(loader: Loader) -> str:
    text = _BROADCASTS[loader.kind].format(element=ELEMENTS[loader.dtype], stride=loader.stride)
    return f"cutlass::epilogue::fusion::{text}"


def _arguments(index: int, loader: Loader) -> str:
    if loader.kind == "source":
        return "{}"
    element = ELEMENTS[loader.dtype]
    pointer = f"static_cast<const {element}*>(g.extras[{index}].data)"
    strides = loader.strides.replace("x.", f"g.extras[{index}].")
    if loader.kind == "scalar":
        return f"{{{{{element}(0)}}, {{{pointer}}}, {{{strides}}}}}"
    return f"{{{pointer}, {element}(0), {strides}}}"
