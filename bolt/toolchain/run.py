"""One compiler process: its time limit, and a clear error when it fails."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bolt.errors import CompileError, ToolchainError
from bolt.options import child_environment

TIMEOUT_S = 300.0
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


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    kept: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Runs a compiler command in `cwd`.

    Args:
        kept: where the source can be found afterwards, for the message.
        environment: changes to the child's environment.

    Returns:
        What it wrote to stderr.

    Raises:
        CompileError: it failed, or ran longer than `timeout_s`.
        ToolchainError: it could not do its work on this machine: no space, no memory, no compiler any more.
    """
    process = _started(argv, cwd, environment or {})
    try:
        _, stderr = process.communicate(timeout=timeout_s)
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
