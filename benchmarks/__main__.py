"""`python -m benchmarks models|compare|report|readme|reproduce|list|gpu|carry`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from benchmarks.carry import carry
from benchmarks.floors import verdicts
from benchmarks.gpu import gpu
from benchmarks.models import Conduct, measure
from benchmarks.page import markdown, page
from benchmarks.plot import plot
from benchmarks.readme import PUBLISHED, RESULTS, published, with_performance, with_support
from benchmarks.subjects import Subject, subjects
from benchmarks.workloads import SUITES, WORKLOADS
from bolt.bench import support
from bolt.bench.compare import SLOWER, changes, regressions
from bolt.bench.engines import ENGINES, PEERS, usable
from bolt.bench.opening import PRECISIONS
from bolt.bench.result import Result, load
from bolt.bench.run import Plan
from bolt.bench.table import table, text
from bolt.display import ProgressDisplay
from bolt.errors import BoltError
from bolt.options import parse_budget
from bolt.timing import Protocol

_FAILED = 1

CUDA_KERNELS = RESULTS / "cuda-kernels.json"
"""What the grid of CUDA kernels found (`pytest -m slow tests/kernels/test_grid.py --grid FILE`)."""

_path = click.Path(path_type=Path)
_existing = click.Path(path_type=Path, exists=True)
_layers = click.option("--layers", is_flag=True, help="Also print the steps that take longest.")
_against = click.option("--against", type=_existing, help="An older result: name what got slower.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure bolt beside other engines."""


cli.add_command(gpu)
cli.add_command(carry)


