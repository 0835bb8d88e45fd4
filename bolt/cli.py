"""The command line: reads arguments, calls the API, shows what comes back.

Only click and light modules are imported here; each command loads what it needs.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from bolt.errors import BoltError
from bolt.options import OptionError, cache_dir, parse_shapes
from bolt.report import Progress, silent

_SYSTEM_ERROR = 1
_INTERNAL_ERROR = 70
_INTERRUPTED = 130
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_artifact = click.argument("artifact", type=click.Path(path_type=Path))


class _Guarded(click.Group):
    """A group whose commands end with one clear line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(
                "interrupted; what was measured is kept, the same command goes on from there", err=True
            )
            ctx.exit(_INTERRUPTED)
        except BoltError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except (OSError, MemoryError) as error:
            if ctx.params["debug"]:
                raise
            said = str(error) or "not enough memory"
            click.echo(f"error: {said}; look at paths, permissions and the space left", err=True)
            ctx.exit(_SYSTEM_ERROR)
        except Exception as error:
            if ctx.params["debug"]:
                raise
            click.echo(
                f"internal error: {error!r}. `bolt --debug ...` shows where; please report it", err=True
            )
            ctx.exit(_INTERNAL_ERROR)


@click.group(cls=_Guarded, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="bolt-ep", prog_name="bolt")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Turn ONNX models into fast native code that ONNX Runtime runs."""


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write [MODEL.bolt].")
@click.option("--target", multiple=True, default=("auto",), show_default=True, help="Instruction set.")
@click.option("--precision", default="fp32", show_default=True, help="fp32, bf16; on GPUs also tf32, fp16.")
@click.option("--budget", default="5m", show_default=True, help="Time for tuning: 0, 30s, 5m, unlimited.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to tune for [all cores].")
@click.option("--shape", multiple=True, metavar="NAME=DIMS", help="Sample size of an input or a symbol.")
@click.option("--cxx", help="C++ compiler to use.")
@click.option("--nvcc", help="CUDA compiler to use.")
@click.option("--jobs", type=click.IntRange(min=0), default=0, help="Compiler processes at a time.")
@click.option("--no-ab", is_flag=True, help="Do not time against ONNX Runtime.")
@click.option("--no-verify", is_flag=True, help="Do not compare results with ONNX Runtime's.")
@_json
def optimize(
    model: Path, output: Path | None, target: tuple[str, ...], precision: str, budget: str,
    threads: int | None, shape: tuple[str, ...], cxx: str | None, nvcc: str | None, jobs: int, no_ab: bool,
    no_verify: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compile MODEL into a package for ONNX Runtime."""
    import bolt

    with _progress(as_json) as progress:
        made = bolt.optimize(
            model, target=target, precision=precision, budget=budget, threads=threads,
            shapes=parse_shapes(shape), output=output or Path(f"{model.stem}.bolt"), progress=progress,
            compiler=cxx, nvcc=nvcc, jobs=jobs, ab=not no_ab, verify=not no_verify,
        )  # fmt: skip
    _show(
        as_json,
        lambda: {"artifact": str(made.path), "report": made.report},
        lambda: _display().summary(str(made.path), made.report),
    )


