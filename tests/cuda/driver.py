"""The pretended CUDA driver (driver.cc) for programs that run as child processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from bolt.toolchain.host import find_compiler

SOURCE = Path(__file__).with_name("driver.cc")
SONAME = "libcuda.so.1"
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}")


@cache
def library() -> Path:
    """The compiled library; one folder per test process."""
    out = Path(mkdtemp(prefix="bolt-driver-")) / SONAME
    command = [*find_compiler().argv, *FLAGS, str(SOURCE), "-o", str(out), "-ldl"]
    subprocess.run(command, check=True)
    return out


def environment(devices: str = "80", **changes: str) -> Mapping[str, str]:
    """What a child process gets so that it sees GPUs of these compute capabilities ("80,90")."""
    kept = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return kept | {"LD_LIBRARY_PATH": str(library().parent), "FAKE_CUDA_DEVICES": devices} | changes
