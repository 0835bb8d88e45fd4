"""Runs a toy artifact on every ONNX Runtime minor version that bolt supports, each in a child process.

    python tests/ep/ort_versions.py [folder for the downloaded packages]

Prints a table. The oldest row is a version that bolt must refuse.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bolt.ep.artifact import Artifact

VERSIONS = (
    "1.22.1",
    "1.23.2",
    "1.24.4",
    "1.25.1",
    "1.26.0",
    "1.27.0",
    "1.28.0",
    "1.29.0",
    "1.30.0",
    "1.31.1",
)
TOO_OLD = ("1.22.1",)
CHILD = Path(__file__).parent / "child.py"


def install(version: str, folder: Path) -> Path:
    """The folder with that onnxruntime; downloads it when it is not there."""
    target = folder / version
    if not (target / "onnxruntime").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
        subprocess.run([*command, f"onnxruntime=={version}"], check=True, capture_output=True)
    return target


def run(package: Path, artifact: Artifact, scale: float) -> dict[str, object]:
    """What child.py prints with the onnxruntime in `package`, or {"failed": its last line of stderr}."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, str(CHILD), str(artifact.path), str(scale)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(downloads: Path) -> None:
    import toy

    with tempfile.TemporaryDirectory() as folder:
        artifact = toy.artifact(Path(folder) / "toy.bolt", toy.Toy(), graph=toy.only_partition())
        for version in VERSIONS:
            result = run(install(version, downloads), artifact, toy.Toy().scale)
            verdict = result.get("failed") or f"ok; providers=[name]: {result['by_name']}"
            print(f"{version:8} {verdict}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