@cli.command()
@_artifact
@click.option("--input", "texts", multiple=True, metavar="FILE", help="x.npz, name=x.npy or random.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the outputs to this .npz file.")
@click.option("--shape", multiple=True, metavar="SYMBOL=SIZE", help="Size of an open dim of random inputs.")
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the session.")
@_json
def run(
    artifact: Path, texts: tuple[str, ...], output: Path | None, shape: tuple[str, ...], repeat: int,
    threads: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Run the package ARTIFACT through ONNX Runtime."""
    from bolt.runs import run_artifact

    done = run_artifact(artifact, texts, shapes=parse_shapes(shape), repeat=repeat, threads=threads)
    if output:
        done.save(output)
    _show(as_json, done.to_dict, done.describe)


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Read a photographed page with a trained model, beside ONNX Runtime."""
    from bolt.demo.command import main

    main(list(arguments), prog_name="bolt demo")


@cli.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--against",
    default="ort",
    show_default=True,
    help="Engines: ort,ort_best,openvino,torch,torch_compile,tvm.",
)
@click.option("--precision", default="auto", help="fp32, bf16, or int8 [fp32; int8 for a quantized model].")
@click.option("--threads", metavar="N,...", help="One or several numbers of threads [all cores].")
@click.option("--budget", default="1m", show_default=True, help="Time for tuning, per number of threads.")
@click.option("--shape", multiple=True, metavar="NAME=DIMS", help="Sample size of an input or a symbol.")
@click.option("--layers", is_flag=True, help="Also print the time of each step.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the result to this JSON file.")
@_json
def bench(
    model: Path, against: str, precision: str, threads: str | None, budget: str, shape: tuple[str, ...],
    layers: bool, output: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Time MODEL side by side with other engines."""
    from bolt.bench import bench as measure
    from bolt.bench.table import text

    with _progress(as_json) as progress:
        result = measure(
            model, against.split(","), threads=_counts(threads), budget=budget, shapes=parse_shapes(shape),
            with_layers=layers, precision=precision, progress=progress,
        )  # fmt: skip
    if output:
        result.save(output)
    _show(as_json, result.to_dict, lambda: text(result, layers=layers))


@cli.command()
@_artifact
@click.option("--all", "every", is_flag=True, help="Show every reason.")
@_json
def explain(artifact: Path, every: bool, as_json: bool) -> None:
    """Say what bolt did with a model, and what it did not and why."""
    from bolt.ep.artifact import Artifact

    report = Artifact.load(artifact).report
    if as_json:
        click.echo(json.dumps(report, indent=1))
        return
    click.echo(_display().summary(str(artifact), report))
    _display().explain(report, every=every)


@cli.command()
@click.option("--quick", is_flag=True, help="Do not build and load the execution provider.")
@_json
def doctor(quick: bool, as_json: bool) -> None:
    """Look at compiler, instruction sets, ONNX Runtime, GPU and cache."""
    from dataclasses import asdict

    from bolt.doctor import examine

    found = examine(deep=not quick)
    if as_json:
        click.echo(json.dumps([asdict(f) for f in found], indent=1))
    else:
        _display().findings(found)
    if any(f.status == "bad" for f in found):
        raise click.exceptions.Exit(1)


@cli.group()
def cache() -> None:
    """Look at the cache of kernels, packages and measurements, or make it smaller."""


@cache.command("show")
@_json
def cache_show(as_json: bool) -> None:
    """Print what the cache holds."""
    from dataclasses import asdict

    from bolt.storage import parts

    found = parts(cache_dir())
    _show(
        as_json,
        lambda: {"path": str(cache_dir()), "parts": [asdict(p) for p in found]},
        lambda: _display().parts(str(cache_dir()), found),
    )


@cache.command("prune")
@click.option("--max-size", default="2g", show_default=True, help="What may be left: 500m, 2g.")
def cache_prune(max_size: str) -> None:
    """Drop what was unused for longest; measurements stay."""
    from bolt.storage import prune

    click.echo(f"freed {prune(cache_dir(), _parse_size(max_size)) / 1e6:.1f} MB")


@cache.command("clear")
def cache_clear() -> None:
    """Drop everything, measurements included."""
    from bolt.storage import clear

    click.echo(f"freed {clear(cache_dir()) / 1e6:.1f} MB")


@cache.command("export")
@click.argument("file", type=click.Path(path_type=Path))
def cache_export(file: Path) -> None:
    """Write all measurements to FILE (JSON)."""
    from bolt.search.records import Records

    with Records.below(cache_dir()) as records:
        file.write_text(json.dumps(records.export(), indent=1))
        click.echo(f"{records.count()} measurements")


@cache.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def cache_import(file: Path) -> None:
    """Add the measurements in FILE, made on an equal machine."""
    from bolt.search.records import Records

    with Records.below(cache_dir()) as records:
        click.echo(f"{records.merge(_read_json(file))} measurements added")


def _progress(quiet: bool) -> contextlib.AbstractContextManager[Progress]:
    return contextlib.nullcontext(silent) if quiet else _display().ProgressDisplay()


def _display() -> Any:
    from bolt import display

    return display


def _show(as_json: bool, data: Callable[[], Any], text: Callable[[], str]) -> None:
    click.echo(json.dumps(data(), indent=1) if as_json else text())


def _counts(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise OptionError(f"threads {text!r} can't be read; write 4, or 1,2,4")
    return tuple(int(count) for count in text.split(","))


def _parse_size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    if not match:
        raise OptionError(f"size {text!r} can't be read; write 500m or 2g")
    return int(float(match[1]) * _SIZES[match[2]])


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise OptionError(f"{file} is no JSON file ({error}); `bolt cache export` writes one") from error


def main() -> None:
    """The entry point of the `bolt` command."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup asks to ignore SIGHUP
            signal.signal(number, _terminate)
    try:
        cli(prog_name="bolt")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is over: Ctrl-C must not change how it ended


def _terminate(number: int, _: object) -> NoReturn:
    """Ends by an exception, so that folders and child processes are cleaned up."""
    raise SystemExit(128 + number)
