"""The arena of a GPU's memory, driven through a small program (arena.cc)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bolt.ep.library import SOURCE
from bolt.toolchain.host import find_compiler


def test_blocks_go_to_those_who_may_have_them(tmp_path: Path) -> None:
    program = tmp_path / "arena"
    sources = [str(Path(__file__).with_name("arena.cc")), str(SOURCE / "arena.cc")]
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}"]
    done = subprocess.run(
        [*find_compiler().argv, *flags, *sources, "-o", str(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[:3000]
    for seed in ("1", "2"):
        assert subprocess.run([program, seed], capture_output=True, text=True).stdout == "ok\n"
