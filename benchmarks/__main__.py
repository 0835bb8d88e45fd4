"""`python -m benchmarks models|list|report|readme|gpu|carry`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.carry import carry
from benchmarks.gpu import gpu
from benchmarks.models import measure
from benchmarks.plot import plot
from benchmarks.readme import with_performance, with_support
from benchmarks.workloads import WORKLOADS, select
from bolt.bench import support
from bolt.bench.compare import regressions
from bolt.bench.engines import PEERS
from bolt.bench.result import Result, load
from bolt.bench.run import Plan
from bolt.bench.table import table, text
from bolt.display import ProgressDisplay
from bolt.errors import BoltError
from bolt.timing import Protocol

_NAMES = tuple(workload.name for workload in WORKLOADS)
_FAILED = 1

CUDA_KERNELS = Path(__file__).parent / "results" / "cuda-kernels.json"
"""What the grid of CUDA kernels found (`pytest -m slow tests/kernels/test_grid.py --grid FILE`)."""

_layers = click.option("--layers", is_flag=True, help="Also print the steps that take longest.")
_against = click.option(
    "--against", type=click.Path(path_type=Path, exists=True), help="An older result: name what got slower."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure bolt on trained models."""


cli.add_command(gpu)
cli.add_command(carry)


@cli.command()
@click.option("--only", default="", metavar="A,B", help="Models by name [those bolt is judged by].")
@click.option("--all", "every", is_flag=True, help="All models of the table.")
@click.option("--threads", default="1,2", show_default=True, help="Numbers of threads.")
@click.option("--peers", default="ort", show_default=True, help=f"Of {', '.join(PEERS)}.")
@click.option("--budget", default="1m", show_default=True, help="Tuning time a model and number of threads.")
@click.option("--rounds", default=16, show_default=True, help="Turns of each engine.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
@_layers
@_against
def models(
    only: str, every: bool, threads: str, peers: str, budget: str, rounds: int, out: Path | None,
    layers: bool, against: Path | None,
) -> None:  # fmt: skip
    """Time trained models through bolt and its peers."""
    plan = Plan(
        against=_words(peers, PEERS),
        threads=tuple(_number(word) for word in threads.split(",")),
        budget=budget,
        protocol=Protocol(rounds=rounds),
    )
    try:
        with ProgressDisplay() as progress:
            result = measure(select(_words(only, _NAMES), every=every), plan, progress)
    except BoltError as error:
        raise click.ClickException(str(error)) from error
    if out:
        result.save(out)
    _show(result, layers, against)


@cli.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True))
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="PNG or SVG file [beside RESULT].")
@_layers
@_against
def report(result: Path, picture: Path | None, layers: bool, against: Path | None) -> None:
    """Print RESULT (JSON) again and draw it."""
    found = _load(result)
    place = picture or result.with_suffix(".svg")
    click.echo(
        f"wrote {place}" if plot(found, place) else "no picture: matplotlib is not installed", err=True
    )
    _show(found, layers, against)


@cli.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True), nargs=-1)
def readme(results: tuple[Path, ...]) -> None:
    """Write the tables of README.md: CUDA kernels, and performance from RESULTS (JSON)."""
    place = Path(__file__).parents[1] / "README.md"
    text = with_support(place.read_text(), support.read(CUDA_KERNELS))
    place.write_text(with_performance(text, [_load(path) for path in results]) if results else text)


@cli.command("list")
def list_() -> None:
    """Print the table of models."""
    rows = [["name", "package", "licence", "cases", "about"]]
    rows += [[w.name, w.member.release, w.member.licence, str(len(w.cases)), w.about] for w in WORKLOADS]
    click.echo(table(rows, left=5))


def _show(result: Result, layers: bool, against: Path | None) -> None:
    """Prints a result; ends with a status when bolt is wrong anywhere or got slower."""
    click.echo(text(result, layers=layers))
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
        raise click.BadParameter(f"{word!r} is no number of threads")
    return int(word)


if __name__ == "__main__":
    cli(prog_name="python -m benchmarks")
