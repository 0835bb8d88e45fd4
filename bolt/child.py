"""Questions to a process of its own: a crash ends that process, not the program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bolt.errors import BoltError
from bolt.options import child_environment


def ask(
    module: str,
    request: Mapping[str, Any],
    *,
    what: str,
    timeout_s: float,
    error: type[BoltError],
    environment: Mapping[str, str] | None = None,
) -> Any:
    """The JSON in the last line that `python -m module` prints when it reads `request` (JSON) from stdin.

    Args:
        what: it does, for a person.
        error: what is raised.
        environment: variables that are set for it.

    Raises:
        BoltError: it crashed, said nothing, or did not finish in time.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module], input=json.dumps(request), capture_output=True, text=True,
            timeout=timeout_s, check=False, env=child_environment(**(environment or {})),
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        raise error(f"{what} did not finish within {timeout_s:.0f} s") from expired
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = " / ".join(done.stderr.strip().splitlines()[-3:]) or "no message"
        raise error(f"{what} ended with status {done.returncode}: {said}")
    return json.loads(lines[-1])
