"""One compiler process: its time limit, and a clear error when it fails."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bolt.errors import CompileError

TIMEOUT_S = 300.0
_LINES = 12


def run(argv: Sequence[str], *, cwd: Path, kept: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
    """Runs a compiler command in `cwd`.

    Args:
        kept: where the source can be found afterwards, for the message.

    Raises:
        CompileError: it failed, or ran longer than `timeout_s`.
    """
    process = subprocess.Popen(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        _, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise CompileError(_message(argv, f"took longer than {timeout_s:g} s", "", kept)) from error
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise CompileError(_message(argv, f"failed with exit code {process.returncode}", stderr, kept))


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the driver and the compiler processes it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _message(argv: Sequence[str], what: str, stderr: str, kept: Path | None) -> str:
    lines = [f"the compiler {what}", f"  command: {shlex.join(argv)}"]
    if kept:
        lines.append(f"  source: {kept}")
    lines += [f"  {line}" for line in stderr.strip().splitlines()[-_LINES:]]
    return "\n".join(lines)
