"""Results as sections of lines and tables, and those as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bolt.bench.layers import Layer
from bolt.bench.products import products
from bolt.bench.result import Measured, Result, Row
from bolt.bench.why import why
from bolt.timing import Ratio

WEAK = 0.6
"""A step below this share of the roofline is named."""
_WORTH = 0.01
"""Shorter steps, as a share of the run, are not."""
_NAMED = 6
"""Steps of a reason that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report.

    Attributes:
        title: "" for none.
        lines: above the table.
        cells: header and rows of the table; () for none.
        left: columns that are aligned to the left.
    """

    title: str = ""
    lines: tuple[str, ...] = ()
    cells: tuple[tuple[str, ...], ...] = ()
    left: int = 2


def text(result: Result, *, layers: bool = False) -> str:
    """The whole report: machine, a line per row with the ratios first, means, and what is missing."""
    return "\n\n".join(_section_text(section) for section in sections(result, layers=layers))


def sections(result: Result, *, layers: bool = False) -> list[Section]:
    """The parts of the report that say something."""
    found = [
        Section(lines=tuple(machine_text(result).splitlines())),
        Section(cells=tuple(tuple(row) for row in rows_of(result))),
        Section(lines=tuple(means_text(result).splitlines())),
        Section(lines=tuple(str(found) for found in products(result))),
        Section(lines=tuple(_problems(result))),
    ]
    if layers:
        found += [section for row in result.rows if row.layers for section in layer_sections(row)]
    return [section for section in found if section.lines or section.cells]


def _section_text(section: Section) -> str:
    title = [section.title] if section.title else []
    cells = [table(section.cells, left=section.left)] if section.cells else []
    return "\n".join([*title, *section.lines, *cells])


def machine_text(result: Result) -> str:
    """Where, with what and when it was measured."""
    m = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    commits = list(dict.fromkeys(row.commit for row in result.rows if row.commit)) or [m["commit"]]
    return "\n".join(
        (
            f"{m['cpu']}, {m['cores']} cores, {m['target']}, load {m['load_average']}, {m['date']}",
            f"commit {', '.join(c or 'unknown' for c in commits)}; {versions}",
            "fp32 peak measured beside the rows: " + ", ".join(_peaks(result)),
            *_pins(result),
        )
    )


def _pins(result: Result) -> Iterator[str]:
    """Which cores the measurements were kept on."""
    pinned = sorted({(row.threads, row.cores) for row in result.rows if row.cores})
    if pinned:
        yield "pinned: " + ", ".join(f"{t}T on core {' '.join(map(str, cores))}" for t, cores in pinned)


def _peaks(result: Result) -> Iterator[str]:
    """The lowest and highest of each number of threads: how steady the machine was."""
    for threads in sorted({row.threads for row in result.rows}):
        rows = [row for row in result.rows if row.threads == threads]
        found = [p for row in rows for p in (row.peak_gflops, row.peak_after_gflops) if p]
        if found:
            yield f"{min(found):.0f}-{max(found):.0f} GFLOP/s ({threads}T)"


def rows_of(result: Result) -> list[list[str]]:
    """Header and cells, one line per case."""
    peers = result.peers
    ratio_names = [name for p in peers for name in (f"x {p}", "10-90%", "at best")]
    header = ["model", "case", "T", *ratio_names, "bolt ms", *(f"{p} ms" for p in peers)]
    return [[*header, "nodes", "FLOPs", "error"], *(_cells(row, peers) for row in result.rows)]


def _cells(row: Row, peers: Sequence[str]) -> list[str]:
    kind = "" if row.kind == "fp32" else f" {row.kind}"
    names = [row.model, f"{row.case}{kind}", str(row.threads)]
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
    lines = []
    for kind in dict.fromkeys(row.kind for row in result.rows):
        part = result.of(kind)
        named = "" if kind == "fp32" else f", {kind}"
        lines += [
            f"geometric mean over {peer}, {threads}T{named}: {mean:.3f}x"
            for peer in part.peers
            for threads in sorted({row.threads for row in part.rows})
            if (mean := part.mean_ratio(peer, threads)) is not None
        ]
    return "\n".join(lines)


def _problems(result: Result) -> Iterator[str]:
    yield from (f"{name}: {reason}" for name, reason in result.missing.items())
    for row in result.rows:
        yield from [f"{row.where}: {row.problem}"] if row.problem else []
        for name, measured in row.engines.items():
            yield from [f"{row.where}: {name} {measured.problem}"] if measured.problem else []
            yield from [f"{row.where}: {name} with {measured.note}"] if measured.note else []
        if not row.steady:
            yield (
                f"{row.where}: doubtful, the machine's fp32 peak went from {row.peak_gflops:.0f} to "
                f"{row.peak_after_gflops:.0f} GFLOP/s"
            )


def layers_text(row: Row, most: int = 25) -> str:
    """The steps that take longest, and those far from what the machine could do."""
    return "\n\n".join(_section_text(section) for section in layer_sections(row, most))


def layer_sections(row: Row, most: int = 25) -> list[Section]:
    """The steps that take longest: share of the run, speed, and how much of the machine's limits that is."""
    total = sum(layer.us for layer in row.layers)
    ordered = sorted(row.layers, key=lambda layer: -layer.us)
    head = ("step", "family", "m n k", "us", "share", "GFLOP/s", "of peak", "of roof")
    cells = (head, *(_layer_cells(layer, total) for layer in ordered[:most]))
    rest = sum(layer.us for layer in ordered[most:])
    more = (f"{len(ordered) - most} more steps: {rest:.0f} us",) if len(ordered) > most else ()
    title = f"{row.where}: {len(ordered)} steps, {total:.0f} us"
    weak = weak_steps(row)
    return [Section(title=title, lines=more, cells=cells), *([_weak_section(weak, total)] if weak else [])]


def weak_steps(row: Row) -> list[Layer]:
    """Steps that matter and reach less than `WEAK` of the roofline, most lost time first."""
    total = sum(layer.us for layer in row.layers)
    weak = [
        layer
        for layer in row.layers
        if layer.of_roof is not None and layer.of_roof < WEAK and layer.us > _WORTH * total
    ]
    return sorted(weak, key=lambda layer: (layer.roof_us or 0.0) - layer.us)


def _weak_section(weak: Sequence[Layer], total: float) -> Section:
    lost = sum(layer.us - (layer.roof_us or 0.0) for layer in weak)
    lead = f"{len(weak)} steps below {WEAK:.0%} of the roofline lose {lost / total:.0%} of the run:"
    by_reason: dict[str, list[Layer]] = defaultdict(list)
    for layer in weak:
        by_reason[why(layer)].append(layer)
    return Section(lines=(lead, *(_reason_line(reason, found) for reason, found in by_reason.items())))


def _reason_line(reason: str, weak: Sequence[Layer]) -> str:
    named = ", ".join(f"{layer.name[:50]} {layer.of_roof:.0%}" for layer in weak[:_NAMED])
    more = f", and {len(weak) - _NAMED} more" if len(weak) > _NAMED else ""
    return f"  {reason}: {named}{more}"


def _layer_cells(layer: Layer, total_us: float) -> tuple[str, ...]:
    return (
        layer.name[:70],
        layer.family,
        " ".join(map(str, layer.mnk or "-")),
        f"{layer.us:.1f}",
        f"{layer.us / total_us:.1%}",
        f"{layer.gflops:.1f}" if layer.gflops else "-",
        f"{layer.of_peak:.0%}" if layer.of_peak else "-",
        f"{layer.of_roof:.0%}" if layer.of_roof else "-",
    )
