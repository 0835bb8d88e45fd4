"""Results as a picture."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from bolt.bench.result import Result


def plot(result: Result, path: Path) -> bool:
    """Draws how many times faster bolt is, one bar per case and peer; False when matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None or not result.peers:
        return False
    rows = [row for row in result.rows if row.ratios]
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(9, 1.2 + 0.28 * len(rows) * len(result.peers)), layout="constrained"
    )
    axes = figure.subplots()
    height = 0.8 / len(result.peers)
    for index, peer in enumerate(result.peers):
        at = [(i - index * height, row.ratios[peer]) for i, row in enumerate(rows) if peer in row.ratios]
        spread = [[r.median - r.low for _, r in at], [r.high - r.median for _, r in at]]
        axes.barh([y for y, _ in at], [r.median for _, r in at], height, xerr=spread, label=f"over {peer}")
    axes.set_yticks(range(len(rows)), [f"{row.model} {row.case} {row.threads}T" for row in rows])
    axes.invert_yaxis()
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("times faster (median of rounds; whiskers 10-90 %)")
    axes.set_title(
        f"{result.machine['cpu']}, {result.machine['target']}, {result.machine['date']}", fontsize=9
    )
    figure.legend(loc="outside lower right")
    figure.savefig(path)
    return True
