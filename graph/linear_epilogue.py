"""Epilogues of quantized values with fewer operations.

What dequantizes, adds and quantizes again is one linear expression after another. Here each is written as a
sum of multiples and a constant, one multiply-add per term:

    ((q - z) * s + (r - y) * t) * u  =  q * (s u) + r * (t u) - (z s + y t) u
"""

from __future__ import annotations

from dataclasses import dataclass

from bolt.epilogue import Builder, Epilogue


@dataclass(frozen=True, slots=True)
class _Sum:
    """sum(factor * term) + constant.

    Attributes:
        terms: (node of the new expression, factor), or (a sum whose negative values count as 0, factor).
        constant: what is added.
    """

    terms: tuple[tuple[int | _Sum, float], ...] = ()
    constant: float = 0.0

    def times(self, factor: float) -> _Sum:
        return _Sum(tuple((t, f * factor) for t, f in self.terms), self.constant * factor)

    def plus(self, other: _Sum) -> _Sum:
        factors = dict(self.terms)
        for term, factor in other.terms:
            factors[term] = factors.get(term, 0.0) + factor
        return _Sum(tuple(factors.items()), self.constant + other.constant)


def merge_scales(epilogue: Epilogue) -> Epilogue:
    """The same expression with neighbouring additions and multiplications by constants merged.

    Sums are computed in another order, so that results may be off by a few roundoffs of the largest term.
    """
    return _Merger().run(epilogue)


class _Merger:
    def __init__(self) -> None:
        self.builder = Builder()
        self.sums: list[_Sum] = []

    def run(self, epilogue: Epilogue) -> Epilogue:
        for node in epilogue.nodes:
            args = [self.sums[a] for a in node.args]
            self.sums.append(self._sum(node.op, args, node.params))
        return self.builder.finish(self._emit(self.sums[-1])) if self.sums else epilogue

    def _sum(self, op: str, args: list[_Sum], params: tuple[float, ...]) -> _Sum:
        if op == "const":
            return _Sum(constant=params[0])
        if op in ("acc", "in"):
            leaf = self.builder.acc() if op == "acc" else self.builder.input(int(params[0]))
            return _Sum(((leaf, 1.0),))
        if op in ("add", "sub"):
            return args[0].plus(args[1].times(-1.0 if op == "sub" else 1.0))
        if op == "neg":
            return args[0].times(-1.0)
        if op == "mul":
            for one, other in (args, args[::-1]):
                if not one.terms:
                    return other.times(one.constant)
        if op == "relu":
            return _Sum(((args[0], 1.0),))
        nodes = [self._emit(a) for a in args]
        return _Sum(((self.builder.op(op, *nodes, params=params), 1.0),))

    def _emit(self, value: _Sum) -> int:
        """The node that computes `value`."""
        build, result = self.builder, None
        for term, factor in value.terms:
            product = self._product(term, factor)
            result = product if result is None else build.op("add", result, product)
            if result is product and value.constant:
                result = build.op("add", result, build.const(value.constant))
        return build.const(value.constant) if result is None else result

    def _product(self, term: int | _Sum, factor: float) -> int:
        build = self.builder
        if isinstance(term, _Sum):  # max(a, 0) * f = max(a * f, 0) for f > 0
            inner = term.times(factor) if factor > 0 else term
            node = build.op("relu", self._emit(inner))
            factor = 1.0 if factor > 0 else factor
        else:
            node = term
        return node if factor == 1.0 else build.op("mul", node, build.const(factor))
