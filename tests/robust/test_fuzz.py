"""Damaged models end in success or in a BoltError: a small run of `fuzz_models.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
from onnx_models import attention_block, convnet

COUNT = 60


def test_damaged_models(tmp_path: Path) -> None:
    models = {"convnet": convnet(batch="n"), "attention": attention_block(batch="n", length="s")}
    for name, model in models.items():
        onnx.save(model, tmp_path / f"{name}.onnx")
    program = Path(__file__).with_name("fuzz_models.py")
    paths = [str(tmp_path / f"{name}.onnx") for name in models]
    command = [sys.executable, str(program), *paths, "--count", str(COUNT), "--seconds", "60"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for line in done.stdout.splitlines():
        outcome = json.loads(line)
        assert outcome["optimized"] + outcome["refused"] == COUNT
        assert outcome["optimized"] >= COUNT // 5 and outcome["refused"] >= COUNT // 5


def test_what_is_no_bolt_error_is_found(tmp_path: Path) -> None:
    """The program itself: an error that escapes, a crash and a hang are told apart from success."""
    onnx.save(convnet(), tmp_path / "convnet.onnx")
    code = (
        "import os, sys, time, fuzz_models as f\n"
        "def escape(*_): raise KeyError('x')\n"
        "def crash(*_): os.abort()\n"
        "def hang(*_): time.sleep(60)\n"
        "for fault in (escape, crash, hang):\n"
        "    f.driver.optimize = fault\n"
        "    limits = f.Limits(seconds=0.5, bytes=8 << 30)\n"
        "    print(f.in_child(b'', f.Path('.'), limits).kind)\n"
    )
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout.split() == ["escaped", "crashed", "hung"], done.stderr
