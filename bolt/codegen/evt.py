"""Epilogue -> CUTLASS epilogue visitor tree (EVT), for kernels of CUTLASS 2.x.

The tree has one n-ary compute node, whose functor applies the whole expression to each element, so any DAG of
`bolt.epilogue` is one node:

    store(compute(accumulator, in0, in1, ...))

CUTLASS's Python front end could trace such trees, but it knows neither compute capability 7.5 nor most of our
operations, writes no host arguments, and does not load beside cuda-python 13; so the tree is rendered here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.codegen.cxx import f32
from bolt.codegen.simd import emit
from bolt.epilogue import Epilogue
from bolt.ops.spec import Operand
from bolt.report import Rejection
from bolt.types import BF16, BOOL, F16, F32, LARGEST, S8, S32, STORED, U8, DType

ELEMENTS = {F32: "float", F16: "cutlass::half_t", BF16: "cutlass::bfloat16_t"}
ELEMENTS |= {S32: "int32_t", S8: "int8_t", U8: "uint8_t", BOOL: "uint8_t"}
"""How CUTLASS spells what a visitor can load. Memory of a bool holds 0 or 1."""

STORABLE = (F32, F16, BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """What a visitor tree can read and write.

    Attributes:
        loaded: of its inputs.
        stored: of its output.
    """

    loaded: frozenset[DType]
    stored: tuple[DType, ...]


TYPES = Types(loaded=frozenset(ELEMENTS), stored=STORABLE)
MAX_EXTRAS = 8
"""BOLT_MAX_EXTRAS of bolt/cuda/launch.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An epilogue input, as far as the code depends on it.

    Attributes:
        kind: "scalar", "row" (one value per column), "column" (one value per row) or "full".
        dtype: of the elements in memory.
    """

    kind: str
    dtype: DType


KINDS = {(False, False): "scalar", (False, True): "row", (True, False): "column", (True, True): "full"}


def extra_of(operand: Operand) -> Extra:
    """What kind of input an operand with dims (..., m, n) is. A stride known at run time only is a step."""
    down, right = operand.strides[-2:]
    return Extra(kind=KINDS[down != 0, right != 0], dtype=operand.dtype)


def obstacle(extras: Sequence[Operand], out: DType, subject: str, types: Types = TYPES) -> Rejection | None:
    """Why these inputs and this output can't be part of a visitor tree of such types, or None."""
    for index, operand in enumerate(extras):
        reason = None
        if operand.dtype not in types.loaded:
            reason = f"epilogue input {index} is {operand.dtype}"
        elif operand.strides[-1] not in (0, 1):
            reason = f"epilogue input {index} has stride {operand.strides[-1]} along columns, not 0 or 1"
        if reason is not None:
            return Rejection(stage="supports", subject=subject, reason=reason)
    if len(extras) > MAX_EXTRAS:
        reason = f"{len(extras)} epilogue inputs, at most {MAX_EXTRAS} can be passed"
        return Rejection(stage="supports", subject=subject, reason=reason)
    if out not in types.stored:
        reason = f"stores {', '.join(d.name for d in types.stored)}, not {out}"
        return Rejection(stage="supports", subject=subject, reason=reason)
    return None


def stored(value: str, dtype: DType) -> str:
    """C++ that makes a float ready to be rounded to `dtype`: finite values stay finite.

    The conversion to 8-bit floats saturates by itself.
    """
    if dtype not in STORED:
        return value
    largest = f32(LARGEST[dtype])
    return f"vselect(vabs({value}) < __builtin_inff(), vclip({value}, -{largest}, {largest}), {value})"


def functor(epilogue: Epilogue, *, name: str, inputs: int, out: DType) -> str:
    """A C++ class template: the expression over a float, and over `cutlass::Array<float, N>`.

    `NAME<T>()(acc, in0, in1, ...)` takes `inputs` epilogue inputs; the result is ready to be converted to
    `out`. The text needs bolt/cuda/vmath.h and cutlass/array.h, and is to stand in a namespace.
    """
    names = ["acc", *(f"in{i}" for i in range(inputs))]
    lines, result = emit(epilogue, acc="acc", load=lambda i: f"in{i}")
    scalars = ", ".join(f"float {n}" for n in names)
    arrays = ", ".join(f"Values const& {n}" for n in names)
    elements = ", ".join(f"{n}[i]" for n in names)
    body = "\n".join(f"    {line}" for line in [*lines, f"const vf result = {result};"])
    return f"""\
template <class T>
struct {name};

template <>
struct {name}<float> {{
  CUTLASS_HOST_DEVICE float operator()({scalars}) const {{
{body}
    return {stored("result", out)};
  }}
}};

template <int N>
struct {name}<cutlass::Array<float, N>> {{
  typedef cutlass::Array<float, N> Values;

  CUTLASS_HOST_DEVICE Values operator()({arrays}) const {{
    Values result;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) result[i] = {name}<float>()({elements});
    return result;
  }}
}};
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A rendered visitor tree.

    Attributes:
        functor: the class template its compute node applies.
        types: `using` declarations; `Tree` is the root. To be declared before: `Map` (the thread layout),
            `NEAREST` (the rounding), and the namespace `fusion` (cutlass::epilogue::threadblock).
        arguments: C++ statements that define `tree`, of type `Tree::Arguments`, for the `BoltExtra`s of `g`.
    """

    functor: str
    types: tuple[str, ...]
    arguments: tuple[str, ...]


