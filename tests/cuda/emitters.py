"""What all emitters of instructions share: the parts of an opcode, its operands, its result.

An emitter prints one instruction as a C++ statement on the types of machine.h and arith.h. Source: PTX ISA
9.0, section 9; the modules name the subsections they print.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cuda.ptx import Instruction, PtxError

if TYPE_CHECKING:
    from cuda.translate import Body

Emitter = Callable[["Body", Instruction], str]

TYPES = frozenset(
    [f"{k}{n}" for k in "bus" for n in (8, 16, 32, 64)]
    + ["pred", "f16", "f16x2", "bf16", "bf16x2", "tf32", "f32", "f64", "b128"]
)
HALVES = {"f16": "F16", "bf16": "BF16", "f16x2": "F16", "bf16x2": "BF16"}
ROUNDS = {"rn": "kNearest", "rz": "kZero", "rm": "kDown_", "rp": "kUp_"}


def kinds(i: Instruction) -> list[str]:
    """The types an opcode names, in order."""
    return [p for p in i.parts[1:] if p in TYPES]


def only(i: Instruction, *allowed: str) -> None:
    """Refuses opcodes with parts this module does not know."""
    for part in i.parts[1:]:
        if part not in TYPES and part not in allowed:
            raise PtxError(f"unknown modifier .{part}")


def is_half(kind: str) -> bool:
    return kind in HALVES


def is_float(kind: str) -> bool:
    return kind in ("f32", "f64")


def flushed(i: Instruction, kind: str, value: str) -> str:
    return f"ftz({value})" if "ftz" in i.parts and kind == "f32" else value


def sources(body: Body, i: Instruction, kind: str, first: int = 1) -> list[str]:
    return [flushed(i, kind, body.read(o, kind, i.scope)) for o in i.operands[first:]]


def result(body: Body, i: Instruction, kind: str, value: str) -> str:
    """Stores a result, flushed and saturated as the opcode says."""
    if is_float(kind):
        value = flushed(i, kind, f"sat({value})" if "sat" in i.parts else value)
    return body.write(i.operands[0], kind, value, i.scope)


def rounding(i: Instruction) -> str:
    return next((ROUNDS[p] for p in i.parts if p in ROUNDS), "kNearest")


def half(i: Instruction, kind: str, values: Sequence[str], scalar: Callable[..., str]) -> str:
    """A half-precision result: `scalar` prints it for one uint16_t per operand; x2 types do it twice."""
    wrap = scalar
    if "sat" in i.parts:
        wrap = lambda *v: f"half_sat<{HALVES[kind]}>({scalar(*v)})"  # noqa: E731
    if "relu" in i.parts:
        wrap = lambda *v: f"relu<{HALVES[kind]}>({scalar(*v)})"  # noqa: E731
    if not kind.endswith("x2"):
        return f"uint16_t({wrap(*values)})"
    padded = [*values, "0u", "0u"][:3]
    names = ("a", "b", "c")
    return (
        f"pair({', '.join(padded)}, [&](uint16_t a, uint16_t b, uint16_t c) "
        f"{{ (void)b, (void)c; return uint16_t({wrap(*names[: len(values)])}); }})"
    )


ELEMENTS = {
    **{"f16": "kF16", "bf16": "kBF16", "tf32": "kTF32", "f32": "kF32", "f64": "kF64", "s32": "kS32"},
    **{"s8": "kS8", "u8": "kU8", "s4": "kS4", "u4": "kU4", "b1": "kB1", "e4m3": "kE4M3", "e5m2": "kE5M2"},
}
"""PTX's element types, as machine.h calls them."""


def line(i: Instruction) -> str:
    """Tells the machine where the thread is."""
    return f"t->line = {i.line}; "
