"""Damaged manifests never crash the process and never give a wrong result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ep import toy

MUTATIONS = 600


def test_mutated_manifests(tmp_path: Path) -> None:
    artifact = toy.artifact(tmp_path / "toy.bolt", toy.Toy(), graph=toy.only_partition())
    program = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(program), str(artifact.path), str(toy.Toy().scale), str(MUTATIONS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert outcome["refused"] + outcome["ran"] == MUTATIONS
    assert outcome["refused"] > 200 and outcome["ran"] > 50
