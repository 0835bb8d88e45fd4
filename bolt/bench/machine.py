"""What a measurement depends on besides the model: machine, versions, the state of the source tree."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bolt.bench.engines import Engine
from bolt.ep.library import bolt_version
from bolt.options import cores
from bolt.search.records import device_name
from bolt.target import detect
from bolt.toolchain.host import find_compiler


def facts(engines: Sequence[Engine]) -> dict[str, Any]:
    """Plain JSON about this machine and the programs on it.

    Raises:
        ToolchainError: there is no compiler.
        TargetError: the architecture has no target.
    """
    return {
        "cpu": device_name(),
        "arch": platform.machine(),
        "cores": cores(),
        "target": detect().name,
        "system": platform.platform(terse=True),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "versions": {
            "bolt": bolt_version(),
            "python": platform.python_version(),
            "compiler": find_compiler().identity,
            **{engine.title: engine.version() for engine in engines if engine.name != "bolt"},
        },
    }


def commit() -> str | None:
    """The commit of the checkout bolt runs from, with "+" when files were changed; None outside of one."""
    here = Path(__file__).parent
    try:
        revision = _git("rev-parse", "--short=12", "HEAD", cwd=here)
        return revision + ("+" if _git("status", "--porcelain", "-uno", cwd=here) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout.strip()
