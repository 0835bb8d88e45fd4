"""Translates a PTX module into C++ that the machine (machine.h) runs: each function becomes one C++ function
that executes one thread, registers become local variables, branches become gotos.

What an instruction means stands in `instructions.py`; this module knows names, types and memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cuda import instructions
from cuda.ptx import (
    Function,
    Instruction,
    Label,
    Module,
    PtxError,
    Scope,
    Variable,
    c_type,
    unsigned,
)

_PRELUDE = """#include "arith.h"
#include "hopper.h"
using namespace emu;
#pragma GCC diagnostic ignored "-Wunused-label"
"""

SPECIAL = {
    **{
        f"%{name}.{axis}": f"t->{name}.{axis}"
        for name in ("tid", "ntid", "ctaid", "nctaid")
        for axis in "xyz"
    },
    **{
        f"%{name}.{axis}": f"t->{name}.{axis}"
        for name in ("cluster_ctaid", "cluster_nctaid", "clusterid", "nclusterid")
        for axis in "xyz"
    },
    "%laneid": "t->lane",
    "%warpid": "t->warp_index",
    "%nwarpid": "t->nwarps",
    "%smid": "0u",
    "%nsmid": "1u",
    "%gridid": "uint64_t(1)",
    "%cluster_ctarank": "t->cluster_rank",
    "%cluster_nctarank": "(t->cluster_nctaid.x * t->cluster_nctaid.y * t->cluster_nctaid.z)",
    "%is_explicit_cluster": "(t->cluster_nctaid.x * t->cluster_nctaid.y * t->cluster_nctaid.z > 1)",
    "%lanemask_eq": "(1u << t->lane)",
    "%lanemask_lt": "((1u << t->lane) - 1)",
    "%lanemask_le": "((2u << t->lane) - 1)",
    "%lanemask_gt": "~((2u << t->lane) - 1)",
    "%lanemask_ge": "~((1u << t->lane) - 1)",
    "%clock": "clock32()",
    "%clock_hi": "0u",
    "%clock64": "global_timer()",
    "%globaltimer": "global_timer()",
    "%globaltimer_lo": "uint32_t(global_timer())",
    "%globaltimer_hi": "uint32_t(global_timer() >> 32)",
    "%dynamic_smem_size": "t->dynamic_bytes",
    "%total_smem_size": "(t->shared_end - kSharedReserved)",
    "WARP_SZ": "32u",
}
"""Special registers (PTX ISA 9.0, 10) as expressions of the thread `t`."""


def _identifier(name: str) -> str:
    return re.sub(r"[^\w$]", "_", name)


@dataclass(slots=True, kw_only=True)
class Layout:
    """Where the variables of a module are.

    Attributes:
        shared: offset of each shared variable in the block's static shared memory.
        shared_bytes: size of that memory.
        dynamic_align: alignment of the extern shared arrays, which begin after it.
    """

    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    dynamic_align: int = 16

    def add(self, variable: Variable) -> None:
        if variable.is_extern:
            self.dynamic_align = max(self.dynamic_align, variable.align)
            self.shared[variable.name] = -1
            return
        self.shared_bytes = -(-self.shared_bytes // variable.align) * variable.align
        self.shared[variable.name] = self.shared_bytes
        self.shared_bytes += variable.bytes


def offsets(params: tuple[Variable, ...]) -> list[int]:
    """Byte offset of each kernel parameter (7.1: in order, each aligned as its type asks)."""
    at, out = 0, []
    for p in params:
        at = -(-at // p.align) * p.align
        out.append(at)
        at += p.bytes
    return out


class Body:
    """The statements of one function and what its names mean."""

    def __init__(self, module: Module, function: Function, layout: Layout) -> None:
        self.module, self.function, self.layout = module, function, layout
        self.registers: dict[str, str] = {}
        self._known: dict[tuple[int, str], tuple[str, str] | None] = {}
        self.temporaries = 0
        self.uses_carry = False

    def scopes(self, index: int) -> list[tuple[int, Scope]]:
        """The scope and those around it, innermost first."""
        out = []
        while index >= 0:
            out.append((index, self.function.scopes[index]))
            index = self.function.scopes[index].parent
        return out

    def register(self, name: str, scope: int) -> tuple[str, str] | None:
        """(C++ name, PTX type) of a register, None when `name` is none."""
        key = (scope, name)
        if key not in self._known:
            self._known[key] = self._find(name, scope)
        return self._known[key]

    def _find(self, name: str, scope: int) -> tuple[str, str] | None:
        family = re.fullmatch(r"(.*?)(\d+)", name)
        for index, declared in self.scopes(scope):
            kind = declared.registers.get(name)
            if kind is None and family and family[1] in declared.families:
                kind, count = declared.families[family[1]]
                kind = kind if int(family[2]) < count else None
            if kind:
                spelled = f"r{index or ''}_{_identifier(name.removeprefix('%'))}"
                self.registers[spelled] = kind
                return spelled, kind
        return None

    def label(self, name: str, scope: int) -> str:
        for index, declared in self.scopes(scope):
            if name in declared.labels:
                return f"L{index or ''}_{_identifier(name)}"
        raise PtxError(f"no label {name}")

    def targets(self, name: str, scope: int) -> tuple[str, ...]:
        for _, declared in self.scopes(scope):
            if name in declared.targets:
                found = declared.targets[name]
                return tuple(self.label(n, found.scope) for n in found.labels)
        raise PtxError(f"no .branchtargets {name}")

    def symbol(self, name: str, scope: int) -> tuple[str, str] | None:
        """(expression of its address, state space) of a variable or function; None when unknown."""
        for index, declared in self.scopes(scope):
            if name in declared.variables:
                variable = declared.variables[name]
                if variable.space == "shared":
                    return self._shared(name), "shared"
                return f"uint64_t(v{index or ''}_{_identifier(name)})", variable.space
        for i, p in enumerate((*self.function.results, *self.function.params)):
            if p.name == name:
                if self.function.is_kernel:
                    return f"(uint64_t(t->params) + {offsets(self.function.params)[i]})", "param"
                return f"uint64_t(p_{_identifier(name)})", "param"
        if name in self.module.variables:
            if self.module.variables[name].space == "shared":
                return self._shared(name), "shared"
            return f"uint64_t(g_{_identifier(name)})", self.module.variables[name].space
        if name in self.module.functions:
            return f"uint64_t(&f_{_identifier(name)})", "code"
        return None

    def _shared(self, name: str) -> str:
        offset = self.layout.shared[name]
        if offset >= 0:
            return f"(t->shared + {offset}u)"
        return "(t->shared + dynamic)"

    def temporary(self) -> str:
        self.temporaries += 1
        return f"x{self.temporaries}"

    # ---- operands

    def read(self, text: str, kind: str, scope: int) -> str:
        """C++ expression of type `c_type(kind)` for a source operand."""
        if text.startswith("!"):
            return f"!{self.read(text[1:], kind, scope)}"
        if text in SPECIAL:
            return f"{c_type(kind)}({SPECIAL[text]})"
        if found := self.register(text, scope):
            return convert(found[0], found[1], kind)
        if number := immediate(text, kind):
            return number
        if found := self.symbol(text, scope):
            return f"{c_type(kind)}({found[0]})"
        raise PtxError(f"unknown operand {text!r}")

    def write(self, text: str, kind: str, value: str, scope: int) -> str:
        """Statement that assigns a value of type `c_type(kind)` to a destination operand."""
        if text == "_":
            return f"(void)({value});"
        found = self.register(text, scope)
        if not found:
            raise PtxError(f"unknown destination {text!r}")
        name, declared = found
        return f"{name} = {widen(value, kind, declared)};"

    def address(self, text: str, scope: int) -> tuple[str, str]:
        """(expression, state space or "") of a memory operand `[base+offset]`."""
        inner = text.strip()
        assert inner.startswith("[") and inner.endswith("]"), inner
        match = re.fullmatch(r"\s*([^\s+]+?)\s*(?:\+\s*(-?\w+))?\s*", inner[1:-1])
        if not match:
            raise PtxError(f"address {text!r}")
        base, offset = match[1], match[2] or "0"
        plus = "" if int(offset, 0) == 0 else f" + ({int(offset, 0)})"
        if found := self.register(base, scope):
            kind = found[1]
            return f"({convert(found[0], kind, 'u' + kind[1:])}{plus})", ""
        if found := self.symbol(base, scope):
            return f"({found[0]}{plus})", found[1]
        return f"(uint64_t({int(base, 0)}){plus})", ""


def convert(expression: str, declared: str, kind: str) -> str:
    """A register of type `declared`, seen as `kind`."""
    have, want = c_type(declared), c_type(kind)
    if have == want:
        return expression
    if kind == "pred" or declared == "pred":
        raise PtxError(f"{expression}: predicate and {kind}")
    if want in ("float", "double"):
        if have in ("float", "double"):
            raise PtxError(f"{expression}: {declared} as {kind}")
        size = unsigned(kind)
        return f"bits<{want}>({size}({expression}))"
    if have in ("float", "double"):
        raw = f"bits<{unsigned(declared)}>({expression})"
        return raw if unsigned(declared) == want else f"{want}({raw})"
    return f"{want}({expression})"


def widen(value: str, kind: str, declared: str) -> str:
    """A value of type `kind`, as what a register of type `declared` stores; signed ones are extended."""
    have, want = c_type(kind), c_type(declared)
    if have == want:
        return value
    if kind == "pred" or declared == "pred":
        raise PtxError(f"predicate and {kind}")
    if want in ("float", "double"):
        return f"bits<{want}>({unsigned(declared)}({value}))"
    if have in ("float", "double"):
        return f"{want}(bits<{unsigned(kind)}>({value}))"
    return f"{want}({have}({value}))"


_NUMBER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[0-7]*|[1-9]\d*)U?$")


_FLOAT32, _FLOAT64 = re.compile(r"0[fF]([0-9a-fA-F]{8})"), re.compile(r"0[dD]([0-9a-fA-F]{16})")
_DECIMAL = re.compile(r"-?\d+\.\d*(e[+-]?\d+)?")


def immediate(text: str, kind: str) -> str | None:
    """A literal (4.5) as an expression of type `c_type(kind)`; None when `text` is none."""
    of_type = c_type(kind)
    if match := _FLOAT32.fullmatch(text):
        single = f"bits<float>(0x{match[1]}u)"
        return {"f32": single, "f64": f"double({single})"}.get(kind, f"{of_type}(0x{match[1]}u)")
    if match := _FLOAT64.fullmatch(text):
        return f"bits<double>(0x{match[1]}ull)" if kind == "f64" else f"{of_type}(0x{match[1]}ull)"
    if match := _NUMBER.fullmatch(text):
        return _integer(match[1], match[2], kind)
    if _DECIMAL.fullmatch(text) and kind in ("f32", "f64"):
        return f"{of_type}({text})"
    return None


def _integer(sign: str, digits: str, kind: str) -> str:
    value = int(digits, 8) if re.fullmatch(r"0[0-7]+", digits) else int(digits, 0)
    if kind == "pred":
        return "true" if value else "false"
    spelled = f"{sign}{value}{'ull' if value >= 1 << 63 else ''}"
    if kind in ("f32", "f64"):
        return f"bits<{c_type(kind)}>({unsigned(kind)}({spelled}))"
    return f"{c_type(kind)}({spelled})"


def translate(module: Module) -> str:
    """The C++ translation unit of a module."""
    layouts = {name: _layout(module, f) for name, f in module.functions.items() if f.body is not None}
    functions = [f for f in module.functions.values() if f.body is not None]
    called = [f for f in functions if not f.is_kernel]
    parts = [_PRELUDE, "namespace {", *(_global(v, module) for v in module.variables.values())]
    parts += [f"{_signature(f)};" for f in called]
    parts += [_function(module, f, layouts[f.name]) for f in functions]
    parts.append(_tables(module, [f for f in functions if f.is_kernel], layouts))
    return "\n".join(parts) + "\n}  // namespace\n"


def _layout(module: Module, function: Function) -> Layout:
    """Shared memory of a kernel: what it and the functions of the module name."""
    layout = Layout()
    in_functions = {
        v.name
        for f in module.functions.values()
        if not f.is_kernel and f.body is not None
        for v in module.variables.values()
        if v.space == "shared"
        and any(v.name in o for s in f.body if isinstance(s, Instruction) for o in s.operands)
    }
    body = function.body or []
    named = {
        w for s in body if isinstance(s, Instruction) for o in s.operands for w in re.findall(r"[\w$%]+", o)
    }
    for variable in module.variables.values():
        if variable.space == "shared" and variable.name in in_functions:
            layout.add(variable)
    for variable in module.variables.values():
        if variable.space == "shared" and variable.name in named - in_functions:
            layout.add(variable)
    for scope in function.scopes:
        for variable in scope.variables.values():
            if variable.space == "shared":
                assert function.is_kernel, "shared memory inside a device function"
                layout.add(variable)
    return layout


def _global(variable: Variable, module: Module) -> str:
    if variable.space == "shared":
        return ""
    name = f"g_{_identifier(variable.name)}"
    count = 1 if variable.count is None else max(variable.count, 1)
    text = variable.initial.strip()
    values = text.removeprefix("{").removesuffix("}") if text else ""
    spelled = ", ".join(_initial(v.strip(), variable.type, module) for v in values.split(",") if v.strip())
    kind = c_type(variable.type)
    return f"alignas({max(variable.align, 16)}) {kind} {name}[{count}] = {{{spelled}}};"


def _initial(text: str, kind: str, module: Module) -> str:
    if number := immediate(text, kind):
        return number
    name = re.sub(r"^generic\((.*)\)$", r"\1", text)
    if name in module.variables:
        return f"uint64_t(g_{_identifier(name)})"
    raise PtxError(f"initial value {text!r}")


def _signature(function: Function) -> str:
    names = [f"uint8_t* p_{_identifier(p.name)}" for p in (*function.results, *function.params)]
    if function.is_kernel:
        names = []
    return f"void f_{_identifier(function.name)}({', '.join(['Thread* t', *names])})"


def _function(module: Module, function: Function, layout: Layout) -> str:
    body = Body(module, function, layout)
    lines = []
    for statement in function.body or ():
        if isinstance(statement, Label):
            lines.append(f"{body.label(statement.name, statement.scope)}:;")
        else:
            lines.append(_statement(body, statement))
    by_type: dict[str, list[str]] = {}
    for name, kind in body.registers.items():
        by_type.setdefault(c_type(kind), []).append(name)
    declared = [f"  {kind} {', '.join(names)};" for kind, names in by_type.items()]
    if body.uses_carry:
        declared.append("  bool carry = false;")
    if -1 in layout.shared.values():
        align = layout.dynamic_align
        declared.append(f"  const uint32_t dynamic = {-(-layout.shared_bytes // align) * align};")
    for index, scope in enumerate(function.scopes):
        for v in scope.variables.values():
            if v.space in ("local", "param"):
                name = f"v{index or ''}_{_identifier(v.name)}"
                declared.append(f"  alignas({max(v.align, 8)}) uint8_t {name}[{max(v.bytes, 1)}];")
    return "\n".join([f"{_signature(function)} {{", *declared, *lines, "}"])


def _statement(body: Body, instruction: Instruction) -> str:
    try:
        text = instructions.emit(body, instruction)
    except (PtxError, KeyError, IndexError, ValueError) as error:
        shown = f"{instruction.opcode} {', '.join(instruction.operands)}"
        raise PtxError(f"line {instruction.line}: {shown}: {type(error).__name__} {error}") from error
    if not instruction.guard:
        return f"  {text}"
    test = body.read(instruction.guard, "pred", instruction.scope)
    return f"  if ({'!' if instruction.negated else ''}{test}) {{ {text} }}"


def _tables(module: Module, kernels: list[Function], layouts: dict[str, Layout]) -> str:
    """What the runtime looks kernels and variables up in."""
    parts, rows, target = [], [], module.target.split(",")[0]
    for i, kernel in enumerate(kernels):
        places = offsets(kernel.params)
        params = ", ".join(f"{{{o}, {p.bytes}}}" for o, p in zip(places, kernel.params, strict=True))
        size = places[-1] + kernel.params[-1].bytes if places else 0
        layout = layouts[kernel.name]
        threads = 1
        for n in kernel.limits.get("maxntid", kernel.limits.get("reqntid", (0,))):
            threads *= n
        cluster = (*kernel.limits.get("reqnctapercluster", (0, 0, 0)), 1, 1)[:3]
        parts.append(f"const Param params{i}[] = {{{params or '{0, 0}'}}};")
        rows.append(
            f'  {{"{kernel.name}", &f_{_identifier(kernel.name)}, params{i}, {len(places)}, {size}, '
            f"{layout.shared_bytes}, {layout.dynamic_align}, {threads}, {{{', '.join(map(str, cluster))}}}}},"
        )
    variables = [v for v in module.variables.values() if v.space in ("global", "const")]
    globals_ = [f'  {{"{v.name}", g_{_identifier(v.name)}, {max(v.bytes, 1)}}},' for v in variables]
    return "\n".join(
        [
            *parts,
            f"const Kernel kernels[] = {{\n{chr(10).join(rows)}\n}};"
            if rows
            else "const Kernel* const kernels = nullptr;",
            f"const Global globals[] = {{\n{chr(10).join(globals_)}\n}};"
            if globals_
            else "const Global* const globals = nullptr;",
            f'const Module module = {{"{target}", kernels, {len(rows)}, globals, {len(globals_)}}};',
            "__attribute__((constructor(101))) void add() { add_module(&module); }",
            "__attribute__((destructor)) void remove() { remove_module(&module); }",
        ]
    )
