"""A sample of the ONNX backend suite; `suite.py` runs all of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.parametrize("mode", [[], ["--const-weights"]], ids=["as is", "constant weights"])
def test_a_sample_passes(mode: list[str], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, str(SUITE), *mode, "--include", "^(node|pytorch)", "--every", "61"]
    done = subprocess.run(
        [*command, "--jobs", "1", "--cache", str(tmp_path / "cache"), "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = json.loads(out.read_text())
    assert sum(r["status"] == "pass" for r in results.values()) >= 15
    assert sum(r["nodes"] > 0 for r in results.values()) >= 8, "bolt took part in too few cases"
