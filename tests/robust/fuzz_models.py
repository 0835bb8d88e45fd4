"""Damages ONNX models and optimizes what is left; anything but success or a BoltError is a finding.

    python tests/robust/fuzz_models.py MODEL... [--count 500] [--seed 0] [--compile] [--keep FOLDER]

Each mutation runs in a child process of its own, with limits on time and memory, up to and including
lowering; with --compile the whole way to a package, which then runs. Mutation i of a model depends on the
seed, the model's name and i alone, so `--only i` repeats one. Ends with status 1 when there are findings.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # children are forked: no threads but ours

from mutations import damage

from bolt import driver, inputs
from bolt.ep.artifact import Artifact
from bolt.ep.session import load_runtime
from bolt.errors import BoltError
from bolt.options import make

GOOD = ("optimized", "refused")


class Lowered(BaseException):
    """Raised in place of compiling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a mutation.

    Attributes:
        kind: "optimized", "refused", or a finding: "escaped", "crashed", "hung".
        said: the error's class and message, or where it happened.
    """

    kind: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one mutation may take."""

    seconds: float
    bytes: int


def attempt(data: bytes, cache: Path) -> Outcome:
    """Optimizes a model in this process."""
    asked = make(budget="0", threads=1, cache=cache, verify=False, ab=False)
    try:
        run(driver.optimize(data, asked))
    except BoltError as error:
        if str(error).strip():
            return Outcome(kind="refused", said=f"{type(error).__name__}: {error}")
        return Outcome(kind="escaped", said=f"{type(error).__name__} without a message")
    except Lowered:
        pass
    except BaseException as error:
        return Outcome(kind="escaped", said=_where(error))
    return Outcome(kind="optimized", said="")


def run(artifact: Artifact) -> None:
    """One run on random inputs; ONNX Runtime may refuse them, but nothing may crash."""
    load_runtime().set_default_logger_severity(4)
    try:
        session = artifact.session(threads=1)
        session.run(None, inputs.read((), inputs.wanted(session), {}))
    except BoltError:
        raise
    except Exception as error:
        if "onnxruntime" not in type(error).__module__:
            raise


def _where(error: BaseException) -> str:
    """The error and the innermost frames of bolt's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "site-packages" not in f.filename and "fuzz_models" not in f.filename]
    calls = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(ours[-4:]))
    return f"{type(error).__name__}: {str(error)[:200]} at {calls}"


def in_child(data: bytes, cache: Path, limits: Limits) -> Outcome:
    """The outcome of `attempt` in a forked child, which may crash, hang or eat memory."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as trace:
        child = os.fork()
        if child == 0:
            _run_child(data, cache, limits, answer.fileno(), trace.fileno())
        _, status = os.waitpid(child, 0)
        answer.seek(0)
        trace.seek(0)
        text, frames = answer.read().decode(), trace.read().decode(errors="replace")
    if text:
        return Outcome(**json.loads(text))
    code = os.waitstatus_to_exitcode(status)
    calls = " < ".join(line.strip() for line in frames.splitlines() if "/main/" in line or "bolt" in line)
    if "Timeout" in frames or code == -signal.SIGKILL:
        return Outcome(kind="hung", said=f"more than {limits.seconds:.0f} s at {calls[:600]}")
    return Outcome(kind="crashed", said=f"status {code} at {calls[:600] or frames[:600]}")


def _run_child(data: bytes, cache: Path, limits: Limits, answer: int, trace: int) -> None:
    """Never returns."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limits.bytes, limits.bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=trace)
        signal.alarm(int(limits.seconds) + 30)  # for what holds the interpreter's lock
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            outcome = attempt(data, cache)
        os.write(answer, json.dumps({"kind": outcome.kind, "said": outcome.said}).encode())
        code = 0
    finally:
        os._exit(code)


def fuzz(path: Path, options: argparse.Namespace, cache: Path) -> list[tuple[int, str, Outcome]]:
    """All outcomes of one model: (number, mutation, outcome)."""
    data, limits = (
        path.read_bytes(),
        Limits(seconds=options.seconds, bytes=int(options.gigabytes * (1 << 30))),
    )
    found = []
    for index in options.only or range(options.count):
        mutated, done = damage(random.Random(f"{options.seed}:{path.stem}:{index}"), data)
        start = time.monotonic()
        outcome = in_child(mutated, cache, limits)
        found.append((index, done, outcome))
        if options.verbose:
            print(f"{path.stem} {index} {time.monotonic() - start:.1f} s {done}: {outcome}", flush=True)
        elif outcome.kind not in GOOD:
            print(f"{path.stem} {index} [{done}] {outcome.kind}: {outcome.said}", flush=True)
        if options.keep and outcome.kind not in GOOD:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{path.stem}_{index}.onnx").write_bytes(mutated)
    return found


def _stop(*_: Any) -> Any:
    raise Lowered


def main() -> None:
    """Prints a line per finding, and per model a JSON line of how many mutations ended how."""
    parser = argparse.ArgumentParser(description="Optimizes damaged models.")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=500, help="mutations per model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of single mutations")
    parser.add_argument("--compile", action="store_true", help="go on to the package")
    parser.add_argument("--keep", type=Path, help="folder for the models of findings")
    parser.add_argument("--seconds", type=float, default=120.0, help="limit of one mutation")
    parser.add_argument("--gigabytes", type=float, default=8.0, help="limit of one mutation's memory")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not options.compile:
        driver.compile_partitions = _stop
    bad = 0
    with tempfile.TemporaryDirectory(prefix="bolt-fuzz-") as cache:
        for path in options.models:
            kinds = Counter(outcome.kind for _, _, outcome in fuzz(path, options, Path(cache)))
            bad += sum(count for kind, count in kinds.items() if kind not in GOOD)
            print(json.dumps({"model": path.stem, **dict(sorted(kinds.items()))}), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
