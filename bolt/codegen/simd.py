"""Epilogue -> C++ statements over the vector type `vf` of `bolt/simd.h`."""

from __future__ import annotations

from collections.abc import Callable

from bolt.codegen.cxx import f32
from bolt.epilogue import OPS, Epilogue
from bolt.ops.spec import Operand, Spec
from bolt.types import BF16, F32, LARGEST


def emit(
    epilogue: Epilogue, *, acc: str, load: Callable[[int], str], prefix: str = "e", coarse: bool = False
) -> tuple[list[str], str]:
    """The statements that compute `epilogue` for one vector, and the name of the result.

    Args:
        epilogue: the expression.
        acc: C++ expression (type `vf`) of the accumulator; evaluated at most once.
        load: C++ expression (type `vf`) that loads epilogue input `i` for the current vector.
        prefix: start of the names of the temporaries.
        coarse: functions need no better accuracy than a result in BF16 has.

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
            simd = _COARSE[node.op] if coarse and node.op in _COARSE else OPS[node.op].simd
            text = simd.format(*args, **params)
        lines.append(f"const vf {prefix}{index} = {text};")
    return lines, f"{prefix}{len(epilogue.nodes) - 1}"


_COARSE = {op: f"v{op}_coarse({{0}})" for op in ("sigmoid", "silu", "gelu", "gelu_tanh", "mish")}
"""Operations that `bolt/coarse.h` has with a relative error of 2^-12 or so."""


def stored(spec: Spec, value: str) -> str:
    """`value` ready to be stored: what may be a mask of -3.4e38 must not become -inf in BF16."""
    return f"bf16_range({value})" if spec.out.dtype is BF16 and _may_mask(spec) else value


def _may_mask(spec: Spec) -> bool:
    """Whether numbers near the end of fp32's range may come in: constants, fp32 elements (biases aside)."""
    constants = (abs(n.params[0]) for n in spec.epilogue.nodes if n.op == "const")
    return any(c > LARGEST[BF16] / 2 for c in constants) or any(map(_is_spread, spec.extras))


def _is_spread(extra: Operand) -> bool:
    """Whether an epilogue input holds fp32 values beyond one per channel."""
    outer = zip(extra.dims[:-1], extra.strides[:-1], strict=True)
    return extra.dtype is F32 and any(d != 1 and s != 0 for d, s in outer)
