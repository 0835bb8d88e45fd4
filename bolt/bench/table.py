"""Results as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from bolt.bench.layers import Layer
from bolt.bench.result import Measured, Result, Row
from bolt.timing import Ratio

_NOISE = 0.03
"""A ratio has to fall by more than this to count as a regression, even between steady runs."""


def text(result: Result, *, layers: bool = False) -> str:
    """The whole report: machine, a line per row with the ratios first, means, and what is missing."""
    parts = [machine_text(result), table(rows_of(result)), means_text(result), *_problems(result)]
    if layers:
        parts += [layers_text(row) for row in result.rows if row.layers]
    return "\n\n".join(part for part in parts if part)


def machine_text(result: Result) -> str:
    """Where, with what and when it was measured."""
    m = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    return "\n".join(
        (
            f"{m['cpu']}, {m['cores']} cores, {m['target']}, load {m['load_average']}, {m['date']}",
            f"commit {m['commit'] or 'unknown'}; {versions}",
            "fp32 peak measured beside the rows: " + ", ".join(_peaks(result)),
        )
    )


def _peaks(result: Result) -> Iterator[str]:
    """The lowest and highest of each number of threads: how steady the machine was."""
    for threads in sorted({row.threads for row in result.rows}):
        found = [row.peak_gflops for row in result.rows if row.threads == threads and row.peak_gflops]
        if found:
            yield f"{min(found):.0f}-{max(found):.0f} GFLOP/s ({threads}T)"


def rows_of(result: Result) -> list[list[str]]:
    """Header and cells, one line per case."""
    peers = result.peers
    ratio_names = [name for p in peers for name in (f"x {p}", "10-90%", "at best")]
    header = ["model", "case", "T", *ratio_names, "bolt ms", *(f"{p} ms" for p in peers)]
    return [[*header, "nodes", "FLOPs", "error"], *(_cells(row, peers) for row in result.rows)]


def _cells(row: Row, peers: Sequence[str]) -> list[str]:
    names = [row.model, row.case, str(row.threads)]
    if row.problem:
        return [*names, "failed"]
    bolt, covered = row.engines["bolt"], row.coverage
    ratios = [cell for peer in peers for cell in _ratio_cells(row.ratios.get(peer))]
    times = [_ms(row.engines.get(name)) for name in ("bolt", *peers)]
    nodes = f"{covered.nodes}/{covered.nodes + covered.left}" if covered else "-"
    flops = f"{covered.flops_share:.0%}" if covered else "-"
    error = "-" if bolt.error is None else f"{bolt.error:.0e}"
    return [*names, *ratios, *times, nodes, flops, error]


def _ratio_cells(ratio: Ratio | None) -> tuple[str, str, str]:
    if ratio is None:
        return "-", "-", "-"
    return f"{ratio.median:.2f}", f"{ratio.low:.2f}-{ratio.high:.2f}", f"{ratio.best:.2f}"


def _ms(measured: Measured | None) -> str:
    return f"{measured.timing.median_ms:.3f}" if measured and measured.timing else "-"


def table(rows: Sequence[Sequence[str]], *, left: int = 2) -> str:
    """Cells in columns: the first `left` aligned to the left, the rest to the right."""
    widths: dict[int, int] = defaultdict(int)
    for row in rows:
        for i, cell in enumerate(row):
            widths[i] = max(widths[i], len(cell))
    lines = (
        "  ".join(cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(row))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def means_text(result: Result) -> str:
    """Geometric means of the ratios."""
    counts = sorted({row.threads for row in result.rows})
    lines = [
        f"geometric mean over {peer}, {threads}T: {mean:.3f}x"
        for peer in result.peers
        for threads in counts
        if (mean := result.mean_ratio(peer, threads)) is not None
    ]
    return "\n".join(lines)


def _problems(result: Result) -> Iterator[str]:
    missing = [f"{name}: {reason}" for name, reason in result.missing.items()]
    for row in result.rows:
        where = f"{row.model} {row.case} {row.threads}T"
        missing += [f"{where}: {row.problem}"] if row.problem else []
        missing += [f"{where}: {name} {m.problem}" for name, m in row.engines.items() if m.problem]
    if missing:
        yield "\n".join(missing)


def layers_text(row: Row, most: int = 25) -> str:
    """The steps that take longest: share of the run, speed, and how much of the machine's limit that is."""
    total = sum(layer.us for layer in row.layers)
    ordered = sorted(row.layers, key=lambda layer: -layer.us)
    head = ["step", "family", "us", "share", "GFLOP/s", "of peak"]
    cells = [head, *(_layer_cells(layer, total, row.peak_gflops) for layer in ordered[:most])]
    title = f"{row.model} {row.case} {row.threads}T: {len(ordered)} steps, {total:.0f} us"
    rest = sum(layer.us for layer in ordered[most:])
    more = [f"{len(ordered) - most} more steps: {rest:.0f} us"] if len(ordered) > most else []
    return "\n".join([title, table(cells), *more])


def _layer_cells(layer: Layer, total_us: float, peak: float | None) -> list[str]:
    speed = layer.gflops
    return [
        layer.name[:70],
        layer.family,
        f"{layer.us:.1f}",
        f"{layer.us / total_us:.1%}",
        f"{speed:.1f}" if speed else "-",
        f"{speed / peak:.0%}" if speed and peak else "-",
    ]


def regressions(result: Result, before: Result) -> list[str]:
    """Sentences about rows whose ratio over a peer fell by more than the noise, or that are missing.

    Ratios are compared, not times: another machine state changes both engines alike.
    """
    found = []
    rows = {row.key: row for row in result.rows}
    for old in before.rows:
        where = f"{old.model} {old.case} {old.threads}T"
        row = rows.get(old.key)
        if row is None:
            found.append(f"{where}: was not measured")
            continue
        if row.wrong and not old.wrong:
            found.append(f"{where}: {row.wrong}")
        found += [f"{where}: {line}" for line in _slower(row, old)]
    return found


def _slower(row: Row, old: Row) -> Iterator[str]:
    for peer, was in old.ratios.items():
        now = row.ratios.get(peer)
        if now and now.high < was.low * (1 - _NOISE):
            yield f"{_ratio(now)} over {peer}, was {_ratio(was)}"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})"
