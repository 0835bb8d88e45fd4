"""Matrix instructions of a warp: PTX ISA 9.0, 9.7.14. See `emitters.py`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuda.emitters import ELEMENTS, Emitter, line, only
from cuda.ptx import Instruction, PtxError, split, type_bytes

if TYPE_CHECKING:
    from cuda.translate import Body


def _fragment(body: Body, i: Instruction, operand: str) -> list[str]:
    parts = split(operand[1:-1]) if operand.startswith("{") else [operand]
    out = []
    for part in parts:
        found = body.register(part, i.scope)
        kind = found[1] if found else "b32"
        size = type_bytes(kind)
        value = body.read(part, f"b{8 * size}", i.scope)
        out += [value] if size == 4 else [f"uint32_t({value})", f"uint32_t({value} >> 32)"]
    return out


def _store_fragment(body: Body, i: Instruction, operand: str, array: str) -> str:
    parts = split(operand[1:-1]) if operand.startswith("{") else [operand]
    out, at = [], 0
    for part in parts:
        found = body.register(part, i.scope)
        assert found, part
        if type_bytes(found[1]) == 8:
            value = f"(uint64_t({array}[{at}]) | uint64_t({array}[{at + 1}]) << 32)"
            out.append(body.write(part, "b64", value, i.scope))
            at += 2
        else:
            out.append(body.write(part, "b32", f"{array}[{at}]", i.scope))
            at += 1
    return " ".join(out)


def _mma(body: Body, i: Instruction) -> str:
    """mma.sync (9.7.14.5)."""
    shape = next(found for p in i.parts if (found := re.fullmatch(r"m(\d+)n(\d+)k(\d+)", p)))
    if "row" not in i.parts or "col" not in i.parts:
        raise PtxError("layouts other than row.col")
    of_d, of_a, of_b, of_c = (ELEMENTS[p] for p in i.parts if p in ELEMENTS)
    only(i, "sync", "aligned", "row", "col", "satfinite", shape[0], *ELEMENTS)
    a, b, c = (_fragment(body, i, o) for o in i.operands[1:4])
    x = body.temporary()
    arrays = ", ".join(f"{x}{n}[] = {{{', '.join(v)}}}" for n, v in zip("abc", (a, b, c), strict=True))
    saturates = str("satfinite" in i.parts).lower()
    return (
        f"{{ {line(i)}uint32_t {arrays}, {x}d[8]; mma(t, {', '.join(shape.groups())}, {of_a}, {of_b}, "
        f"{of_c}, {of_d}, {saturates}, {x}a, {x}b, {x}c, {x}d); "
        f"{_store_fragment(body, i, i.operands[0], x + 'd')} }}"
    )


def _ldmatrix(body: Body, i: Instruction) -> str:
    count = next(int(p[1:]) for p in i.parts if p in ("x1", "x2", "x4"))
    if "m8n8" not in i.parts or "b16" not in i.parts:
        raise PtxError(f"no emitter for {i.opcode!r}")
    address, _ = body.address(i.operands[1], i.scope)
    x = body.temporary()
    flag = str("trans" in i.parts).lower()
    return (
        f"{{ {line(i)}uint32_t {x}[4]; ldmatrix(t, uint32_t({address}), {count}, {flag}, {x}); "
        f"{_store_fragment(body, i, i.operands[0], x)} }}"
    )


def _stmatrix(body: Body, i: Instruction) -> str:
    count = next(int(p[1:]) for p in i.parts if p in ("x1", "x2", "x4"))
    if "m8n8" not in i.parts or "b16" not in i.parts:
        raise PtxError(f"no emitter for {i.opcode!r}")
    address, _ = body.address(i.operands[0], i.scope)
    x = body.temporary()
    flag = str("trans" in i.parts).lower()
    values = ", ".join(_fragment(body, i, i.operands[1]))
    store = f"stmatrix(t, uint32_t({address}), {count}, {flag}, {x});"
    return f"{{ {line(i)}uint32_t {x}[] = {{{values}}}; {store} }}"


def _movmatrix(body: Body, i: Instruction) -> str:
    value = body.read(i.operands[1], "b32", i.scope)
    return line(i) + body.write(i.operands[0], "b32", f"movmatrix(t, {value})", i.scope)


EMITTERS: dict[str, Emitter] = {
    "mma": _mma,
    "ldmatrix": _ldmatrix,
    "stmatrix": _stmatrix,
    "movmatrix": _movmatrix,
}
