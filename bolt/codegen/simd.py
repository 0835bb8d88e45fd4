"""Epilogue -> C++ statements over the vector type `vf` of `bolt/simd.h`."""

from __future__ import annotations

from collections.abc import Callable

from bolt.codegen.cxx import f32
from bolt.epilogue import OPS, Epilogue


def emit(
    epilogue: Epilogue, *, acc: str, load: Callable[[int], str], prefix: str = "e"
) -> tuple[list[str], str]:
    """The statements that compute `epilogue` for one vector, and the name of the result.

    Args:
        epilogue: the expression.
        acc: C++ expression (type `vf`) of the accumulator; evaluated at most once.
        load: C++ expression (type `vf`) that loads epilogue input `i` for the current vector.
        prefix: start of the names of the temporaries.

    Returns:
        (statements, expression): e.g. (["vf e0 = a;", "vf e1 = e0 + ..."], "e1").
    """
    if not epilogue.nodes:
        return [], acc
    lines: list[str] = []
    for index, node in enumerate(epilogue.nodes):
        if node.op == "acc":
            text = acc
        elif node.op == "in":
            text = load(int(node.params[0]))
        elif node.op == "const":
            text = f"vset({f32(node.params[0])})"
        else:
            args = [f"{prefix}{a}" for a in node.args]
            params = {f"p{i}": f"vset({f32(p)})" for i, p in enumerate(node.params)}
            text = OPS[node.op].simd.format(*args, **params)
        lines.append(f"const vf {prefix}{index} = {text};")
    return lines, f"{prefix}{len(epilogue.nodes) - 1}"
