"""Results as a picture."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bolt.bench.result import Result, Row

_ROW_HEIGHT = 0.2
_WIDEST = 5.0
"""Ratios beyond this are cut off and written out: one slow peer would flatten all others."""


def plot(result: Result, path: Path) -> bool:
    """Draws how many times faster bolt is, one bar per case and peer; False when matplotlib is missing.

    Cases with one thread stand beside those with several, and every kind has a row of its own.
    """
    rows = [row for row in result.rows if row.ratios]
    if importlib.util.find_spec("matplotlib") is None or not rows:
        return False
    kinds = list(dict.fromkeys(row.kind for row in rows))
    counts = sorted({row.threads for row in rows})
    parts = [[_picked(rows, kind, threads) for threads in counts] for kind in kinds]
    heights = [1 + _ROW_HEIGHT * max(len(part) for part in line) * len(result.peers) for line in parts]
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(3 + 5 * len(counts), 1 + sum(heights)), layout="constrained"
    )
    places = figure.subplots(len(parts), len(counts), squeeze=False, height_ratios=heights)
    for line, kind, axes in zip(parts, kinds, places, strict=True):
        for part, threads, one in zip(line, counts, axes, strict=True):
            one.set_title(f"{kind}, {threads} thread{'s' if threads > 1 else ''}", fontsize=9)
            _bars(one, part, result.peers)
    machine = result.machine
    figure.suptitle(f"times faster: {machine['cpu']}, {machine['target']}, {machine['date']}", fontsize=9)
    figure.savefig(path)
    return True


def _picked(rows: Sequence[Row], kind: str, threads: int) -> list[Row]:
    return [row for row in rows if (row.kind, row.threads) == (kind, threads)]


def _bars(axes: Any, rows: Sequence[Row], peers: Sequence[str]) -> None:
    """Bars of the median of rounds, whiskers of their middle 80 %."""
    height = 0.8 / len(peers)
    for index, peer in enumerate(peers):
        at = [(i - index * height, row.ratios[peer]) for i, row in enumerate(rows) if peer in row.ratios]
        low = [max(0.0, min(r.median, _WIDEST) - r.low) for _, r in at]
        high = [max(0.0, min(r.high, _WIDEST) - min(r.median, _WIDEST)) for _, r in at]
        lengths = [min(r.median, _WIDEST) for _, r in at]
        axes.barh([y for y, _ in at], lengths, height, xerr=[low, high], label=peer, error_kw={"lw": 0.7})
        for y, ratio in at:
            if ratio.median > _WIDEST:
                axes.text(_WIDEST, y, f" {ratio.median:.0f}", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [f"{row.model} {row.case.split()[0]}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.legend(fontsize=7)
