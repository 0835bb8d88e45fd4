"""Instructions of compute capability 9.0: mbarrier, bulk and tensor copies, wgmma (PTX ISA 9.0, 9.7.9.25,
9.7.13.15, 9.7.15). See `instructions.py`; hopper.h says what they do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cuda.emitters import ELEMENTS, Emitter, line
from cuda.ptx import Instruction, PtxError, split

if TYPE_CHECKING:
    from cuda.translate import Body


def shared(body: Body, i: Instruction, operand: str) -> str:
    """The shared address of a memory operand; generic ones are those of the shared window."""
    address, _ = body.address(operand, i.scope)
    return f"uint32_t({address})"


# mbarrier


def _mbarrier(body: Body, i: Instruction) -> str:
    action = i.parts[1]
    if action in ("arrive", "arrive_drop"):
        return _arrive(body, i)
    if action in ("test_wait", "try_wait"):
        return _wait(body, i)
    address = shared(body, i, i.operands[0])
    if action == "inval":
        return f"{line(i)}mbarrier_invalidate(t, {address});"
    function = {"init": "init", "expect_tx": "expect", "complete_tx": "complete"}[action]
    value = body.read(i.operands[1], "u32", i.scope)
    return f"{line(i)}mbarrier_{function}(t, {address}, {value});"


def _arrive(body: Body, i: Instruction) -> str:
    out, place, *rest = i.operands if not i.operands[0].startswith("[") else ("_", *i.operands)
    address, before, count = shared(body, i, place), "", "1u"
    if "expect_tx" in i.parts:
        before = f"mbarrier_expect(t, {address}, {body.read(rest[0], 'u32', i.scope)}); "
    elif rest:
        count = body.read(rest[0], "u32", i.scope)
    drops = str(i.parts[1] == "arrive_drop").lower()
    return (
        line(i) + before + body.write(out, "b64", f"mbarrier_arrive(t, {address}, {count}, {drops})", i.scope)
    )


def _wait(body: Body, i: Instruction) -> str:
    address = shared(body, i, i.operands[1])
    if "parity" in i.parts:
        phase = body.read(i.operands[2], "u32", i.scope)
    else:
        phase = f"uint32_t({body.read(i.operands[2], 'b64', i.scope)} >> 63)"
    test = f"mbarrier_test(t, {address}, {phase})"
    return line(i) + body.write(i.operands[0], "pred", test, i.scope)


def copies_arrive(body: Body, i: Instruction) -> str:
    """cp.async.mbarrier.arrive{.noinc}."""
    counts = str("noinc" not in i.parts).lower()
    return f"{line(i)}copies_arrive(t, {shared(body, i, i.operands[0])}, {counts});"


# bulk and tensor copies


def bulk(body: Body, i: Instruction) -> str:
    """cp.async.bulk and cp.reduce.async.bulk in all forms."""
    if "commit_group" in i.parts:
        return "bulk_commit(t);"
    if "wait_group" in i.parts:
        return f"{line(i)}bulk_wait(t, {body.read(i.operands[0], 'u32', i.scope)});"
    if "prefetch" in i.parts:
        return ";"
    if "tensor" in i.parts:
        return _tensor(body, i)
    return _plain(body, i)


def _is_load(i: Instruction) -> bool:
    """Whether the destination, which the opcode names first, is shared memory."""
    return next(p for p in i.parts if p.startswith(("shared", "global"))).startswith("shared")


def _plain(body: Body, i: Instruction) -> str:
    size = body.read(i.operands[2], "u32", i.scope)
    to, source = i.operands[:2]
    if i.parts[1] == "reduce" or i.parts[0] != "cp":
        raise PtxError(f"no emitter for {i.opcode!r}")
    if not _is_load(i):
        address, _ = body.address(to, i.scope)
        return f"{line(i)}bulk_store(t, {address}, {shared(body, i, source)}, {size});"
    if any(p == "shared::cta" for p in i.parts) and "global" not in i.parts:
        raise PtxError(f"no emitter for {i.opcode!r}")
    address, _ = body.address(source, i.scope)
    barrier = shared(body, i, i.operands[3])
    return (
        f"{line(i)}bulk_load(t, {shared(body, i, to)}, {address}, {size}, {barrier}, {_ranks(body, i, 4)});"
    )


def _ranks(body: Body, i: Instruction, first: int) -> str:
    """The blocks a multicast copy writes to, as bits; 0 when it is none."""
    if "multicast::cluster" not in i.parts:
        return "0u"
    return f"uint32_t({body.read(i.operands[first], 'b16', i.scope)})"


_REDUCTIONS = {"add": "kStoreAdd", "min": "kStoreMin", "max": "kStoreMax"}


def _tensor(body: Body, i: Instruction) -> str:
    rank = next(int(p[0]) for p in i.parts if re.fullmatch(r"\dd", p))
    is_im2col = any(p.startswith("im2col") for p in i.parts)
    loads = _is_load(i)
    place, tensor = (i.operands[0], i.operands[1]) if loads else (i.operands[1], i.operands[0])
    name, coordinates = split(tensor[1:-1])
    address, _ = body.address(f"[{name}]", i.scope)
    at = [body.read(c, "s32", i.scope) for c in split(coordinates[1:-1])]
    offsets = ["0u", "0u", "0u"]
    rest = 3
    if loads and is_im2col:
        given = split(i.operands[3][1:-1])
        offsets[: len(given)] = [f"uint32_t({body.read(o, 'b16', i.scope)})" for o in given]
        rest = 4
    x = body.temporary()
    fields = f"{address}, {shared(body, i, place)}, {{{', '.join(at)}}}, {{{', '.join(offsets)}}}"
    start = f"{{ {line(i)}TensorCopy {x} = {{{fields}, {rank}, {str(is_im2col).lower()}}}; "
    if loads:
        barrier = shared(body, i, i.operands[2])
        return f"{start}tensor_load(t, {x}, {barrier}, {_ranks(body, i, rest)}); }}"
    how = next((_REDUCTIONS[p] for p in i.parts if p in _REDUCTIONS), "kStore")
    return f"{start}tensor_store(t, {x}, {how}); }}"


# wgmma


def _wgmma(body: Body, i: Instruction) -> str:
    if i.parts[1] != "mma_async":
        return ";"  # fence, commit_group, wait_group: products are done at once
    shape = next(m for p in i.parts if (m := re.fullmatch(r"m64n(\d+)k\d+", p)))
    d_type, a_type, b_type = (ELEMENTS[p] for p in i.parts if p in ELEMENTS)
    out, a, b, accumulates, *flags = i.operands
    numbers = [int(f, 0) for f in flags]
    in_registers = a.startswith("{")
    scale_a, scale_b = (numbers[0], numbers[1]) if len(numbers) >= 2 else (1, 1)
    transposes = [bool(n) for n in numbers[2:]]
    if len(transposes) == 1:  # a in registers has no choice
        transposes.insert(0, False)
    transposes += [False] * (2 - len(transposes))
    x = body.temporary()
    registers = split(out[1:-1])
    held = ", ".join(body.read(r, "b32", i.scope) for r in registers)
    fragment = ", ".join(body.read(r, "b32", i.scope) for r in split(a[1:-1])) if in_registers else "0"
    fields = (
        f"{shape[1]}, {a_type}, {b_type}, {d_type}, {_flag(in_registers)}, "
        f"{_condition(body, i, accumulates)}, {_flag(scale_a == -1)}, {_flag(scale_b == -1)}, "
        f"{_flag(transposes[0])}, {_flag(transposes[1])}, {_flag('satfinite' in i.parts)}, "
        f"{'0' if in_registers else body.read(a, 'b64', i.scope)}, {body.read(b, 'b64', i.scope)}, {x}a, {x}d"
    )
    stores = " ".join(body.write(r, "b32", f"{x}d[{n}]", i.scope) for n, r in enumerate(registers))
    return (
        f"{{ {line(i)}uint32_t {x}a[] = {{{fragment}}}, {x}d[] = {{{held}}}; "
        f"wgmma(t, Wgmma{{{fields}}}); {stores} }}"
    )


def _flag(value: bool) -> str:
    return str(value).lower()


def _condition(body: Body, i: Instruction, operand: str) -> str:
    if operand in ("0", "1"):
        return "true" if operand == "1" else "false"
    return body.read(operand, "pred", i.scope)


EMITTERS: dict[str, Emitter] = {"mbarrier": _mbarrier, "wgmma": _wgmma}
