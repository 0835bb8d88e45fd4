"""One compiler process: its time limit, and a clear error when it fails."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bolt.errors import CompileError, ToolchainError
from bolt.options import child_environment

TIMEOUT_S = 300.0
_LOOK_S = 0.2
_LINES = 12
_SURROUNDINGS = {
    "No space left on device": "the disk is full; free some space (`bolt cache prune` does)",
    "Disk quota exceeded": "the disk quota is used up; free some space (`bolt cache prune` does)",
    "File size limit exceeded": "the limit of a file's size (`ulimit -f`) is too low",
    "File too large": "the limit of a file's size (`ulimit -f`) is too low",
    "Read-only file system": "the folder can't be written",
    "Killed signal terminated": "the system ended it, which it does when memory is short; use fewer --jobs",
    "out of memory": "memory is short; use fewer --jobs",
    "Cannot allocate memory": "memory is short; use fewer --jobs",
}
"""What a compiler says when not the source but the machine is at fault: no verdict on a kernel."""


class Stopped(Exception):
    """The command was ended because nobody waits for it any more."""


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    kept: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
    stop: threading.Event | None = None,
) -> str:
    """Runs a compiler command in `cwd`.

    Args:
        kept: where the source can be found afterwards, for the message.
        environment: changes to the child's environment.
        stop: ends the command when it is set.

    Returns:
        What it wrote to stderr.

    Raises:
        CompileError: it failed, or ran longer than `timeout_s`.
        ToolchainError: it could not do its work on this machine: no space, no memory, no compiler any more.
        Stopped: `stop` was set.
    """
    process = _started(argv, cwd, environment or {})
    try:
        stderr = _said(process, timeout_s, stop or threading.Event())
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise CompileError(_message(argv, f"took longer than {timeout_s:g} s", "", kept)) from error
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        if said := next((text for mark, text in _SURROUNDINGS.items() if mark in stderr), None):
            raise ToolchainError(_message(argv, f"could not work in {cwd}: {said}", stderr, None))
        raise CompileError(_message(argv, f"failed with exit code {process.returncode}", stderr, kept))
    return stderr


def _said(process: subprocess.Popen[str], timeout_s: float, stop: threading.Event) -> str:
    """What the process wrote to stderr, once it has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return process.communicate(timeout=min(_LOOK_S, max(0.0, deadline - time.monotonic())))[1]
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise


def _started(argv: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, errors="replace", start_new_session=True,
            # Its temporary files go with the folder when it is killed.
            env=child_environment(LC_ALL="C", TMPDIR=str(cwd), **environment),
        )  # fmt: skip
    except OSError as error:
        raise ToolchainError(f"the compiler {argv[0]} can't be started ({error})") from error


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
