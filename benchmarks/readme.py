"""The tables of the project's README, made from result files and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bolt.bench import support
from bolt.bench.result import Result, Row
from bolt.target import CUDA_TARGETS

PERFORMANCE = ("<!-- performance: begin -->", "<!-- performance: end -->")
SUPPORT = ("<!-- support: begin -->", "<!-- support: end -->")


def with_performance(text: str, results: Sequence[Result]) -> str:
    """`text` with what stands between the marks replaced by the table of `results`."""
    return _between(PERFORMANCE, text, performance(results))


def with_support(text: str, cells: Sequence[support.Cell]) -> str:
    """`text` with what stands between the marks replaced by the table of CUDA kernels."""
    return _between(SUPPORT, text, support.table(cells, [t.name for t in reversed(CUDA_TARGETS)]))


def _between(marks: tuple[str, str], text: str, table: str) -> str:
    begin, end = marks
    return re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.S
    )


def performance(results: Sequence[Result]) -> str:
    """A table with one line per model, number of threads and case, and the geometric means."""
    peers = list(dict.fromkeys(p for r in results for p in r.peers))
    lines = [
        _where(results[0].machine),
        "",
        "| model | input | threads | "
        + " | ".join(f"x {p} (10-90 %)" for p in peers)
        + " | bolt ms | error |",
        "|---|---|---|" + "---|" * (len(peers) + 2),
    ]
    lines += [_line(row, peers) for result in results for row in result.rows]
    means = [
        f"{mean:.2f}x {peer} with {threads} thread{'s' if threads > 1 else ''}"
        for result in results
        for threads in sorted({row.threads for row in result.rows})
        for peer in peers
        if (mean := result.mean_ratio(peer, threads)) is not None
    ]
    return "\n".join([*lines, "", f"Geometric means over the models: {'; '.join(means)}."])


def _where(machine: Mapping[str, Any]) -> str:
    versions = machine["versions"]
    peers = ", ".join(f"{n} {versions[n]}" for n in ("ONNX Runtime", "OpenVINO", "PyTorch") if n in versions)
    return (
        "How many times faster than its peers bolt runs, fp32, side by side on "
        f"{machine['cpu']} ({machine['target']}, {machine['cores']} cores) with {peers}; "
        f"commit {machine['commit']}, {machine['date'][:10]}:"
    )


def _line(row: Row, peers: Sequence[str]) -> str:
    ratios = [
        f"{r.median:.2f} ({r.low:.2f}-{r.high:.2f})" if (r := row.ratios.get(p)) else "-" for p in peers
    ]
    bolt = row.engines["bolt"]
    ms = f"{bolt.timing.median_ms:.2f}" if bolt.timing else "-"
    error = "-" if bolt.error is None else f"{bolt.error:.0e}"
    return f"| {row.model} | {row.case} | {row.threads} | {' | '.join(ratios)} | {ms} | {error} |"
