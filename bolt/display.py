"""What the command line shows of a run: progress while it goes on, tables when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from bolt.doctor import Finding
from bolt.report import Event
from bolt.storage import Part

_STYLES = {"ok": "green", "note": "yellow", "bad": "red"}
_ORDINARY = ("supports", "candidates", "choose")
"""Stages whose rejections are what a search is about; kernels that failed (`measure`) are always shown."""
_FILE_WIDTH = 140
_DEVICE_COLUMNS = ("estimate", "registers", "spilled")


class ProgressDisplay:
    """A `bolt.report.Progress` on stderr: one live line in a terminal, one line per stage elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("start", total=None, detail="")
        self._stage = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        if event.stage != self._stage:
            self._stage = event.stage
            self._progress.reset(self._task)
            if not self._console.is_terminal:
                self._console.print(f"{event.stage} {event.detail}".rstrip(), highlight=False)
        self._progress.update(
            self._task, description=event.stage, completed=event.done, total=event.total or None,
            detail=event.detail[:60],
        )  # fmt: skip


def summary(path: str, report: Mapping[str, Any]) -> str:
    """A few lines about a finished artifact."""
    partitions = report.get("partitions", ())
    taken = sum(len(p["nodes"]) for p in partitions)
    lines = [
        f"{path}",
        f"bolt runs {taken} of {report.get('nodes', '?')} nodes in {len(partitions)} partitions",
    ]
    bolt_ms, ort_ms = report.get("bolt_ms"), report.get("ort_ms")
    if bolt_ms and ort_ms:
        lines.append(f"{bolt_ms:.3f} ms a run, ONNX Runtime {ort_ms:.3f} ms: {ort_ms / bolt_ms:.2f}x")
    notes = report.get("notes", {})
    if partitions and notes.get("precision", "fp32") != "fp32" and notes.get("errors"):
        worst = max(notes["errors"].values())
        lines.append(f"computed in {notes['precision']}: off by at most {worst:.2%} of an output's range")
    if not partitions:
        lines.append("the whole model is left to ONNX Runtime; `bolt explain` says why")
    return "\n".join(lines)


def explain(report: Mapping[str, Any], *, every: bool) -> None:
    """Prints a report: kernels by time, then what was not done and why."""
    console = _console()
    for name, value in report.get("notes", {}).items():
        console.print(f"[bold]{name}[/]: {value}", highlight=False)
    for partition in report.get("partitions", ()):
        console.print(_kernel_table(partition))
        for chain in partition.get("chains", ()):
            console.print(_chain_line(chain), markup=False, highlight=False)
    rejections = report.get("rejections", ())
    shown = [r for r in rejections if every or r["stage"] not in _ORDINARY]
    for line in _reason_lines(shown):
        console.print(line, markup=False, highlight=False)
    if len(shown) < len(rejections):
        console.print(f"{len(rejections) - len(shown)} kernels that lost are not listed; --all shows them")


def _reason_lines(rejections: Sequence[Mapping[str, str]]) -> list[str]:
    """A line per reason; equal reasons together."""
    same: dict[tuple[str, str], list[str]] = {}
    for r in rejections:
        same.setdefault((r["stage"], r["reason"]), []).append(r["subject"])
    return [f"{stage:<10} {_subjects(subjects)}: {reason}" for (stage, reason), subjects in same.items()]


def _subjects(subjects: Sequence[str]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{subjects[0]} and {len(subjects) - 1} more"


def _console() -> Console:
    """stdout; wide enough for the tables when it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_WIDTH)


def _kernel_table(partition: Mapping[str, Any]) -> Table:
    table = Table(title=f"{partition['name']}: {len(partition['nodes'])} nodes", title_justify="left")
    on_device = any(kernel.get("device") for kernel in partition["kernels"])
    for name in ("kernel", "family", "config"):
        table.add_column(name)
    for name in ("uses", "us", *(_DEVICE_COLUMNS if on_device else ())):
        table.add_column(name, justify="right")
    for kernel in sorted(partition["kernels"], key=lambda k: -_us(k) * k["uses"]):
        us = "-" if kernel["median_us"] is None else f"{kernel['median_us']:.1f}"
        cells = (kernel["shape"], kernel["family"], _config(kernel["config"]), str(kernel["uses"]), us)
        table.add_row(*cells, *(_device_cells(kernel["device"]) if on_device else ()))
    return table


def _chain_line(chain: Mapping[str, Any]) -> str:
    nodes = chain["nodes"]
    span = f"{nodes[0]} ... {nodes[-1]}" if len(nodes) > 1 else "".join(nodes)
    return (
        f"chain of {chain['kernels']} kept in cache, {chain['rows']} rows at a time: "
        f"{chain['ratio']:.2f}x the time ({span})"
    )


def _us(kernel: Mapping[str, Any]) -> float:
    """Its time, or what the model expects."""
    device = kernel.get("device") or {"estimate_us": 0.0}
    return float(kernel["median_us"] or device["estimate_us"])


def _device_cells(device: Mapping[str, Any]) -> tuple[str, ...]:
    return f"{device['estimate_us']:.1f}", str(device["registers"]), str(device["spill_bytes"])


def _config(config: Any) -> str:
    if not isinstance(config, Mapping):
        return str(config)
    return " ".join(f"{name}={_setting(value)}" for name, value in config.items())


def _setting(value: Any) -> str:
    return str(value["name"]) if isinstance(value, Mapping) and "name" in value else str(value)


def findings(found: Sequence[Finding]) -> None:
    """Prints what the doctor found."""
    console = _console()
    for finding in found:
        style = _STYLES[finding.status]
        console.print(f"[{style}]{finding.status:<4}[/] {finding.name:<12}", end=" ")
        console.print(finding.detail, markup=False, highlight=False)


def parts(root: str, found: Sequence[Part]) -> str:
    """The cache's parts as lines."""
    rows = [f"{part.bytes / 1e6:10.1f} MB  {part.name:<10} {part.what}" for part in found]
    total = sum(part.bytes for part in found)
    return "\n".join([root, *rows, f"{total / 1e6:10.1f} MB  in all"])