_STRIDES = {
    "row": "cute::Stride<cute::_0, cute::_1, int64_t>",
    "column": "cute::Stride<int64_t, cute::_0, int64_t>",
    "full": "cute::Stride<int64_t, cute::_1, int64_t>",
}
_STEPS = {
    "row": "{{cute::_0{{}}, cute::_1{{}}, {e}.strides[0]}}",
    "column": "{{{e}.strides[1], cute::_0{{}}, {e}.strides[0]}}",
    "full": "{{{e}.strides[1], cute::_1{{}}, {e}.strides[0]}}",
}
_VISITORS = {
    "row": "VisitorRowBroadcast<Map, {t}, {s}, false>",
    "column": "VisitorColBroadcast<Map, {t}, {s}, false>",
    "full": "VisitorAuxLoad<Map, {t}, {s}>",
}


def _node(extra: Extra) -> str:
    """C++ type of the visitor that loads an input."""
    element = ELEMENTS[extra.dtype]
    if extra.kind == "scalar":
        return f"fusion::VisitorScalarBroadcast<{element}, cute::Stride<cute::_0, cute::_0, int>>"
    return "fusion::" + _VISITORS[extra.kind].format(t=element, s=_STRIDES[extra.kind])


def _arguments(extra: Extra, index: int) -> str:
    """The statement that defines host arguments of that visitor, `in0` and so on."""
    entry, element = f"g.extras[{index}]", ELEMENTS[extra.dtype]
    if extra.kind == "scalar":
        step = f"{{cute::_0{{}}, cute::_0{{}}, (int){entry}.strides[0]}}"
        scalar = f"{{({element} const*){entry}.data}}"
        return f"const typename In{index}::Arguments in{index}{{{{}}, {scalar}, {step}}};"
    steps = _STEPS[extra.kind].format(e=entry)
    return (
        f"const typename In{index}::Arguments in{index}{{({element}*){entry}.data, {element}(0), {steps}}};"
    )


def tree(
    epilogue: Epilogue,
    extras: Sequence[Extra],
    out: DType,
    *,
    d: str,
    row: str,
    batch: str,
    name: str = "Finish",
) -> Tree:
    """The visitor tree of an expression.

    Args:
        epilogue: the expression.
        extras: its inputs.
        out: type of what is stored.
        d: C++ expression of the output's address.
        row: C++ expression of the step between rows of the output.
        batch: the same between batches.
        name: of the functor.
    """
    element, stride = ELEMENTS[out], _STRIDES["full"]
    loads = [f"using In{i} = {_node(e)};" for i, e in enumerate(extras)]
    children = ", ".join(["Accumulator", *(f"In{i}" for i in range(len(extras)))])
    types = (
        "using Accumulator = fusion::VisitorAccFetch;",
        *loads,
        f"using Apply = fusion::VisitorCompute<{name}, float, float, NEAREST>;",
        f"using Value = fusion::Sm80EVT<Apply, {children}>;",
        f"using Store = fusion::VisitorAuxStore<Map, {element}, NEAREST, {stride}>;",
        "using Tree = fusion::Sm80EVT<Store, Value>;",
    )
    names = [f"in{i}" for i in range(len(extras))]
    value = ", ".join(["typename Accumulator::Arguments{}", *names, "typename Apply::Arguments{}"])
    arguments = (
        *(_arguments(e, i) for i, e in enumerate(extras)),
        f"const typename Store::Arguments store{{({element}*){d}, {{{row}, cute::_1{{}}, {batch}}}}};",
        f"const typename Tree::Arguments tree{{typename Value::Arguments{{{value}}}, store}};",
    )
    return Tree(
        functor=functor(epilogue, name=name, inputs=len(extras), out=out), types=types, arguments=arguments
    )
