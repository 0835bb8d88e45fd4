"""`bolt demo`: optimize a trained model, run it on a real input, and compare with ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

import bolt
from bolt.bench.packages import PackageError
from bolt.demo.jobs import Job, file_job, generated_job, page_job
from bolt.demo.outcome import compare, describe
from bolt.display import ProgressDisplay
from bolt.errors import BoltError
from bolt.options import Shapes, cores, make, parse_shapes
from bolt.report import Progress

_DISAGREEMENT = 8


@click.command()
@click.option("--model", type=click.Path(path_type=Path), help="Your own ONNX file, on random inputs.")
@click.option("--shape", multiple=True, metavar="NAME=DIMS", help="Size of an input or a symbol of --model.")
@click.option("--budget", default="20s", show_default=True, help="Time for tuning: 0, 30s, 5m, unlimited.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads [all cores].")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the artifact [in the cache].")
@click.option("--offline", is_flag=True, help="Fetch nothing; use a generated model.")
def main(
    model: Path | None, shape: tuple[str, ...], budget: str, threads: int | None, output: Path | None,
    offline: bool,
) -> None:  # fmt: skip
    """Optimize a trained model, run it on a real input, and compare with ONNX Runtime."""
    threads = threads or cores()
    shapes = make(shapes=parse_shapes(shape)).shapes
    with tempfile.TemporaryDirectory(prefix="bolt-demo-") as folder:
        try:
            with ProgressDisplay() as progress:
                job = _job(model, shapes, offline, Path(folder), progress)
                artifact = bolt.optimize(
                    job.model, budget=budget, threads=threads, progress=progress, output=output,
                    shapes={name: array.shape for name, array in job.largest.items()},
                )  # fmt: skip
                outcome = compare(job, artifact, threads, progress)
        except BoltError as error:
            click.echo(f"error: {error}", err=True)
            raise click.exceptions.Exit(error.exit_code) from error
        click.echo(describe(job, artifact, outcome, threads))
    if not outcome.agree:
        raise click.exceptions.Exit(_DISAGREEMENT)


def _job(model: Path | None, shapes: Shapes, offline: bool, folder: Path, progress: Progress) -> Job:
    """The job asked for; without a network a generated model stands in for the trained one."""
    if model is not None:
        return file_job(model, shapes)
    if offline:
        return generated_job(folder)
    try:
        return page_job(progress)
    except PackageError as error:
        click.echo(f"{error}\nGoing on with a generated model instead of the trained one.", err=True)
        return generated_job(folder)
