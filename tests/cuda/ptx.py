"""Reads PTX, the assembly language nvcc makes of device code, into plain values.

Source: PTX ISA 9.0, sections 4 (syntax), 5 (state spaces, types, variables), 7 (functions), 9 (instructions).
Only what nvcc prints is read; anything else is a `PtxError` that shows the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


class PtxError(ValueError):
    """The text is not PTX this module can read, or an instruction no emitter is known for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable in a state space: `.shared .align 4 .b8 name[1024]`.

    Attributes:
        space: global, const, shared, local or param.
        type: element type without the dot.
        count: elements; 0 when the size is given at launch (`name[]`), None for a scalar.
        align: bytes.
        initial: the text after `=`, if any.
        is_extern: whether it is defined elsewhere (dynamic shared memory).
    """

    name: str
    space: str
    type: str
    count: int | None
    align: int
    initial: str = ""
    is_extern: bool = False

    @property
    def bytes(self) -> int:
        return type_bytes(self.type) * (1 if self.count is None else self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One statement: `@!%p1 add.s32 %r1, %r2, 7;`.

    Attributes:
        guard: the predicate register, "" without one.
        negated: whether it runs when the guard is false.
        parts: the opcode, split at its dots.
        operands: text of each operand.
        scope: index of the `{ }` it stands in.
        line: line of the PTX file.
    """

    guard: str
    negated: bool
    parts: tuple[str, ...]
    operands: tuple[str, ...]
    scope: int
    line: int

    @property
    def opcode(self) -> str:
        return ".".join(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A place to branch to."""

    name: str
    scope: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """A list of labels that `brx.idx` chooses from."""

    name: str
    labels: tuple[str, ...]
    scope: int


@dataclass(slots=True, kw_only=True)
class Scope:
    """What a `{ }` declares; registers and labels are visible in the scopes inside it."""

    parent: int
    registers: dict[str, str] = field(default_factory=dict)
    families: dict[str, tuple[str, int]] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    targets: dict[str, Targets] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Function:
    """A kernel (`.entry`) or a device function (`.func`).

    Attributes:
        results: return parameters.
        limits: performance directives such as maxntid, as numbers.
        body: statements in order; None for a declaration.
        scopes: all scopes of the body; the first is the function's own.
    """

    name: str
    is_kernel: bool
    results: tuple[Variable, ...]
    params: tuple[Variable, ...]
    limits: dict[str, tuple[int, ...]]
    body: list[Instruction | Label] | None
    scopes: list[Scope]


@dataclass(slots=True, kw_only=True)
class Module:
    """One PTX file."""

    target: str
    variables: dict[str, Variable]
    functions: dict[str, Function]


_BYTES = {"pred": 1, "b128": 16, "f16x2": 4, "bf16x2": 4, "bf16": 2, "tf32": 4}


def type_bytes(name: str) -> int:
    """Size of a fundamental type."""
    return _BYTES.get(name) or int(name[1:]) // 8


_CXX = {
    "pred": "bool",
    "f32": "float",
    "f64": "double",
    "b128": "u128",
    "tf32": "uint32_t",
    **dict.fromkeys(("f16", "bf16"), "uint16_t"),
    **dict.fromkeys(("f16x2", "bf16x2"), "uint32_t"),
}


def c_type(name: str) -> str:
    """The C++ type that holds a register or a memory element of a type."""
    if name in _CXX:
        return _CXX[name]
    return f"{'' if name[0] == 's' else 'u'}int{name[1:]}_t"


def unsigned(name: str) -> str:
    """The unsigned C++ type of the same size."""
    return "u128" if type_bytes(name) == 16 else f"uint{8 * type_bytes(name)}_t"


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_HEADER = re.compile(r"\.(version|target|address_size)\s+([^\n]+)")
_LINKAGE = re.compile(r"\.(extern|visible|weak|common)\b")
_FUNCTION = re.compile(r"\.(entry|func)\b")
_LABEL = re.compile(r"([A-Za-z_$%][\w$]*)\s*:(?!:)")
_REGISTERS = re.compile(r"\.reg\s*\.(\w+)\s+(.*)", re.S)
_VARIABLE = re.compile(
    r"(?P<linkage>(?:\.(?:extern|visible|weak|common)\s+)*)\.(?P<space>global|const|shared|local|param)\b"
    r"(?P<attributes>(?:\s*\.(?:align\s+\d+|ptr|global|attribute\([^)]*\)))*)\s*\.(?P<type>\w+)"
    r"(?:\s*\.ptr(?:\s*\.\w+)*(?:\s+\d+)?)?"
    r"\s+(?P<name>[\w$%]+)\s*(?:\[(?P<count>\d*)\])?\s*(?:=\s*(?P<initial>.*))?$",
    re.S,
)
_LIMIT = re.compile(r"\.(maxntid|reqntid|minnctapersm|maxnreg|maxnctapersm|reqnctapercluster)\s+([\d,\s]+)")


def parse(text: str) -> Module:
    """Reads a whole PTX file."""
    text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n"), text)
    headers = dict(_HEADER.findall(text))
    text = _HEADER.sub("", text)
    module = Module(target=headers["target"].strip(), variables={}, functions={})
    for line, head, body in _top_level(text):
        if _FUNCTION.search(head):
            function = _function(head, body, line)
            known = module.functions.get(function.name)
            if known is None or known.body is None:
                module.functions[function.name] = function
        elif _LINKAGE.sub("", head).strip().startswith((".global", ".const", ".shared")):
            variable = _variable(head + body)
            module.variables[variable.name] = variable
        elif head.strip():
            raise PtxError(f"line {line}: {head.strip()[:200]}")
    return module


def _top_level(text: str) -> Iterator[tuple[int, str, str]]:
    """(line, declaration, body with its braces or "") for everything outside functions."""
    position, end = 0, len(text)
    while position < end:
        start = position
        while position < end and text[position] not in ";{":
            position += 1
        head, body = text[start:position], ""
        if position < end and text[position] == "{":
            stop = _closing(text, position)
            body, position = text[position:stop], stop
            if "=" in head:  # an initializer; its semicolon follows
                stop = text.index(";", position)
                body, position = body + text[position:stop], stop + 1
        else:
            position += 1
        lead = len(head) - len(head.lstrip())
        yield text.count("\n", 0, start + lead) + 1, head.strip(), body


def _closing(text: str, start: int) -> int:
    """Index after the brace that closes the one at `start`."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    raise PtxError("a brace is not closed")


def _variable(text: str) -> Variable:
    match = _VARIABLE.match(text.strip())
    if not match:
        raise PtxError(f"not a variable: {text.strip()[:200]}")
    align = re.search(r"\.align\s+(\d+)", text)
    count = match["count"]
    return Variable(
        name=match["name"],
        space=match["space"],
        type=match["type"],
        count=None if count is None else int(count or 0),
        align=int(align[1]) if align else type_bytes(match["type"]),
        initial=(match["initial"] or "").strip(),
        is_extern=".extern" in match["linkage"],
    )


_SIGNATURE = re.compile(
    r"\.(?P<kind>entry|func)\s*(?:\((?P<results>[^)]*)\))?\s*(?P<name>[\w$]+)\s*(?:\((?P<params>[^)]*)\))?",
    re.S,
)


def _function(head: str, body: str, line: int) -> Function:
    head = re.sub(r"\.noreturn\b", "", head)
    match = _SIGNATURE.search(head)
    if not match:
        raise PtxError(f"line {line}: {head[:200]}")
    function = Function(
        name=match["name"],
        is_kernel=match["kind"] == "entry",
        results=_params(match["results"]),
        params=_params(match["params"]),
        limits={k: tuple(int(n) for n in v.split(",")) for k, v in _LIMIT.findall(head[match.end() :])},
        body=[] if body else None,
        scopes=[Scope(parent=-1)],
    )
    if body:
        _body(function, body, line + head.count("\n"))
    return function


def _params(text: str | None) -> tuple[Variable, ...]:
    return tuple(_variable(part) for part in (text or "").split(",") if part.strip())


def _statements(text: str) -> Iterator[tuple[str, int]]:
    """Each statement, "{" and "}", with the number of newlines before it."""
    position, newlines, end = 0, 0, len(text)
    token = re.compile(r"[;{}]|\n")
    while position < end:
        while position < end and text[position].isspace():
            newlines += text[position] == "\n"
            position += 1
        if position >= end:
            return
        if text[position] in "{}":
            yield text[position], newlines
            position += 1
            continue
        label = _LABEL.match(text, position)
        if label:
            yield label[0], newlines
            position = label.end()
            continue
        start, depth, began = position, 0, newlines
        while True:
            match = token.search(text, position)
            if not match:
                raise PtxError(f"unfinished statement {text[start : start + 100]!r}")
            position = match.end()
            newlines += match[0] == "\n"
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if match[0] == ";" and depth == 0:
                break
        yield text[start : position - 1].strip(), began


def _body(function: Function, text: str, line: int) -> None:
    assert function.body is not None
    scope, pending = 0, ""
    for statement, newlines in _statements(text[1:-1]):
        if statement == "{":
            function.scopes.append(Scope(parent=scope))
            scope = len(function.scopes) - 1
        elif statement == "}":
            scope = function.scopes[scope].parent
        elif statement.endswith(":"):
            pending = statement[:-1].strip()
            function.scopes[scope].labels.add(pending)
            function.body.append(Label(name=pending, scope=scope))
        elif statement.startswith("."):
            _directive(function, scope, statement, pending)
        elif statement:
            function.body.append(_instruction(statement, scope, line + newlines))


def _directive(function: Function, scope: int, text: str, label: str) -> None:
    declared = function.scopes[scope]
    if registers := _REGISTERS.match(text):
        for name in registers[2].split(","):
            family = re.fullmatch(r"\s*([\w$%]+)<(\d+)>\s*", name)
            if family:
                declared.families[family[1]] = (registers[1], int(family[2]))
            else:
                declared.registers[name.strip()] = registers[1]
    elif text.startswith(".branchtargets"):
        labels = tuple(n.strip() for n in text.removeprefix(".branchtargets").split(","))
        declared.targets[label] = Targets(name=label, labels=labels, scope=scope)
    elif re.match(r"\.(pragma|loc|callprototype|file)\b", text):
        return
    else:
        variable = _variable(text)
        declared.variables[variable.name] = variable


_GUARD = re.compile(r"@\s*(!?)\s*([%\w$]+)\s+")


def _instruction(text: str, scope: int, line: int) -> Instruction:
    guard = _GUARD.match(text)
    rest = text[guard.end() :] if guard else text
    opcode, _, operands = rest.replace("\t", " ").replace("\n", " ").partition(" ")
    return Instruction(
        guard=guard[2] if guard else "",
        negated=bool(guard and guard[1]),
        parts=tuple(opcode.split(".")),
        operands=tuple(split(operands)),
        scope=scope,
        line=line,
    )


def split(text: str) -> list[str]:
    """The comma-separated parts of `text`; commas inside brackets do not count."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "{[(":
            depth += 1
        elif c in "}])":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    parts.append(text[start:].strip())
    return [p for p in parts if p]
