"""Loads, stores, atomics and copies: PTX ISA 9.0, 9.7.9 and 9.7.13. See `emitters.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cuda import hopper
from cuda.emitters import HALVES, Emitter, is_float, is_half, kinds, line
from cuda.ptx import Instruction, PtxError, c_type, split, type_bytes

if TYPE_CHECKING:
    from cuda.translate import Body


def _mov(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    out, source = i.operands
    if source.startswith("{"):
        return _packed(body, i, kind, split(source[1:-1]))
    if out.startswith("{"):
        return _unpacked(body, i, kind, split(out[1:-1]))
    return body.write(out, kind, body.read(source, kind, i.scope), i.scope)


def _packed(body: Body, i: Instruction, kind: str, parts: Sequence[str]) -> str:
    bits = 8 * type_bytes(kind) // len(parts)
    unsigned = "u128" if kind == "b128" else f"uint{8 * type_bytes(kind)}_t"
    terms = [f"{unsigned}({body.read(p, f'b{bits}', i.scope)}) << {n * bits}" for n, p in enumerate(parts)]
    return body.write(i.operands[0], kind, f"{unsigned}({' | '.join(terms)})", i.scope)


def _unpacked(body: Body, i: Instruction, kind: str, parts: Sequence[str]) -> str:
    bits = 8 * type_bytes(kind) // len(parts)
    x = body.temporary()
    stores = [
        body.write(p, f"b{bits}", f"uint{bits}_t({x} >> {n * bits})", i.scope)
        for n, p in enumerate(parts)
        if p != "_"
    ]
    return f"{{ auto {x} = {body.read(i.operands[1], kind, i.scope)}; {' '.join(stores)} }}"


_SPACES = (
    "global",
    "shared",
    "local",
    "param",
    "const",
    "shared::cta",
    "shared::cluster",
    "param::entry",
    "param::func",
)
_ORDERED = ("volatile", "acquire", "relaxed", "mmio")


def space_of(i: Instruction) -> str:
    found = next((p for p in i.parts if p in _SPACES), "")
    return found.split("::")[0]


def place(body: Body, i: Instruction, operand: str, size: str) -> str:
    """Host address of a memory operand, checked."""
    address, known = body.address(operand, i.scope)
    space = space_of(i) or ("" if known == "code" else known if operand_is_symbol(body, i, operand) else "")
    if space == "shared":
        return f"shared_at(t, uint32_t({address}), {size})"
    if space in ("local", "param", "const"):
        return f"(void*)uint64_t({address})"
    return f"global_at(t, {address}, {size})"


def operand_is_symbol(body: Body, i: Instruction, operand: str) -> bool:
    """Whether an address names a variable (its own space is then known)."""
    return body.address(operand, i.scope)[1] != ""


def _elements(i: Instruction, operand: str) -> list[str]:
    vector = operand.startswith("{")
    parts = split(operand[1:-1]) if vector else [operand]
    count = next((int(p[1:]) for p in i.parts if p in ("v2", "v4", "v8")), 1)
    if count != len(parts):
        raise PtxError(f"{len(parts)} elements of a v{count}")
    return parts


def _memory(kind: str) -> str:
    return {"f32": "uint32_t", "f64": "uint64_t"}.get(kind, c_type(kind))


def _ld(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    outs = _elements(i, i.operands[0])
    size, memory = type_bytes(kind), _memory(kind)
    x = body.temporary()
    at = place(body, i, i.operands[1], str(size * len(outs)))
    waits = "pause(t); " if any(p in _ORDERED for p in i.parts) else ""
    seen = "b" + str(8 * size) if kind in ("f32", "f64") else kind
    reads = [
        body.write(o, seen, f"load<{memory}>({x} + {n * size})", i.scope)
        for n, o in enumerate(outs)
        if o != "_"
    ]
    return f"{{ {line(i)}{waits}const char* {x} = (const char*){at}; {' '.join(reads)} }}"


def _st(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    values = _elements(i, i.operands[1])
    size, memory = type_bytes(kind), _memory(kind)
    x = body.temporary()
    at = place(body, i, i.operands[0], str(size * len(values)))
    seen = "b" + str(8 * size) if kind in ("f32", "f64") else kind
    stores = [
        f"store<{memory}>({x} + {n * size}, {body.read(v, seen, i.scope)});" for n, v in enumerate(values)
    ]
    ends = " progress();" if any(p in ("volatile", "release", "relaxed") for p in i.parts) else ""
    return f"{{ {line(i)}char* {x} = (char*){at}; {' '.join(stores)}{ends} }}"


_ATOMS = {
    "exch": "b",
    "min": "(o < b ? o : b)",
    "max": "(o > b ? o : b)",
    "and": "(o & b)",
    "or": "(o | b)",
    "xor": "(o ^ b)",
    "inc": "(o >= b ? 0 : o + 1)",
    "dec": "(o == 0 || o > b ? b : o - 1)",
    "cas": "(o == b ? c : o)",
}


def _atomic(body: Body, i: Instruction) -> str:
    """9.7.13.5 atom, 9.7.13.6 red."""
    op = next(p for p in i.parts[1:] if p == "add" or p in _ATOMS)
    kind = kinds(i)[-1]
    returns = i.parts[0] == "atom"
    at = place(body, i, i.operands[1 if returns else 0], str(type_bytes(kind)))
    sources = i.operands[2:] if returns else i.operands[1:]
    if sources and sources[0].startswith("{"):
        return _vector_atomic(body, i, kind, op, at, sources[0])
    names = dict(zip("bc", sources, strict=False))
    values = " ".join(f"auto {n} = {body.read(v, kind, i.scope)};" for n, v in names.items())
    done = f"atomic<{c_type(kind)}>({at}, [&]({c_type(kind)} o) {{ return {_atom_value(op, kind)}; }})"
    waits = "pause(t); " if op in ("cas", "exch") else ""
    kept = body.write(i.operands[0], kind, done, i.scope) if returns else f"{done};"
    return f"{{ {line(i)}{waits}{values} {kept} }}"


def _atom_value(op: str, kind: str, value: str = "b") -> str:
    if is_half(kind):
        h = HALVES[kind]
        formula = {"add": "p + q", "min": "fmin_ptx(p, q)", "max": "fmax_ptx(p, q)"}[op]
        one = f"half2<{h}>(p_, q_, [](float p, float q) {{ return {formula}; }})"
        if kind.endswith("x2"):
            return f"pair(o, {value}, 0, [](uint16_t p_, uint16_t q_, uint16_t) {{ return {one}; }})"
        return f"[](uint16_t p_, uint16_t q_) {{ return {one}; }}(o, {value})"
    if op == "add":
        return f"(o + {value})" if is_float(kind) else f"{c_type(kind)}(uint64_t(o) + uint64_t({value}))"
    return _ATOMS[op].replace("b", value) if value != "b" else _ATOMS[op]


def _vector_atomic(body: Body, i: Instruction, kind: str, op: str, at: str, sources: str) -> str:
    parts = split(sources[1:-1])
    at = at.replace(f", {type_bytes(kind)})", f", {type_bytes(kind) * len(parts)})")
    x = body.temporary()
    outs = split(i.operands[0][1:-1]) if i.parts[0] == "atom" else []
    steps = []
    for n, part in enumerate(parts):
        value = body.read(part, kind, i.scope)
        step = (
            f"atomic<{c_type(kind)}>({x} + {n * type_bytes(kind)}, "
            f"[&]({c_type(kind)} o) {{ auto b = {value}; return {_atom_value(op, kind)}; }})"
        )
        steps.append(body.write(outs[n], kind, step, i.scope) if outs else f"{step};")
    return f"{{ {line(i)}char* {x} = (char*){at}; {' '.join(steps)} }}"


def _cvta(body: Body, i: Instruction) -> str:
    """9.7.9.20: only shared memory has generic addresses of its own."""
    kind = kinds(i)[-1]
    a = body.read(i.operands[1], kind, i.scope)
    shared = any(p.startswith("shared") for p in i.parts)
    value = a if not shared else f"({a} - kSharedWindow)" if "to" in i.parts else f"({a} + kSharedWindow)"
    return body.write(i.operands[0], kind, value, i.scope)


def _isspacep(body: Body, i: Instruction) -> str:
    a = body.read(i.operands[1], "u64", i.scope)
    shared = f"({a} - kSharedWindow < (uint64_t(1) << 32))"
    space = space_of(i)
    test = shared if space == "shared" else f"({a} - kDeviceArena < kDeviceArenaBytes)"
    if space not in ("shared", "global"):
        raise PtxError(f"isspacep.{space}")
    return body.write(i.operands[0], "pred", test, i.scope)


def _mapa(body: Body, i: Instruction) -> str:
    """9.7.9.23: the same variable of another block of the cluster."""
    kind = kinds(i)[-1]
    a, rank = body.read(i.operands[1], "u64", i.scope), body.read(i.operands[2], "u32", i.scope)
    return body.write(i.operands[0], kind, f"{c_type(kind)}(map_rank(t, {a}, {rank}))", i.scope)


def _getctarank(body: Body, i: Instruction) -> str:
    a = body.read(i.operands[1], "u64", i.scope)
    return body.write(i.operands[0], "u32", f"rank_of(t, {a})", i.scope)


def _cp(body: Body, i: Instruction) -> str:
    """9.7.9.25: cp.async; the bulk and tensor forms are in hopper.py."""
    if i.parts[1:3] == ("reduce", "async"):
        return hopper.bulk(body, i)
    if i.parts[1] != "async":
        raise PtxError(f"no emitter for {i.opcode!r}")
    if "bulk" in i.parts:
        return hopper.bulk(body, i)
    if i.parts[2] == "commit_group":
        return "async_commit(t);"
    if i.parts[2] == "wait_all":
        return f"{line(i)}async_wait_all(t);"
    if i.parts[2] == "wait_group":
        return f"{line(i)}async_wait(t, {body.read(i.operands[0], 'u32', i.scope)});"
    if i.parts[2] == "mbarrier":
        return hopper.copies_arrive(body, i)
    to, _ = body.address(i.operands[0], i.scope)
    source, _ = body.address(i.operands[1], i.scope)
    size = body.read(i.operands[2], "u32", i.scope)
    have = _source_bytes(body, i, size) if len(i.operands) > 3 else size
    return f"{line(i)}async_copy(t, uint32_t({to}), {source}, {size}, {have});"


def _source_bytes(body: Body, i: Instruction, size: str) -> str:
    """The fourth operand of cp.async: how many bytes to read, or a predicate that says to read none."""
    found = body.register(i.operands[3].lstrip("!"), i.scope)
    if found and found[1] == "pred":
        return f"({body.read(i.operands[3], 'pred', i.scope)} ? 0u : {size})"
    return body.read(i.operands[3], "u32", i.scope)


def _prefetch(body: Body, i: Instruction) -> str:
    return ";"


EMITTERS: dict[str, Emitter] = {
    "mov": _mov,
    "ld": _ld,
    "ldu": _ld,
    "st": _st,
    "atom": _atomic,
    "red": _atomic,
    "cvta": _cvta,
    "isspacep": _isspacep,
    "mapa": _mapa,
    "getctarank": _getctarank,
    "cp": _cp,
    **dict.fromkeys(("prefetch", "prefetchu", "applypriority", "discard", "createpolicy"), _prefetch),
}
