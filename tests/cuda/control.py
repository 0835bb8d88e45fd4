"""Branches, calls, threads that wait for each other: PTX ISA 9.0, 9.7.12, 9.7.13. See `emitters.py`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuda.emitters import Emitter, kinds, line
from cuda.ptx import Instruction, PtxError, split

if TYPE_CHECKING:
    from cuda.translate import Body


def _bra(body: Body, i: Instruction) -> str:
    return f"goto {body.label(i.operands[0], i.scope)};"


def _brx(body: Body, i: Instruction) -> str:
    index = body.read(i.operands[0], "u32", i.scope)
    cases = " ".join(
        f"case {n}: goto {label};" for n, label in enumerate(body.targets(i.operands[1], i.scope))
    )
    return f'switch ({index}) {{ {cases} default: fail(t, kIllegalInstruction, "brx.idx out of range"); }}'


def _call_function(body: Body, i: Instruction) -> str:
    operands = list(i.operands)
    results = split(operands.pop(0)[1:-1]) if operands[0].startswith("(") else []
    name = operands.pop(0)
    given = split(operands[0][1:-1]) if operands and operands[0].startswith("(") else []
    passed = [f"(uint8_t*){_param(body, i, n)}" for n in (*results, *given)]
    if name in ("vprintf",):
        return f"{{ memset({passed[0]}, 0, 4); }}"
    if name == "__assertfail":
        message = f"*(const char**){passed[0]}, *(const char**){passed[1]}, *(uint32_t*){passed[2]}"
        return f'fail(t, kAssert, "assertion \\"%s\\" of %s:%u", {message});'
    function = body.module.functions.get(name)
    if function and function.body is not None:
        return f"{line(i)}f_{re.sub(r'[^a-zA-Z0-9_$]', '_', name)}({', '.join(['t', *passed])});"
    if pointer := body.register(name, i.scope):
        kind = f"void (*)({', '.join(['Thread*', *['uint8_t*'] * len(passed)])})"
        return f"{line(i)}(({kind}){pointer[0]})({', '.join(['t', *passed])});"
    raise PtxError(f"call of {name}")


def _param(body: Body, i: Instruction, name: str) -> str:
    found = body.symbol(name, i.scope)
    if not found:
        raise PtxError(f"parameter {name} is no variable")
    return found[0]


def _return(body: Body, i: Instruction) -> str:
    return "return;"


def _exit(body: Body, i: Instruction) -> str:
    return "exit_thread(t);"


def _trap(body: Body, i: Instruction) -> str:
    return f'{line(i)}fail(t, kLaunchFailure, "{i.parts[0]}");'


def _nothing(body: Body, i: Instruction) -> str:
    return ";"


def _pause(body: Body, i: Instruction) -> str:
    return f"{line(i)}pause(t);"


# 9.7.13: synchronization


def _bar(body: Body, i: Instruction) -> str:
    parts = [p for p in i.parts[1:] if p not in ("cta", "aligned")]
    if parts[0] == "warp":
        return f"{line(i)}warp_sync(t, {body.read(i.operands[0], 'u32', i.scope)});"
    if parts[0] == "cluster":
        return f"{line(i)}cluster_{parts[1]}(t);"
    if parts[0] == "red":
        return _bar_red(body, i, parts[1])
    number, count = [body.read(o, "u32", i.scope) for o in (*i.operands, "0", "0")[:2]]
    return f"{line(i)}barrier_{parts[0]}(t, {number}, {count});"


def _bar_red(body: Body, i: Instruction, op: str) -> str:
    number, *count, value = i.operands[1:]
    how = {"and": "kAnd", "or": "kOr", "popc": "kCount"}[op]
    threads = body.read(count[0], "u32", i.scope) if count else "0u"
    done = (
        f"barrier_reduce(t, {body.read(number, 'u32', i.scope)}, {threads}, {how}, "
        f"{body.read(value, 'pred', i.scope)})"
    )
    if op == "popc":
        return f"{line(i)}{body.write(i.operands[0], 'u32', done, i.scope)}"
    return f"{line(i)}{body.write(i.operands[0], 'pred', f'bool({done})', i.scope)}"


_SHUFFLES = {"up": "kUp", "down": "kDown", "bfly": "kButterfly", "idx": "kIndex"}


def _shfl(body: Body, i: Instruction) -> str:
    out, _, valid = i.operands[0].partition("|")
    value, b, c, mask = (body.read(o, "u32", i.scope) for o in i.operands[1:5])
    x = body.temporary()
    call = f"shuffle(t, {_SHUFFLES[i.parts[2]]}, {value}, {b}, {c}, {mask}, &{x})"
    keep = body.write(valid.strip(), "pred", x, i.scope) if valid else ""
    return f"{{ {line(i)}bool {x}; {body.write(out.strip(), 'u32', call, i.scope)} {keep} }}"


def _vote(body: Body, i: Instruction) -> str:
    mode = {"all": "kAll", "any": "kAny", "uni": "kUniform", "ballot": "kBallot"}[i.parts[2]]
    value, mask = body.read(i.operands[1], "pred", i.scope), body.read(i.operands[2], "u32", i.scope)
    call = f"vote(t, {mode}, {value}, {mask})"
    kind = "u32" if mode == "kBallot" else "pred"
    return line(i) + body.write(i.operands[0], kind, call if kind == "u32" else f"bool({call})", i.scope)


def _match(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    out, _, same = i.operands[0].partition("|")
    value, mask = body.read(i.operands[1], kind, i.scope), body.read(i.operands[2], "u32", i.scope)
    if i.parts[1] == "any":
        return line(i) + body.write(out, "u32", f"match_any(t, {value}, {mask})", i.scope)
    x = body.temporary()
    store = body.write(out.strip(), "u32", f"match_all(t, {value}, {mask}, &{x})", i.scope)
    keep = body.write(same.strip(), "pred", x, i.scope) if same else ""
    return f"{{ {line(i)}bool {x}; {store} {keep} }}"


def _redux(body: Body, i: Instruction) -> str:
    kind = kinds(i)[-1]
    op = i.parts[2]
    value, mask = body.read(i.operands[1], "u32", i.scope), body.read(i.operands[2], "u32", i.scope)
    signed = str(kind == "s32").lower()
    return line(i) + body.write(
        i.operands[0], "u32", f"reduce(t, kReduce{op.capitalize()}, {signed}, {value}, {mask})", i.scope
    )


def _elect(body: Body, i: Instruction) -> str:
    out, _, chosen = i.operands[0].partition("|")
    x = body.temporary()
    call = f"elect(t, {body.read(i.operands[1], 'u32', i.scope)}, &{x})"
    return (
        f"{{ {line(i)}bool {x}; {body.write(out.strip(), 'u32', call, i.scope)} "
        f"{body.write(chosen.strip(), 'pred', x, i.scope)} }}"
    )


def _activemask(body: Body, i: Instruction) -> str:
    return line(i) + body.write(i.operands[0], "u32", "active_mask(t)", i.scope)


EMITTERS: dict[str, Emitter] = {
    "bra": _bra,
    "brx": _brx,
    "call": _call_function,
    "ret": _return,
    "exit": _exit,
    "trap": _trap,
    "brkpt": _trap,
    "nanosleep": _pause,
    **dict.fromkeys(("membar", "fence", "pmevent", "setmaxnreg", "griddepcontrol"), _nothing),
    "bar": _bar,
    "barrier": _bar,
    "shfl": _shfl,
    "vote": _vote,
    "match": _match,
    "redux": _redux,
    "elect": _elect,
    "activemask": _activemask,
}
