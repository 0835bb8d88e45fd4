"""`python -m benchmarks gpu kernels|models|report`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from benchmarks import gpu_engines, gpu_kernels, gpu_models
from benchmarks.gpu_device import facts, target
from benchmarks.gpu_result import GpuResult, Row, load, text
from bolt.display import ProgressDisplay
from bolt.errors import BoltError
from bolt.options import parse_budget
from bolt.target import Target

T = TypeVar("T")
_FAILED = 1

_slice = click.option(
    "--slice", "part", default="1/1", metavar="I/N", help="Every N-th row from the I-th on."
)
_only = click.option("--only", default="", metavar="TEXT", help="Rows whose name contains this.")
_budget = click.option("--budget", default="2m", show_default=True, help="Time for bolt's search.")
_limit = click.option("--limit", default="9m", show_default=True, help="No row is begun later than this.")
_dry = click.option("--dry-run", is_flag=True, help="Build everything (for sm90a), run nothing.")
_out = click.option(
    "--out", type=click.Path(path_type=Path), default=Path("gpu.json"), show_default=True,
    help="JSON file that is written, or extended: rows it has are measured again only with --again.",
)  # fmt: skip
_jobs = click.option("--jobs", default=0, help="Compilers at a time [by cores and free memory].")
_again = click.option("--again", is_flag=True, help="Measure rows that the file already has.")


def _ended(error: BoltError) -> click.exceptions.Exit:
    """The end of the command, with the error's exit code."""
    click.echo(f"Error: {error}", err=True)
    return click.exceptions.Exit(error.exit_code)


@click.group()
def gpu() -> None:
    """Measure bolt on an NVIDIA GPU."""


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (_slice, _only, _budget, _limit, _dry, _out, _again, _jobs):
        function = option(function)
    return function


@gpu.command()
@_options
def kernels(
    part: str, only: str, budget: str, limit: str, dry_run: bool, out: Path, again: bool, jobs: int
) -> None:  # fmt: skip
    """Matrix products and convolutions against cuBLASLt and cuDNN."""
    deadline = time.monotonic() + parse_budget(limit)
    try:
        gpu_target, before = target(dry_run=dry_run), _before(out, dry_run)
        wanted = _sliced(gpu_kernels.cases(), part, lambda c: f"{c.kind} {c.name} {c.epilogue}", only)
        wanted = [c for c in wanted if again or (c.kind, c.name, c.epilogue) not in before]
        with ProgressDisplay() as progress:
            chosen = gpu_kernels.choose(
                wanted, gpu_target, 0 if dry_run else parse_budget(budget), progress, jobs=jobs
            )
        if dry_run:
            for choice in chosen.values():
                gpu_kernels.library(choice)
            click.echo(f"built {len(chosen)} kernels for {gpu_target.name}; nothing was run")
            return
        _record(out, gpu_target, {}, gpu_kernels.measure(wanted, chosen, deadline))
    except BoltError as error:
        raise _ended(error) from error


@gpu.command()
@_options
@click.option("--peers", default="eager,compile,ort_cuda", show_default=True, help="Engines beside bolt.")
def models(
    part: str,
    only: str,
    budget: str,
    limit: str,
    dry_run: bool,
    out: Path,
    again: bool,
    jobs: int,
    peers: str,
) -> None:
    """Whole models against torch and ONNX Runtime's CUDA provider."""
    deadline = time.monotonic() + parse_budget(limit)
    try:
        gpu_target, before = target(dry_run=dry_run), _before(out, dry_run)
        wanted = _sliced(gpu_models.cases(), part, lambda c: f"{c.name} batch {c.batch}", only)
        wanted = [c for c in wanted if again or ("model", c.name, f"batch {c.batch}") not in before]
        seconds = 0 if dry_run else parse_budget(budget)
        if dry_run:
            for case in wanted:
                opening = gpu_models.prepared(case, gpu_target, seconds, jobs=jobs)
                click.echo(f"{case.name} batch {case.batch}: {opening.artifact}; nothing was run")
            return
        using, missing = gpu_models.engines(_known(peers))
        _record(
            out,
            gpu_target,
            missing,
            gpu_models.measure(wanted, using, gpu_target, seconds, deadline, jobs=jobs),
        )
    except BoltError as error:
        raise _ended(error) from error


@gpu.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), help="Also write the rows of all to one file.")
def report(results: tuple[Path, ...], out: Path | None) -> None:
    """Print RESULTS (JSON) as one; where several have a row, the last one counts."""
    try:
        found = [load(path) for path in results]
        merged = reduce(lambda whole, more: more.with_rows_before(whole.rows), found)
        if out:
            merged.save(out)
        click.echo(text(merged))
    except BoltError as error:
        raise _ended(error) from error


def _known(names: str) -> list[str]:
    found = [name for name in names.split(",") if name]
    for name in found:
        if name not in gpu_engines.PEERS:
            raise click.BadParameter(f"{name!r} is unknown; choose from {', '.join(gpu_engines.PEERS)}")
    return found


def _sliced(cases: Sequence[T], part: str, name: Callable[[T], str], only: str) -> list[T]:
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", part)
    if not match or int(match[1]) > int(match[2]):
        raise click.BadParameter(f"{part!r} is no slice; write 1/3, 2/3 or 3/3 for the thirds of the rows")
    wanted = [case for case in cases if only in name(case)]
    return wanted[int(match[1]) - 1 :: int(match[2])]


def _before(out: Path, dry_run: bool) -> set[tuple[str, str, str]]:
    """What the file already has, failures aside."""
    if dry_run or not out.exists():
        return set()
    return {row.key for row in load(out).rows if not row.wrong}


def _record(out: Path, gpu_target: Target, missing: dict[str, str], rows: Iterable[Row]) -> None:
    """Writes the file after every row; ends with a status when bolt was wrong anywhere."""
    kept = load(out).rows if out.exists() else ()
    result = GpuResult(machine=facts(gpu_target), missing=missing, rows=kept)
    wrong = False
    for row in rows:
        result = result.with_rows([row])
        result.save(out)
        wrong |= bool(row.wrong)
        ratios = ", ".join(f"{ratio.median:.2f}x {peer}" for peer, ratio in row.ratios.items())
        click.echo(f"{row.kind} {row.name} {row.case}: {row.wrong or ratios}")
    click.echo(text(result))
    if wrong:
        raise click.exceptions.Exit(_FAILED)