def _running(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that measure."""
    for option in (
        click.option("--threads", default="1,2", show_default=True, help="Numbers of threads."),
        click.option("--peers", default="", help=f"Of {', '.join(PEERS)} [the suite's]."),
        click.option("--budget", default="1m", show_default=True, help="Tuning time a model and threads."),
        click.option("--rounds", default=16, show_default=True, help="Turns of each engine."),
        click.option(
            "--limit", default="unlimited", show_default=True, help="No job begins later than this."
        ),
        click.option("--again", is_flag=True, help="Measure what the file already has."),
        click.option("--prepare", is_flag=True, help="Make models and packages, measure nothing."),
    ):
        function = option(function)
    return function


@cli.command()
@click.option("--suite", type=click.Choice(list(SUITES)), help="[accepted; full with --only].")
@click.option("--only", default="", metavar="A,B", help="Models of the suite by name [all].")
@click.option("--batch", default="1", show_default=True, help="Batch sizes of models with random weights.")
@click.option("--precision", default="", help=f"Of {', '.join(PRECISIONS)} [the suite's].")
@_running
@click.option("--out", type=_path, help="JSON file that is written, or extended.")
@_layers
@_against
def models(
    suite: str | None, only: str, batch: str, precision: str, out: Path | None, layers: bool,
    against: Path | None, **running: Any,
) -> None:  # fmt: skip
    """Time models through bolt and its peers."""
    name = suite or ("full" if only else "accepted")
    found = _measured(name, only, batch, precision, out, **running)
    if not running["prepare"]:
        _show(found, layers, against)


@cli.command()
@_running
def reproduce(**running: Any) -> None:
    """Measure every number of the README, and write it; a run that was ended goes on."""
    for name, (suite, batch) in PUBLISHED.items():
        click.echo(f"{suite}, batch {batch}: {RESULTS / name}", err=True)
        _measured(suite, "", batch, "", RESULTS / name, **running)
    if not running["prepare"]:
        _write_readme(published())


def _measured(
    suite: str, only: str, batch: str, precision: str, out: Path | None, *, threads: str, peers: str,
    budget: str, rounds: int, limit: str, again: bool, prepare: bool,
) -> Result:  # fmt: skip
    of = SUITES[suite]
    plan = Plan(
        against=_words(peers, PEERS) or of.peers,
        threads=tuple(_number(word) for word in threads.split(",")),
        budget=budget,
        protocol=Protocol(rounds=rounds),
        precision=precision or of.precision,
        target=of.target,
    )
    wanted = _subjects(suite, only, batch)
    try:
        with ProgressDisplay() as progress:
            conduct = Conduct(
                out=out, again=again, prepare=prepare, limit_s=parse_budget(limit), progress=progress,
                say=lambda line: click.echo(line, err=True),
            )  # fmt: skip
            return measure(wanted, plan, conduct)
    except (BoltError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _subjects(suite: str, only: str, batch: str) -> list[Subject]:
    found = subjects(SUITES[suite], tuple(_number(word) for word in batch.split(",")))
    names = _words(only, tuple(dict.fromkeys(subject.name for subject in found)))
    return [subject for subject in found if not names or subject.name in names]


@cli.command()
@click.argument("results", type=_existing, nargs=-1, required=True)
@click.option("--plot", "picture", type=_path, help="PNG or SVG file [beside the first of RESULTS].")
@click.option("--page", "pages", type=_path, multiple=True, help="Also write a page: .md or .html.")
@click.option("--out", type=_path, help="Also write the rows of all to one file.")
@_layers
@_against
def report(
    results: tuple[Path, ...], picture: Path | None, pages: tuple[Path, ...], out: Path | None, layers: bool,
    against: Path | None,
) -> None:  # fmt: skip
    """Print RESULTS (JSON) as one and draw them; where several have a row, the last one counts."""
    found = reduce(lambda left, right: left.with_rows(right.rows), [_load(path) for path in results])
    place = picture or results[0].with_suffix(".svg")
    drawn = plot(found, place)
    click.echo(f"wrote {place}" if drawn else "no picture: matplotlib is not installed", err=True)
    if out:
        found.save(out)
    for path in pages:
        path.write_text(page(found, place) if path.suffix == ".html" else markdown(found))
    _show(found, layers, against)


@cli.command()
@click.argument("old", type=_existing)
@click.argument("new", type=_existing)
def compare(old: Path, new: Path) -> None:
    """Say what got slower or faster from OLD to NEW (JSON); exit code 1 when anything got slower."""
    found = sorted(changes(_load(new), _load(old)), key=lambda change: change.verdict)
    for change in found:
        click.echo(f"{change.verdict}: {change}")
    counts = Counter(change.verdict for change in found)
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "nothing to compare")
    if counts[SLOWER]:
        raise click.exceptions.Exit(_FAILED)


@cli.command()
@click.argument("results", type=_existing, nargs=-1)
def readme(results: tuple[Path, ...]) -> None:
    """Write the tables of README.md: CUDA kernels, and performance from RESULTS [results/cpu-*.json]."""
    _write_readme([_load(path) for path in results] or published())


def _write_readme(results: list[Result]) -> None:
    place = Path(__file__).parents[1] / "README.md"
    text = with_support(place.read_text(), support.read(CUDA_KERNELS))
    place.write_text(with_performance(text, results) if results else text)


@cli.command("list")
def list_() -> None:
    """Print the models, suites and engines."""
    rows = [["name", "package", "licence", "cases", "about"]]
    rows += [[w.name, w.member.release, w.member.licence, str(len(w.cases)), w.about] for w in WORKLOADS]
    click.echo(table(rows, left=5))
    rows = [["suite", "models", "precision", "about"]]
    rows += [[n, str(len(subjects(s))), s.precision, s.about] for n, s in SUITES.items()]
    click.echo("\n" + table(rows, left=4))
    missing = {r.subject: r.reason for r in usable(PEERS)[1]}
    rows = [["engine", "here", "about"]]
    rows += [[e.name, missing.get(e.name, f"{e.title} {e.version()}"), e.about] for e in ENGINES]
    click.echo("\n" + table(rows, left=3))


def _show(result: Result, layers: bool, against: Path | None) -> None:
    """Prints a result; ends with a status when bolt is wrong anywhere or got slower."""
    click.echo(text(result, layers=layers))
    click.echo("\n" + "\n".join(map(str, verdicts(result))))
    slower = regressions(result, _load(against)) if against else []
    for line in slower:
        click.echo(f"regression: {line}")
    if slower or any(row.wrong for row in result.rows):
        raise click.exceptions.Exit(_FAILED)


def _load(path: Path) -> Result:
    try:
        return load(path)
    except BoltError as error:
        raise click.ClickException(str(error)) from error


def _words(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = tuple(word for word in text.split(",") if word)
    for word in words:
        if word not in known:
            raise click.BadParameter(f"{word!r} is unknown; choose from {', '.join(known)}")
    return words


def _number(word: str) -> int:
    if not word.isdigit() or not int(word):
        raise click.BadParameter(f"{word!r} is no number from 1 on")
    return int(word)


if __name__ == "__main__":
    cli(prog_name="python -m benchmarks")
