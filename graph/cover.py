"""Cover a model with lowered partitions; what turns out not to fit goes back to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bolt import dims as D
from bolt.graph.conventions import CPU, Conventions
from bolt.graph.draft import CannotLower
from bolt.graph.flops import flops
from bolt.graph.lowering import claim, lower
from bolt.graph.partition import Partition, partition
from bolt.graph.quantization import DEQUANTIZE, QUANTIZE
from bolt.graph.shapes import Shapes, rebase
from bolt.ops.spec import Spec
from bolt.program import Program, Step
from bolt.report import Rejection
from bolt.target import TARGETS
from bolt.types import EIGHT_BIT_FLOATS

Supports = Callable[[Spec], Rejection | None]

MIN_NODES = 4
"""A partition without any matrix product is worth a border crossing from this many nodes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """How a model is divided.

    Attributes:
        partitions: what bolt takes, with their programs in the same order.
        programs: one per partition.
        rejections: one per node left to ONNX Runtime.
        sizes: a typical value of every symbol of the programs.
        flops_share: share of the model's floating-point operations inside partitions (1.0 if it has none).
    """

    partitions: tuple[Partition, ...]
    programs: tuple[Program, ...]
    rejections: tuple[Rejection, ...]
    sizes: Mapping[str, int]
    flops_share: float


def cover(
    model: ir.Model,
    shapes: Shapes,
    sample: Mapping[str, int],
    supports: Supports,
    *,
    conventions: Conventions = CPU,
    everything: bool = False,
) -> Cover:
    """Partition `model` and lower every partition.

    Args:
        supports: None when some kernel family computes a spec, else why not.
        conventions: of the targets.
        everything: also take partitions too small to pay (tests of single operators).
    """
    opsets = dict(model.opset_imports)
    sizes = dict(sample)
    refused: dict[ir.Node, Rejection] = {}

    def supported(node: ir.Node) -> Rejection | None:
        if _touches_float8(node, shapes):
            if not conventions.has_float8:
                return _no("partition", node, f"8-bit floats have kernels on {_FLOAT8_TARGETS} only")
        elif node.op_type in (QUANTIZE, DEQUANTIZE) and not conventions.has_int8:
            return _no("partition", node, "the target has no products of 8-bit integers")
        return refused[node] if node in refused else claim(node, shapes)

    while True:
        parts, rejections = partition(model, supported)
        programs: list[Program] = []
        kept: list[Partition] = []
        before = len(refused)
        for part in parts:
            verdict = _border(part, shapes)
            if verdict is None and not everything:
                verdict = _worth(part, shapes, sample, parts)
            if verdict is None:
                lowered = _lowered(part, shapes, opsets, sizes, supports, conventions)
                verdict = lowered if isinstance(lowered, dict) else None
            if verdict is None:
                assert isinstance(lowered, Program)
                kept.append(part)
                programs.append(lowered)
            else:
                refused |= verdict
        if len(refused) == before:
            return Cover(
                partitions=tuple(kept),
                programs=tuple(programs),
                rejections=rejections,
                sizes=sizes,
                flops_share=_share(model, kept, shapes, sample),
            )


def _lowered(
    part: Partition,
    shapes: Shapes,
    opsets: dict[str, int],
    sizes: dict[str, int],
    supports: Supports,
    conventions: Conventions,
) -> Program | dict[ir.Node, Rejection]:
    """The program, or the nodes to leave out before trying again; adds sizes of symbols it introduces."""
    local = rebase(shapes, part.nodes, part.inputs, opsets)
    sizes |= {name: D.evaluate(d, sizes) for name, d in local.origins.items()}
    try:
        program = lower(
            part,
            local,
            opset=opsets.get("", 1),
            sample=sizes,
            conventions=conventions,
            supports=supports,
        )
    except CannotLower as error:
        return {error.node: _no("lower", error.node, error.reason)}
    unbound = program.used_symbols() - program.bound_symbols()
    if unbound:
        reason = f"its shapes need {', '.join(sorted(unbound))}, which none of its inputs shows"
        return {node: _no("lower", node, reason) for node in part.nodes}
    by_name = {n.name or n.op_type: n for n in part.nodes}
    refused: dict[ir.Node, Rejection] = {}
    for step in program.steps:
        verdict = supports(step.spec) if isinstance(step, Step) else None
        if verdict is not None:
            assert isinstance(step, Step)
            nodes = [by_name[n] for n in step.nodes if n in by_name] or list(part.nodes)
            refused |= {n: _no("supports", n, verdict.reason) for n in nodes}
    return refused or program


def _touches_float8(node: ir.Node, shapes: Shapes) -> bool:
    return any(shapes.dtype(v) in EIGHT_BIT_FLOATS for v in (*node.inputs, *node.outputs))


_FLOAT8_TARGETS = ", ".join(t.name for t in TARGETS if t.has_float8)


def _border(part: Partition, shapes: Shapes) -> dict[ir.Node, Rejection] | None:
    """Refuse the nodes that would make 8-bit floats enter or leave the partition."""
    crossing = {v for v in (*part.inputs, *part.outputs) if shapes.dtype(v) in EIGHT_BIT_FLOATS}
    reason = "8-bit floats neither enter nor leave a module"
    found = [n for n in part.nodes if crossing & {*n.inputs, *n.outputs}]
    return {n: _no("partition", n, reason) for n in found} or None


def _worth(
    part: Partition, shapes: Shapes, sample: Mapping[str, int], parts: tuple[Partition, ...]
) -> dict[ir.Node, Rejection] | None:
    """Refuse small partitions without a matrix product, unless there is nothing else."""
    if len(part.nodes) >= MIN_NODES or len(parts) == 1 or any(flops(n, shapes, sample) for n in part.nodes):
        return None
    reason = "too little work between operators that bolt does not have"
    return {n: _no("partition", n, reason) for n in part.nodes}


def _no(stage: str, node: ir.Node, reason: str) -> Rejection:
    return Rejection(stage=stage, subject=node.name or node.op_type, reason=reason)


def _share(model: ir.Model, parts: list[Partition], shapes: Shapes, sample: Mapping[str, int]) -> float:
    total = sum(flops(n, shapes, sample) for n in model.graph)
    taken = sum(flops(n, shapes, sample) for p in parts for n in p.nodes)
    return taken / total if total else float(bool(parts))
