"""How near the large convolutions and GEMMs of a result are to the machine's peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bolt.bench.layers import Layer
from bolt.bench.result import Result
from bolt.bench.why import why

LARGE = 100_000_000
"""Floating-point operations of a step that counts as large."""
GOOD = 0.9
POOR = 0.6
_FEWER_PRODUCTS = ("cpu_winograd",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """The large steps of one kind of rows with one number of threads.

    Attributes:
        kind: see `bolt.bench.result.Row`.
        threads: of the runs.
        steps: (model, step) of each.
    """

    kind: str
    threads: int
    steps: tuple[tuple[str, Layer], ...]

    @property
    def mean(self) -> float:
        """Share of the peak, weighted by time."""
        layers = [layer for _, layer in self.steps]
        return sum(_of_peak(layer) * layer.us for layer in layers) / _us(layers)

    def __str__(self) -> str:
        layers = [layer for _, layer in self.steps]
        good = [layer for layer in layers if _of_peak(layer) >= GOOD]
        poor = [(model, layer) for model, layer in self.steps if _of_peak(layer) < POOR]
        models: dict[str, dict[str, None]] = {}
        for model, layer in poor:
            models.setdefault(why(layer), {})[model] = None
        named = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in models.items())
        return (
            f"convolutions and GEMMs of {LARGE / 1e6:.0f} MFLOP and more, {self.kind} {self.threads}T: "
            f"{len(layers)} at {self.mean:.0%} of the peak, {len(good)} of them "
            f"({_us(good) / _us(layers):.0%} of their time) at {GOOD:.0%} or more, "
            f"{len(poor)} below {POOR:.0%}"
        ) + (f": {named}" if poor else "")


def products(result: Result) -> list[Products]:
    """One entry per kind and number of threads that has any.

    Winograd, which saves products, and steps that memory limits (GEMV) are left out.
    """
    found: dict[tuple[str, int], list[tuple[str, Layer]]] = {}
    for row in result.rows:
        large = [(row.model, step) for step in row.layers if _is_large(step)]
        found.setdefault((row.kind, row.threads), []).extend(large)
    return [Products(kind=k, threads=t, steps=tuple(steps)) for (k, t), steps in found.items() if steps]


def _is_large(layer: Layer) -> bool:
    if layer.mnk is None or layer.family in _FEWER_PRODUCTS or not (layer.of_peak and layer.of_roof):
        return False
    return (layer.flops or 0) >= LARGE and layer.of_roof <= 1.01 * layer.of_peak


def _of_peak(layer: Layer) -> float:
    return layer.of_peak or 0.0


def _us(layers: Sequence[Layer]) -> float:
    return sum(layer.us for layer in layers)
