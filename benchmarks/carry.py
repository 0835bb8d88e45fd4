"""`python -m benchmarks carry DIR`: what a GPU machine without a network needs to test and measure bolt.

Such a machine has Python, a driver, nvcc and torch. Everything else travels as wheels beside the repository:
bolt itself (a checkout can't be imported: building maps graph/ and templates/ into the package), CUTLASS's
headers, and the Python packages of the table below.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from bolt.bench.machine import commit
from bolt.errors import BoltError

WHEELS = (
    "nvidia-cutlass==4.2.0.0", "cuda-bindings>=13,<14", "cuda-pathfinder", "onnx-ir>=1.1", "sympy",
    "mpmath<1.4", "jinja2", "markupsafe", "ml-dtypes", "click", "rich", "markdown-it-py", "mdurl", "pygments",
    "typing-extensions", "pytest", "iniconfig", "pluggy", "packaging",
)  # fmt: skip
"""Without their needs, which torch, onnx, onnxruntime and NumPy of that machine already meet."""

PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_24_x86_64",
    "manylinux2014_x86_64",
)
MOST_BYTES = 48 << 20
"""With the repository below the 64 MiB that may travel."""

_ROOT = Path(__file__).parents[1]


class CarryError(BoltError):
    """pip failed, or what would travel is too large."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--python", default="3.12", show_default=True, help="Version of Python there.")
def carry(folder: Path, python: str) -> None:
    """Collect in FOLDER what a GPU machine without a network needs, and print the command to run there."""
    try:
        size = collect(folder, python)
    except BoltError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{size / 2**20:.1f} MiB in {folder}. On the GPU machine, in the root of this repository:\n")
    click.echo(f"    benchmarks/on_gpu.sh {folder} test 1/2\n    benchmarks/on_gpu.sh {folder} kernels 1/2")
    click.echo(f"    benchmarks/on_gpu.sh {folder} models 1/2\n    benchmarks/on_gpu.sh {folder} sanitize")


def collect(folder: Path, python: str) -> int:
    """Fills the folder; its size in bytes.

    Raises:
        CarryError: pip failed, or it is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    _pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(_ROOT))
    platforms = [f"--platform={name}" for name in PLATFORMS]
    _pip(
        "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={python}",
        "--implementation=cp", *platforms, "--dest", str(folder), *WHEELS,
    )  # fmt: skip
    (folder / "commit.txt").write_text(f"{commit() or 'unknown'}\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MOST_BYTES:
        raise CarryError(
            f"{folder} has {size >> 20} MiB, at most {MOST_BYTES >> 20} may travel; remove old wheels"
        )
    return size


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise CarryError(f"pip {arguments[0]} failed: {said}")
