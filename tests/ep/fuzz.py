"""Runs in a child process: hundreds of damaged manifests, none of which may crash or give a wrong result.

    python fuzz.py <artifact> <scale> <mutations>

Prints how many were refused and how many ran.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bolt.ep import session
from bolt.ep.artifact import Artifact

COLUMNS = 37
JUNK = (
    None,
    True,
    -1,
    0,
    1 << 62,
    1e300,
    "",
    "..",
    "\u0000",
    "x" * 300,
    [],
    {},
    [[]],
    "/",
    "modules",
    "f" * 64,
)


def mutate_bytes(source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed))
        kind = source.randrange(4)
        if kind == 0:
            changed[at] = source.randrange(256)
        elif kind == 1:
            del changed[at : at + source.randint(1, 40)]
        elif kind == 2:
            changed[at:at] = source.randbytes(source.randint(1, 8))
        else:
            changed[at:at] = changed[at : at + source.randint(1, 60)]
        changed = changed or bytearray(b" ")
    return bytes(changed)


def mutate_value(source: random.Random, data: bytes) -> bytes:
    """Replaces, renames or drops one member somewhere in the document."""
    root = json.loads(data)
    holders = list(containers(root))
    holder, key = source.choice([(h, k) for h in holders for k in keys(h)])
    kind = source.randrange(3)
    if kind == 0:
        holder[key] = source.choice(JUNK)
    elif kind == 1:
        del holder[key]
    elif isinstance(holder, dict):
        holder["z" + key] = holder.pop(key)
    else:
        holder.append(holder[key])
    return json.dumps(root).encode()


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for key in keys(value):
            yield from containers(value[key])


def keys(value: Any) -> list[Any]:
    return sorted(value) if isinstance(value, dict) else list(range(len(value)))


def main(path: Path, scale: float, count: int) -> dict[str, int]:
    artifact = Artifact.load(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_provider_for_devices(session._devices(artifact), {})
    manifest, source = path / "manifest.json", random.Random(7)
    original = manifest.read_bytes()
    x = np.ones((3, COLUMNS), np.float32)
    expected = x * np.float32(scale) + np.arange(COLUMNS, dtype=np.float32)
    outcome = {"refused": 0, "ran": 0}
    for i in range(count):
        mutate = mutate_value if i % 2 else mutate_bytes
        manifest.write_bytes(mutate(source, original))
        try:
            result = onnxruntime.InferenceSession(artifact.model_path, options).run(None, {"x": x})[0]
        except Exception as error:
            assert "bolt: can't load node" in str(error), error
            outcome["refused"] += 1
        else:
            np.testing.assert_allclose(result, expected)
            outcome["ran"] += 1
    return outcome


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
