"""The tables of the project's README, made from result files and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks.floors import batch, ratios
from bolt.bench import support
from bolt.bench.products import products
from bolt.bench.result import Result, Row, load
from bolt.target import CUDA_TARGETS

PERFORMANCE = ("<!-- performance: begin -->", "<!-- performance: end -->")
SUPPORT = ("<!-- support: begin -->", "<!-- support: end -->")

RESULTS = Path(__file__).parent / "results"

PUBLISHED = {
    "cpu-fp32.json": ("full", "1,8"),
    "cpu-bf16.json": ("bf16", "1"),
    "cpu-int8.json": ("int8", "1"),
    "cpu-avx2.json": ("avx2", "1"),
    "cpu-peers.json": ("peers", "1"),
}
"""Result file -> suite and batch sizes."""

TITLES = {
    "fp32": "fp32",
    "bf16": "bf16 (OpenVINO runs bf16 too; ONNX Runtime has no bf16 kernels for x86 and runs fp32)",
    "int8": "int8 (the same quantized file in every engine)",
    "fp32 x86-avx2": "fp32 without AVX-512 (bolt's target `x86-avx2`; OpenVINO is kept to AVX2, too, ONNX "
    "Runtime can't be and uses AVX-512)",
}
_BATCHES = (1, 8)
_EVERY = "beside every peer (`ort_best`: its best settings; TVM is built without tuning)"
_RANGED = 4
"""Columns of ratios that a table has room to show with their ranges."""
_DOUBT = (
    "\\* something else was running: the machine's measured fp32 limit changed by more than 10 % meanwhile."
)


def published() -> list[Result]:
    """The results the README shows, a table each."""
    return [load(path) for path in map(RESULTS.joinpath, PUBLISHED) if path.exists()]


def with_performance(text: str, results: Sequence[Result]) -> str:
    """`text` with what stands between the marks replaced by the tables of `results`."""
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
    """A table for each kind of each result: a line per model and batch size, a column per peer."""
    whole = reduce(lambda left, right: left.with_rows(right.rows), results)
    parts = [_where(whole)]
    for result, (kind, title) in product(results, TITLES.items()):
        part = result.of(kind)
        rows = [row for row in part.rows if row.ratios]
        if rows:
            others = f", {_EVERY}" if len(part.peers) * 2 > _RANGED else ""
            parts += [f"**{title}{others}**", *_table(part, kind, rows), *_large_products(part)]
    if not all(row.steady for row in whole.rows):
        parts.append(_DOUBT)
    return "\n\n".join(parts)


def _where(whole: Result) -> str:
    machine = whole.machine
    commits = dict.fromkeys(row.commit or machine["commit"] for row in whole.rows)
    where = f"{machine['cpu']} ({machine['target']}, {machine['cores']} cores)"
    named = ", ".join(commit or "unknown" for commit in commits)
    return (
        "How many times faster than its peers bolt runs (median of rounds; in brackets the range of the "
        f"middle 80 %), side by side on {where} with {_peers(machine)}; commit {named}, "
        f"{machine['date'][:10]}:"
    )


def _peers(machine: Mapping[str, Any]) -> str:
    versions = machine["versions"]
    names = ("ONNX Runtime", "OpenVINO", "PyTorch", "TVM")
    return ", ".join(f"{name} {versions[name]}" for name in names if name in versions)


def _table(part: Result, kind: str, rows: Sequence[Row]) -> Iterator[str]:
    counts = sorted({row.threads for row in rows})
    columns = [(peer, threads) for peer in part.peers for threads in counts]
    head = "| model | input | " + " | ".join(f"x {peer} {threads}T" for peer, threads in columns)
    lines = [f"{head} | {' | '.join(f'bolt ms {t}T' for t in counts)} | error |"]
    lines += ["|---|---|" + "---|" * (len(columns) + len(counts) + 1)]
    by_place: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        by_place.setdefault((row.model, row.case), {})[row.threads] = row
    shown = _compact(by_place)
    lines += [_line(model, case, by_place[model, case], columns, counts) for model, case in shown]
    yield "\n".join([*lines, *_mean_lines(part, kind, columns, len(counts))])


def _large_products(part: Result) -> Iterator[str]:
    """How near the large steps are to the machine's peak, a line for each number of threads."""
    lines = [f"- {found}" for found in products(part)]
    yield from ["\n".join(lines)] if lines else []


def _compact(places: Mapping[tuple[str, str], object]) -> list[tuple[str, str]]:
    """One case of each model and batch size; a model's other cases are in the result files."""
    kept: dict[tuple[str, int], tuple[str, str]] = {}
    for model, case in places:
        kept.setdefault((model, batch(case)), (model, case))
    return [place for (_, size), place in kept.items() if size in _BATCHES]


def _line(
    model: str,
    case: str,
    rows: Mapping[int, Row],
    columns: Sequence[tuple[str, int]],
    counts: Sequence[int],
) -> str:
    ranged = len(columns) <= _RANGED
    cells = [_ratio(rows.get(threads), peer, ranged=ranged) for peer, threads in columns]
    times = [_ms(rows.get(threads)) for threads in counts]
    errors = [e for row in rows.values() if (e := row.engines["bolt"].error) is not None]
    error = f"{max(errors):.0e}" if errors else "-"
    doubt = "" if all(row.steady for row in rows.values()) else " \\*"
    return f"| {model}{doubt} | {case.split()[0]} | {' | '.join((*cells, *times))} | {error} |"


def _ratio(row: Row | None, peer: str, *, ranged: bool) -> str:
    ratio = row.ratios.get(peer) if row else None
    if ratio is None:
        return "-"
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ranged else f"{ratio.median:.2f}"


def _ms(row: Row | None) -> str:
    timing = row.engines["bolt"].timing if row else None
    return f"{timing.median_ms:.2f}" if timing else "-"


def _mean_lines(part: Result, kind: str, columns: Sequence[tuple[str, int]], counts: int) -> Iterator[str]:
    """The geometric means, a line for each batch size."""
    for size in _BATCHES:
        found = [ratios(part, kind, peer, threads, size) for peer, threads in columns]
        if any(found):
            means = [f"**{geometric_mean(f.values()):.2f}**" if f else "-" for f in found]
            models = max(len(f) for f in found)
            yield f"| **geometric mean**, {models} models | batch {size} | {' | '.join(means)} |" + " |" * (
                counts + 1
            )
