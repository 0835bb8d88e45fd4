"""The child process that times modules with and without chains: a crash ends it, not the search.

Started as `python -m bolt.search.chain_worker`; reads a request (JSON) from stdin:

    {"modules": [{"path", "weights": .npy file, "groups": [[step, ...], ...]}],
     "inputs": .npz file of a0, a1, ..., "threads", "precision", "cache", "compiler"}

Prints one line of JSON: {"wrong": sentence about the first module that disagrees with the first one, or "",
"us": for each module, of each run, the microseconds of each group and last of the whole run}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bolt.module.load import Module, load
from bolt.verify import compare_model

TIME_S = 2.5
ROUNDS = (4, 80)
RUNS = 3
"""Counted runs of a module per round, after one that fills the caches."""


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request."""
    cache = Path(request["cache"]) if request["cache"] else None
    arrays = np.load(request["inputs"])
    inputs = [arrays[f"a{i}"] for i in range(len(arrays.files))]
    modules = [
        load(row["path"], np.load(row["weights"]), cache_root=cache, compiler=request["compiler"])
        for row in request["modules"]
    ]
    threads = int(request["threads"])
    wrong = _disagreement(modules, inputs, threads, request["precision"])
    groups = [row["groups"] for row in request["modules"]]
    return {"wrong": wrong, "us": [] if wrong else _times(modules, groups, inputs, threads)}


def _disagreement(
    modules: Sequence[Module], inputs: Sequence[np.ndarray], threads: int, precision: str
) -> str:
    first, *others = [module.run(inputs, threads=threads) for module in modules]
    for outputs in others:
        for got, want in zip(outputs, first, strict=True):
            verdict = compare_model(got, want, precision=precision)
            if not verdict.ok:
                return verdict.reason
    return ""


def _times(
    modules: Sequence[Module],
    groups: Sequence[Sequence[Sequence[int]]],
    inputs: Sequence[np.ndarray],
    threads: int,
) -> list[list[list[float]]]:
    """Microseconds of groups of steps; the modules take turns."""
    found: list[list[list[float]]] = [[] for _ in modules]
    start = time.perf_counter()
    for module in modules:
        module.run(inputs, threads=threads)
    one_s = (time.perf_counter() - start) * (RUNS + 1)
    least, most = ROUNDS
    for _ in range(min(most, max(least, round(TIME_S / one_s)))):
        for module, wanted, times in zip(modules, groups, found, strict=True):
            module.run(inputs, threads=threads)
            for _ in range(RUNS):
                us = [step_us for _, step_us in module.profile(inputs, threads=threads, rounds=1)]
                times.append([*(sum(us[i] for i in group) for group in wanted), sum(us)])
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(serve(json.load(sys.stdin))))
