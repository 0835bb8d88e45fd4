"""The generated `run` of one partition: straight-line kernel calls, readable by a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bolt import dims as D
from bolt.chain import Chain, all_specs, specs
from bolt.codegen.render import render
from bolt.dims import Dim
from bolt.kernels.family import Candidate, Source
from bolt.module.chains import HEADER, chain_lines
from bolt.module.dialect import dialect
from bolt.module.plan import Plan, Weights, align
from bolt.program import AnyStep, Buffer, IntsStep, Program, Step, Value, View
from bolt.target import Target

PARALLEL_NS = 5000.0
"""Estimated time of a step above which sharing it between threads beats the cost of waking them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A module before compilation.

    Attributes:
        source: the C++ of `run`.
        further: other sources it needs, besides the kernels.
        weights: contents of the module's slice of the weights file.
    """

    source: Source
    further: tuple[Source, ...]
    weights: np.ndarray


class Scope:
    """Local variables of one C++ function: names a run-time expression once, however often it is used."""

    def __init__(self, spell: Mapping[str, str], prefix: str = "e") -> None:
        self.spell = spell
        self.prefix = prefix
        self.lines: list[str] = []
        self._names: dict[str, str] = {}

    def name(self, text: str) -> str:
        """The variable that holds `text`."""
        if text not in self._names:
            self._names[text] = f"{self.prefix}{len(self._names)}"
            self.lines.append(f"const int64_t {self._names[text]} = {text};")
        return self._names[text]

    def cxx(self, value: Dim) -> str:
        """`value` as a literal or a variable."""
        if isinstance(value, int):
            return str(value)
        text = D.cxx(value, self.spell, self.name)
        return text if text.isidentifier() else self.name(text)


def render_module(
    program: Program,
    plan: Plan,
    candidates: Mapping[str, Candidate],
    target: Target,
    sample: Mapping[str, int],
) -> Rendered:
    """The source and the weights of `program`.

    Args:
        candidates: spec key -> the chosen kernel.
        sample: typical dims; scale the estimate of which steps are worth several threads.
    """
    return _Renderer(program, plan, candidates, target, sample).render()


class _Renderer:
    def __init__(
        self,
        program: Program,
        plan: Plan,
        candidates: Mapping[str, Candidate],
        target: Target,
        sample: Mapping[str, int],
    ) -> None:
        self.program = program
        self.plan = plan
        self.candidates = candidates
        self.target = target
        self.sample = sample
        self.dialect = dialect(target)
        self.weights = Weights(self.dialect.alignment)
        self.spell = {s: f"s.{_identifier(s)}" for s in program.symbols()}
        self.scope = Scope(self.spell)
        self.slots = self._slot_offsets(self.scope)
        self.packed: dict[str, dict[int, np.ndarray]] = {}

    def render(self) -> Rendered:
        outputs = [self._output(i, v) for i, v in enumerate(self.program.outputs)]
        steps = [self._step(i, s) for i, s in enumerate(self.program.steps)]
        infos = [self._info(f"i{i}", v) for i, v in enumerate(self.program.inputs)]
        outs = [self._info(f"o{i}", v) for i, v in enumerate(self.program.outputs)]
        blob = self.weights.blob()
        context = {
            "title": f"{self.program.name}: {len(self.program.steps)} steps",
            "headers": self._headers(),
            "areas": self.dialect.areas,
            "opening": self.dialect.opening,
            "kernels": [
                self.dialect.declare(name)
                for name in sorted({self.candidates[s.key].name for s in all_specs(self.program)})
            ],
            "values": infos + outs,
            "inputs": infos,
            "outputs": outs,
            "symbols": [_identifier(s) for s in self.program.symbols()],
            "bind": self._bind(),
            "sizes": self._sizes(),
            "output_dims": self._output_dims(),
            "input_dims": ", ".join(f"inputs[{i}].dims" for i in range(len(infos))) or "nullptr",
            "locals": [*self._checks(), *self.scope.lines, *(line for lines in outputs for line in lines)],
            "steps": steps,
            "target": self.target.name,
            "weights_bytes": blob.nbytes,
            "weights_sha256": hashlib.sha256(blob.tobytes()).hexdigest() if blob.nbytes else "",
        }
        text = render("module.cc.jinja", context)
        ints = any(isinstance(s, IntsStep) for s in self.program.steps)
        return Rendered(
            source=Source(name=_identifier(self.program.name), text=text),
            further=self.dialect.sources(ints=ints),
            weights=blob,
        )

    def _headers(self) -> list[str]:
        chains = any(isinstance(s, Chain) for s in self.program.steps)
        return [self.dialect.header, *([HEADER] if chains else [])]

    def _checks(self) -> list[str]:
        """Refuse inputs the kernels could not read."""
        return [
            line
            for i, value in enumerate(self.program.inputs)
            for line in self.dialect.check(f"inputs[{i}].data", f"input {_format(value.name)}")
        ]

    def _info(self, symbol: str, value: Value) -> dict[str, Any]:
        dims = ", ".join(str(d) if isinstance(d, int) else "-1" for d in value.dims)
        return {
            "name": json.dumps(value.name),
            "dtype": value.dtype.onnx,
            "rank": len(value.dims),
            "dims": dims or "0",
            "symbol": symbol,
        }

    def _bind(self) -> list[str]:
        """Read the symbols from the inputs' dims; check everything that is stated about them."""
        lines: list[str] = []
        bound: set[str] = set()
        later: list[tuple[int, int, Dim]] = []
        for i, value in enumerate(self.program.inputs):
            for axis, d in enumerate(value.dims):
                if not isinstance(d, int) and d.is_Symbol and d.name not in bound:
                    bound.add(d.name)
                    lines.append(f"{self.spell[d.name]} = dims[{i}][{axis}];")
                else:
                    later.append((i, axis, d))
        scope = Scope(self.spell, "b")
        checks = []
        for i, axis, d in later:
            name = json.dumps(_format(self.program.inputs[i].name))[1:-1]
            expected = scope.cxx(d)
            checks.append(
                f"if (dims[{i}][{axis}] != {expected}) return bolt_fail(error, error_bytes, "
                f'"input {name}: dim {axis} is %lld, this model needs %lld", '
                f"(long long)dims[{i}][{axis}], (long long){expected});"
            )
        for a, b in self.program.assumptions:
            left, right = scope.cxx(a), scope.cxx(b)
            checks.append(
                f"if ({left} != {right}) return bolt_fail(error, error_bytes, "
                f'"the inputs\' dims do not fit each other (%lld against %lld)", '
                f"(long long){left}, (long long){right});"
            )
        checks += self._positive(scope)
        return lines + scope.lines + checks

    def _positive(self, scope: Scope) -> list[str]:
        """Every run-time extent must be at least 1: kernels rely on it."""
        extents: dict[str, None] = {}
        whole = [s.links[-1].step if isinstance(s, Chain) else s for s in self.program.steps]
        for step in (s for s in whole if isinstance(s, Step)):
            for d in step.views[0].dims:
                if not isinstance(d, int):
                    extents.setdefault(scope.cxx(d))
        if not extents:
            return []
        smallest = " || ".join(f"{e} < 1" for e in extents)
        return [
            f"if ({smallest}) return bolt_fail(error, error_bytes, "
            '"an input is too small: some intermediate tensor would be empty");'
        ]

    def _slot_offsets(self, scope: Scope) -> list[str]:
        """Where each slot starts, as C++."""
        at: Dim | str = 0
        out = []
        for sizes in self.plan.slots:
            out.append(scope.name(at) if isinstance(at, str) and not at.isidentifier() else str(at))
            static = [s for s in sizes if isinstance(s, int)]
            if len(static) == len(sizes) and isinstance(at, int):
                at = at + align(max(static), self.dialect.alignment)
                continue
            size = _maximum([scope.cxx(s) for s in sizes])
            at = scope.name(f"{at} + {self.dialect.align}({size})")
        self.slots_end = str(at)
        return out

    def _sizes(self) -> list[str]:
        scope = Scope(self.spell, "z")
        self._slot_offsets(scope)
        scratch = max((self._scratch(step) for step in self.program.steps), default=0)
        return [*scope.lines, f"return {{{self.slots_end}, {scratch}}};"]

    def _scratch(self, step: AnyStep) -> int:
        """Bytes a thread needs for a step, beside the memory of values."""
        chosen = (self.candidates[spec.key] for spec in specs(step))
        most = max((c.family.scratch_bytes(c.spec, c.config, self.target) for c in chosen), default=0)
        kept = step.offsets(self.dialect.alignment)[-1] if isinstance(step, Chain) else 0
        return kept + align(most, self.dialect.alignment)

    def _output_dims(self) -> list[str]:
        scope = Scope(self.spell, "q")
        lines = [
            f"out[{i}][{axis}] = {scope.cxx(d)};"
            for i, value in enumerate(self.program.outputs)
            for axis, d in enumerate(value.dims)
        ]
        return scope.lines + lines

    def _output(self, index: int, value: Value) -> list[str]:
        dims = ", ".join(self.scope.cxx(d) for d in value.dims) or "0"
        return [
            f"const int64_t y{index}_dims[] = {{{dims}}};",
            f"char* const y{index} = static_cast<char*>(context->output(context->host, {index}, "
            f"y{index}_dims, {len(value.dims)}));",
            f"if (y{index} == nullptr) return bolt_fail(error, error_bytes, "
            f'"output {index} could not be allocated");',
            *self.dialect.check(f"y{index}", f"output {_format(value.name)}"),
        ]

    def _address(self, view: View) -> str:
        if view.buffer.kind == "temp" and view.buffer.name not in self.plan.slot_of:
            return "nullptr"  # rows of it are kept in a thread's buffer
        offset = D.mul(view.offset, view.dtype.size_bytes)
        return self._base(view.buffer, offset)

    def _base(self, buffer: Buffer, offset: Dim) -> str:
        at = self.scope.cxx(offset)
        if buffer.kind == "temp":
            slot = self.slots[self.plan.slot_of[buffer.name]]
            if slot.isdigit() and at.isdigit():
                return f"w + {int(slot) + int(at)}"
            return f"w + {slot} + {at}"
        if buffer.kind == "const":
            start = self.weights.add(self.program.constants[buffer.name])
            return f"const_cast<char*>(c + {start}) + {at}"
        if buffer.kind == "input":
            return f"static_cast<char*>(const_cast<void*>(inputs[{buffer.index}].data)) + {at}"
        assert buffer.kind == "output", buffer.kind
        return f"y{buffer.index} + {at}"

    def _step(self, index: int, step: AnyStep) -> dict[str, Any]:
        if isinstance(step, Chain):
            return self._chain(index, step)
        if isinstance(step, IntsStep):
            address = self._address(step.view)
            values = [self.scope.cxx(v) for v in step.values]
            lines = self.dialect.ints(step.view.dtype, address, values)
            return {"index": index, "comment": "known integers", "name": '"ints"', "lines": lines}
        candidate = self.candidates[step.spec.key]
        pointers = self._pointers(step, candidate)
        ints = ", ".join(self.scope.cxx(i) for i in step.ints())
        lines = [f"void* const p[] = {{{', '.join(pointers)}}};"]
        lines.append(f"const int64_t d[] = {{{ints}}};" if ints else "const int64_t* const d = nullptr;")
        lines.append(self.dialect.call(candidate.name, self._parallel(step)))
        comment = _comment(f"{step.spec.op}: {' + '.join(step.nodes) or 'layout'}")
        return {"index": index, "comment": comment, "name": json.dumps(comment), "lines": lines}

    def _chain(self, index: int, chain: Chain) -> dict[str, Any]:
        chosen = [self.candidates[link.spec.key] for link in chain.links]
        addresses = [self._pointers(link.step, c) for link, c in zip(chain.links, chosen, strict=True)]
        images = self.scope.cxx(chain.images)
        lines = chain_lines(chain, images, [c.name for c in chosen], addresses, self.dialect.alignment)
        bound = [link.step.bound(self.sample) for link in chain.links]
        parallel = sum(estimate_ns(b.flops(), b.bytes(), self.target) for b in bound) > PARALLEL_NS
        lines.append(
            f"bolt_chain(context, &chain, addresses, scratch, size.scratch, {str(parallel).lower()});"
        )
        comment = _comment(f"chain of {len(chain.links)}: {' + '.join(chain.nodes)}")
        return {"index": index, "comment": comment, "name": json.dumps(comment), "lines": lines}

    def _pointers(self, step: Step, candidate: Candidate) -> list[str]:
        """The address of each operand; of packed constants where they lie among the weights."""
        packed = self._packed(step, candidate)
        return [
            f"const_cast<char*>(c + {self.weights.add(packed[i])})" if i in packed else self._address(v)
            for i, v in enumerate(step.views)
        ]

    def _packed(self, step: Step, candidate: Candidate) -> dict[int, np.ndarray]:
        if not step.constants:
            return {}
        return candidate.family.pack(candidate.spec, candidate.config, self.target, step.constants)

    def _parallel(self, step: Step) -> str:
        """Whether the step is worth several threads: known now, or a comparison of its size at run time."""
        bound = step.bound(self.sample)
        ns = estimate_ns(bound.flops(), bound.bytes(), self.target)
        count = D.prod(step.views[0].dims)
        if isinstance(count, int):
            return "true" if ns > PARALLEL_NS else "false"
        per_element = ns / max(1, D.evaluate(count, self.sample))
        return f"{self.scope.cxx(count)} > {max(1, int(PARALLEL_NS / max(per_element, 1e-6)))}"


def estimate_ns(flops: int, bytes_: int, target: Target) -> float:
    """A roofline guess of a kernel's time on one core: 4 GHz at 75 % of the FMA peak, 40 GB/s."""
    return max(flops / (target.vector_lanes * target.fma_ports * 2 * 3.0), bytes_ / 40.0)


def _maximum(terms: Sequence[str]) -> str:
    out = terms[0]
    for term in terms[1:]:
        out = f"bolt_max({out}, {term})"
    return out


def _identifier(name: str) -> str:
    clean = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return clean if clean and not clean[0].isdigit() else f"_{clean}"


def _format(text: str) -> str:
    """`text` for use inside a format of printf."""
    return text.replace("%", "%%")


def _comment(text: str) -> str:
    """One printable line that can't end or continue a comment."""
    return "".join(c if c.isprintable() and c not in "\\?" else "_" for c in text)[:160]
