"""The device code of a GEMM: one unit for each tile, epilogue, layout and alignment, whatever the sizes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from bolt.codegen import evt
from bolt.codegen.render import render
from bolt.kernels.cutlass_gemm_problem import WIDEST, GemmConfig, Problem, Vectors, tile_for
from bolt.kernels.cutlass_streamk import MANY, SPARE
from bolt.kernels.cutlass_tiles import THREE_PRODUCTS
from bolt.kernels.family import Source
from bolt.target import Target
from bolt.types import BF16, F16, F32, S8

CXX = {F32: "float", F16: "cutlass::half_t", BF16: "cutlass::bfloat16_t", S8: "int8_t"}
ACCUMULATORS = {"f32": "float", "s32": "int32_t"}
OPERATORS = {
    "multiply_add": "OpMultiplyAdd",
    "multiply_add_saturate": "OpMultiplyAddSaturate",
    THREE_PRODUCTS: "OpMultiplyAddFastF32",
}


def _layout(is_row_major: bool | None) -> str:
    return "RowMajor" if is_row_major else "ColumnMajor"


def _output_element(problem: Problem, vectors: Vectors) -> tuple[str, int]:
    """(type, vector) by which threads share an output tile; what they store may be another type.

    Behind integer accumulators CUTLASS has no layout for narrow vectors of 16 bits.
    """
    out = problem.spec.out.dtype
    element = problem.element
    assert element is not None
    if element.accumulator == "s32" and out != F32 and vectors.d < 8:
        return "float", min(vectors.d, 4)
    return CXX[out], vectors.d


def _misaligned(problem: Problem, vectors: Vectors) -> list[str]:
    """C++ conditions over the arguments `g` under which the unit can't run."""
    found: list[str] = []
    rows = (
        ("a", "k" if problem.a_is_row_major else "m", "m" if problem.a_is_row_major else "k", vectors.a),
        ("b", "n" if problem.b_is_row_major else "k", "k" if problem.b_is_row_major else "n", vectors.b),
        ("d", "n", "m", vectors.d),
    )
    for name, inner, outer, vector in rows:
        if vector == 1:
            continue
        size = problem.spec.out.dtype.size_bytes if name == "d" else problem.dtype.size_bytes
        parts = [
            f"g.{inner} % {vector}",
            f"(g.{outer} > 1 && g.ld{name} % {vector})",
            f"g.{name}_batch % {vector}",
        ]
        found.append(" || ".join([*parts, f"!bolt::is_aligned(g.{name}, {vector * size})"]))
    for index, extra in enumerate(problem.extras):
        found += _misaligned_extra(index, extra, vectors.d)
    return found


def _misaligned_extra(index: int, extra: evt.Extra, vector: int) -> list[str]:
    if extra.kind not in ("row", "full"):
        return []
    size = extra.dtype.size_bytes
    bytes_ = min(WIDEST, vector * size)
    if bytes_ == size:
        return []
    entry = f"g.extras[{index}]"
    parts = [f"!bolt::is_aligned({entry}.data, {bytes_})", f"{entry}.strides[0] % {bytes_ // size}"]
    if extra.kind == "full":
        parts.append(f"(g.m > 1 && {entry}.strides[1] % {bytes_ // size})")
    return [" || ".join(parts)]


def unit_source(problem: Problem, config: GemmConfig, vectors: Vectors, target: Target) -> Source:
    """The device code of a GEMM for operands aligned as `vectors` says."""
    assert target.gpu is not None and problem.element is not None
    spec, tile = problem.spec, tile_for(config.tile, vectors, target)
    tree = evt.tree(spec.epilogue, problem.extras, spec.out.dtype, d="g.d", row="g.ldd", batch="g.d_batch")
    is_streamk = config.schedule == "stream"
    d_type, align_d = _output_element(problem, vectors)
    context = {
        "title": f"GEMM, tile {tile.name}" + (", stream-K" if is_streamk else ""),
        "functor": tree.functor,
        "types": tree.types,
        "arguments": tree.arguments,
        "block": ", ".join(map(str, tile.shape)),
        "warp": ", ".join(map(str, tile.warp)),
        "instruction": ", ".join(map(str, tile.instruction)),
        "threads": tile.threads,
        "stages": tile.stages,
        "opclass": tile.opclass,
        "arch": tile.arch,
        "operator": OPERATORS[tile.math_op],
        "accumulator": ACCUMULATORS[tile.accumulator],
        "a_type": CXX[problem.dtype],
        "b_type": CXX[problem.dtype],
        "d_type": d_type,
        "a_layout": _layout(problem.a_is_row_major),
        "b_layout": _layout(problem.b_is_row_major),
        "align_a": vectors.a,
        "align_b": vectors.b,
        "align_d": align_d,
        "is_streamk": is_streamk,
        "swizzle": "ThreadblockSwizzleStreamK" if is_streamk else "GemmIdentityThreadblockSwizzle<1>",
        "kernel": "GemmWithEpilogueVisitorStreamk" if is_streamk else "GemmWithEpilogueVisitor",
        "many": MANY,
        "spare": SPARE,
        "multiprocessors": target.gpu.multiprocessors,
        "smem_limit": target.gpu.smem_bytes,
        "alignments": _misaligned(problem, replace(vectors, d=align_d)),
    }
    key = hashlib.sha256(render("cutlass_gemm_sm80.cu.jinja", {**context, "name": "NAME"}).encode())
    name = f"bolt_gemm_{key.hexdigest()[:16]}"
    return Source(
        name=name, text=render("cutlass_gemm_sm80.cu.jinja", {**context, "name": name}), language="cuda"
    )
