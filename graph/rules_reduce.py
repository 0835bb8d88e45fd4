"""Shape rules of matrix products, reductions, recurrences and selection."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bolt import dims
from bolt.dims import Dim
from bolt.graph import bounds
from bolt.graph.rules_pointwise import Rule
from bolt.graph.site import Fact, Site, Unknown, normalize, objects


def matmul(site: Site, dtype: ir.DataType | None = None) -> list[Fact]:
    a, b = list(site.dims(0)), list(site.dims(1))
    if not a or not b:
        raise Unknown
    row, column = len(a) == 1, len(b) == 1
    a, b = ([1, *a] if row else a), ([*b, 1] if column else b)
    site.same(a[-1], b[-2])
    out = [*site.broadcast(a[:-2], b[:-2]), a[-2], b[-1]]
    if row:
        del out[-2]
    if column:
        del out[-1]
    return [Fact(tuple(out), dtype or site.dtype())]


def matmul_integer(site: Site) -> list[Fact]:
    return matmul(site, ir.DataType.INT32)


def quantized_matmul(site: Site) -> list[Fact]:
    return matmul(site, ir.DataType.FLOAT)


def qlinear_matmul(site: Site) -> list[Fact]:
    a, b = site.dims(0), site.dims(3)
    if len(a) < 2 or len(b) < 2:
        raise Unknown
    site.same(a[-1], b[-2])
    return [Fact((*site.broadcast(a[:-2], b[:-2]), a[-2], b[-1]), site.dtype(7))]


def gemm(site: Site) -> list[Fact]:
    a, b = site.dims(0), site.dims(1)
    if len(a) != 2 or len(b) != 2:
        raise Unknown
    m, k = reversed(a) if site.attr("transA", 0) else a
    kb, n = reversed(b) if site.attr("transB", 0) else b
    site.same(k, kb)
    return [Fact((m, n), site.dtype())]


def einsum(site: Site) -> list[Fact]:
    left, arrow, right = str(site.attr("equation")).replace(" ", "").partition("->")
    if "." in left or any(len(t) != len(site.dims(i)) for i, t in enumerate(left.split(","))):
        raise Unknown
    extents: dict[str, Dim] = {}
    for index, term in enumerate(left.split(",")):
        for letter, extent in zip(term, site.dims(index), strict=True):
            extents[letter] = site.same(extents.get(letter, extent), extent)
    letters = right if arrow else "".join(sorted(c for c in extents if left.count(c) == 1))
    return [Fact(tuple(extents[c] for c in letters), site.dtype())]


def _reduced(extents: tuple[Dim, ...], axes: set[int], keep: bool) -> tuple[Dim, ...]:
    kept = [1 if i in axes else d for i, d in enumerate(extents)]
    return tuple(d for i, d in enumerate(kept) if keep or i not in axes)


def reduction(fold: Callable[[Dim, Dim], Dim] | None = None) -> Rule:
    """Rule of a Reduce operator; `fold` combines known contents reduced as a whole."""

    def rule(site: Site) -> list[Fact]:
        extents = site.dims()
        axes = site.ints(1, "axes", default=())
        if not axes and site.attr("noop_with_empty_axes", 0):
            return [Fact(extents, site.dtype())]
        chosen = {normalize(a, len(extents)) for a in axes} or set(range(len(extents)))
        out = _reduced(extents, chosen, bool(site.attr("keepdims", 1)))
        content = site.try_content(0)
        if content is None or fold is None or len(extents) != 1 or not content.size:
            return [Fact(out, site.dtype())]
        total: Dim = content[0]
        for element in content[1:]:
            total = fold(total, element)
        return [Fact(out, site.dtype(), objects([total], (1,) * len(out)))]

    return rule


def arg_reduction(site: Site) -> list[Fact]:
    keep = bool(site.attr("keepdims", 1))
    return [Fact(_reduced(site.dims(), {site.axis()}, keep), ir.DataType.INT64)]


def top_k(site: Site) -> list[Fact]:
    out = list(site.dims())
    k = site.attr("k") if "k" in site.node.attributes else site.content(1).reshape(-1)[0]
    out[site.axis(default=-1)] = k
    return [Fact(tuple(out), site.dtype()), Fact(tuple(out), ir.DataType.INT64)]


def recurrent(states: int) -> Rule:
    """Rule of RNN, GRU (one state) and LSTM (two)."""

    def rule(site: Site) -> list[Fact]:
        first, second, _ = site.dims()
        by_batch = bool(site.attr("layout", 0))
        sequence, batch = (second, first) if by_batch else (first, second)
        directions = 2 if site.attr("direction", "forward") == "bidirectional" else 1
        hidden = site.attr("hidden_size") or site.dims(2)[2]
        out = (batch, sequence, directions, hidden) if by_batch else (sequence, directions, batch, hidden)
        state = (batch, directions, hidden) if by_batch else (directions, batch, hidden)
        return [Fact(out, site.dtype()), *[Fact(state, site.dtype())] * states]

    return rule


def attention(site: Site) -> list[Fact]:
    """Attention: output of the query's layout, the cache grown by the new keys, and the scores."""
    q, k, v = site.dims(0), site.dims(1), site.dims(2)
    if len(q) != 4:
        heads: Dim = int(site.attr("q_num_heads"))
        kv_heads = int(site.attr("kv_num_heads"))
        value_width = bounds.floordiv(v[2], kv_heads)
        out: tuple[Dim, ...] = (q[0], q[1], dims.mul(heads, value_width))
        key: tuple[Dim, ...] = (q[0], kv_heads, k[1], bounds.floordiv(k[2], kv_heads))
        value: tuple[Dim, ...] = (q[0], kv_heads, v[1], value_width)
    else:
        heads, out, key, value = q[1], (q[0], q[1], q[2], v[3]), k, v
    if site.has(4):
        past = site.dims(4)[2]
        key = (*key[:2], dims.add(past, key[2]), key[3])
        value = (*value[:2], dims.add(past, value[2]), value[3])
    scores = (q[0], heads, q[-2], key[2])
    kinds = (0, 1, 2, 0)
    return [Fact(d, site.dtype(i)) for d, i in zip((out, key, value, scores), kinds, strict=True)]


def stft(site: Site) -> list[Fact]:
    """Frames of a signal (batch, samples, 1 or 2); one-sided unless told otherwise."""
    signal = site.dims()
    step = site.ints(1, None)[0]
    length = site.dims(2)[0] if site.has(2) else site.ints(3, None)[0]
    frames = dims.add(bounds.floordiv(dims.sub(signal[1], length), step), 1)
    bins = dims.add(bounds.floordiv(length, 2), 1) if site.attr("onesided", 1) else length
    return [Fact((signal[0], frames, bins, 2), site.dtype())]


_PLAIN_REDUCTIONS = "ReduceMean ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare"

RULES: dict[str, Rule] = {
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
    "QuantizedMatMul": quantized_matmul,
    "QLinearMatMul": qlinear_matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    **dict.fromkeys(_PLAIN_REDUCTIONS.split(), reduction()),
    "ReduceProd": reduction(dims.mul),
    "ReduceSum": reduction(dims.add),
    "ReduceMax": reduction(bounds.maximum),
    "ReduceMin": reduction(bounds.minimum),
    "ArgMax": arg_reduction,
    "ArgMin": arg_reduction,
    "TopK": top_k,
    "RNN": recurrent(1),
    "GRU": recurrent(1),
    "LSTM": recurrent(2),
    "Attention": attention,
    "STFT": stft,
}
