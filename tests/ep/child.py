"""Runs in a child process: a toy artifact through whatever onnxruntime that process imports.

    python child.py <artifact> <scale>

Prints one JSON object; a crash or an error is the parent's to see.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime

from bolt.ep.artifact import Artifact

COLUMNS = 37


def main(path: str, scale: float) -> dict[str, object]:
    artifact = Artifact.load(path)

    def run(session: onnxruntime.InferenceSession, rows: int) -> None:
        x = np.random.default_rng(rows).standard_normal((rows, COLUMNS)).astype(np.float32)
        expected = x * np.float32(scale) + np.arange(COLUMNS, dtype=np.float32)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-6, atol=1e-5)

    sessions = [artifact.session(), artifact.session(threads=2), from_memory(artifact)]
    for session in sessions:
        for rows in (0, 1, 3, 500):
            run(session, rows)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: run(sessions[i % 3], 20 + i), range(60)))
    try:
        sessions[0].run(None, {"x": np.zeros((13, COLUMNS), np.float32)})
        error = ""
    except Exception as e:
        error = str(e)
    return {
        "version": onnxruntime.__version__,
        "providers": sessions[0].get_providers(),
        "error": error,
        "by_name": by_name(artifact),
    }


def from_memory(artifact: Artifact) -> onnxruntime.InferenceSession:
    """A session whose model comes as bytes: the artifact's place has to be told."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("ep.context_file_path", str(artifact.model_path))
    return artifact.session(session_options=options, path_or_bytes=artifact.model_path.read_bytes())


def by_name(artifact: Artifact) -> str:
    """What `providers=[name]` does after registration; 1.23 and 1.24 do not know plugins by name."""
    try:
        session = onnxruntime.InferenceSession(artifact.model_path, providers=["BoltExecutionProvider"])
        return ", ".join(session.get_providers())
    except Exception as error:
        return f"error: {str(error)[:60]}"


if __name__ == "__main__":
    print(json.dumps(main(str(Path(sys.argv[1])), float(sys.argv[2]))))
