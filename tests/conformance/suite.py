"""The ONNX backend conformance suite with bolt in front of ONNX Runtime.

    python tests/conformance/suite.py [--const-weights] [--include RE] [--every N] [--jobs N] [--out FILE]

Every case the CPU provider passes is optimized (every node bolt has a kernel for is taken, however small)
and run through the package; it must pass too. Exit code 1 when one does not. Packages are made without the
trial run that precedes every hand-over; where that fails, it is made once more with the trial, which is
to hand the model back to ONNX Runtime ("fallback").
"""

from __future__ import annotations

import argparse
import collections
import json
import multiprocessing
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
_OLDEST_OPSET = 7


@dataclass(frozen=True)
class Case:
    """One model with its data sets: (inputs, expected outputs)."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def cases(kinds: tuple[str, ...] = KINDS) -> Iterator[Case]:
    """The cases of the installed onnx package whose inputs and outputs are all tensors."""
    from onnx.backend.test.loader import load_model_tests

    warnings.filterwarnings("ignore")
    for kind in kinds:
        if kind == "light":
            yield from _light()
            continue
        for test in sorted(load_model_tests(kind=kind), key=lambda t: t.name):
            model = test.model if kind == "node" else onnx.load(Path(test.model_dir) / "model.onnx")
            if not _is_plain(model):
                continue
            data = (
                [([_array(i) for i in a], [_array(o) for o in b]) for a, b in test.data_sets]
                if kind == "node"
                else list(_files(Path(test.model_dir)))
            )
            yield Case(f"{kind}/{test.name}", model, data, test.rtol, test.atol)


def _light() -> Iterator[Case]:
    """Whole networks of the onnx package, their weights replaced by constants."""
    for path in sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("*.onnx")):
        model = onnx.load(path)
        constants = {t.name for t in model.graph.initializer}
        image = next(i for i in model.graph.input if i.name not in constants)
        dims = [d.dim_value or 1 for d in image.type.tensor_type.shape.dim]
        values = (np.arange(np.prod(dims)).reshape(dims) / np.prod(dims)).astype(np.float32)
        expected = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
        data = [([values], [numpy_helper.to_array(expected)])]
        yield Case(f"light/{path.stem}", model, data, 1e-3, 1e-7)


def _is_plain(model: onnx.ModelProto) -> bool:
    values = (*model.graph.input, *model.graph.output)
    old = any(o.domain == "" and o.version < _OLDEST_OPSET for o in model.opset_import)
    return not old and all(v.type.HasField("tensor_type") for v in values)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _files(folder: Path) -> Iterator[tuple[list[Any], list[Any]]]:
    for data in sorted(folder.glob("test_data_set_*")):
        yield _tensors(data, "input"), _tensors(data, "output")


def _tensors(folder: Path, stem: str) -> list[Any]:
    count = len(list(folder.glob(f"{stem}_*.pb")))
    return [numpy_helper.to_array(onnx.load_tensor(folder / f"{stem}_{i}.pb")) for i in range(count)]


def const_weights(case: Case) -> Case:
    """All numeric inputs but the first made initializers (of the first data set)."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs = case.data[0][0]
    keep = []
    for index, (info, array) in enumerate(zip(list(model.graph.input), inputs, strict=False)):
        if index and isinstance(array, np.ndarray) and array.dtype.kind in "fiu":
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), info.name))
        else:
            keep.append(index)
    infos = [model.graph.input[i] for i in keep]
    del model.graph.input[:]
    model.graph.input.extend(infos)
    data = [([inputs[i] for i in keep], case.data[0][1])]
    return Case(case.name, model, data, case.rtol, case.atol)


def passes(session: ort.InferenceSession, case: Case) -> str:
    """ "" when every data set gives the expected outputs, else what differs."""
    names = [i.name for i in session.get_inputs()]
    for inputs, expected in case.data:
        actual = session.run(None, dict(zip(names, inputs, strict=False)))
        for got, want in zip(actual, expected, strict=True):
            try:
                _same(np.asarray(got), np.asarray(want), case)
            except AssertionError as error:
                return re.sub(r"\s+", " ", str(error))[:200]
    return ""


def _same(got: np.ndarray, want: np.ndarray, case: Case) -> None:
    assert got.shape == want.shape, f"shape {got.shape} != {want.shape}"
    assert got.dtype == want.dtype, f"dtype {got.dtype} != {want.dtype}"
    if want.dtype.kind in "fc" or want.dtype.name == "bfloat16":
        np.testing.assert_allclose(
            got.astype(np.float64), want.astype(np.float64), rtol=case.rtol, atol=case.atol
        )
    else:
        assert (got == want).all(), "values differ"


def run_case(case: Case, cache: Path) -> dict[str, Any]:
    """Status of one case: "cpu" (stock ORT does not pass), "pass", "fallback", or what went wrong."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    data = case.model.SerializeToString()
    try:
        stock = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        if passes(stock, case):
            return {"status": "cpu", "nodes": 0}
    except Exception as error:  # whatever stock ORT refuses is not this suite's subject
        return {"status": "cpu", "nodes": 0, "why": str(error)[:80]}
    shapes = {
        info.name: array.shape
        for info, array in zip(stock.get_inputs(), case.data[0][0], strict=False)
        if isinstance(array, np.ndarray) and array.size
    }
    found = _through_bolt(data, case, shapes, cache, verify=False)
    if found["status"] == "pass":
        return found
    again = _through_bolt(data, case, shapes, cache, verify=True)
    return {**found, "status": "fallback"} if again["status"] == "pass" and not again["nodes"] else found


def _through_bolt(
    data: bytes, case: Case, shapes: dict[str, tuple[int, ...]], cache: Path, *, verify: bool
) -> dict[str, Any]:
    from bolt.driver import optimize
    from bolt.options import make

    asked = make(budget="0", threads=1, verify=verify, ab=False, cache=cache, shapes=shapes)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        artifact = optimize(data, asked, everything=True)
        taken = sum(len(p["nodes"]) for p in artifact.report["partitions"])
        wrong = passes(artifact.session(threads=1, session_options=options), case)
    except Exception as error:  # every failure is a row of the result
        return {"status": "error", "nodes": 0, "why": f"{type(error).__name__}: {error}"[:300]}
    return {"status": "mismatch" if wrong else "pass", "nodes": taken, "why": wrong}


def _work(arguments: tuple[int, int, argparse.Namespace, str]) -> dict[str, Any]:
    """Run every `jobs`-th selected case, writing each name first so that a crash is attributed."""
    part, jobs, asked, cache = arguments
    ort.set_default_logger_severity(4)
    results = {}
    for index, case in enumerate(select(asked)):
        if index % jobs == part:
            Path(cache, f"current{part}").write_text(case.name)
            results[case.name] = run_case(const_weights(case) if asked.const_weights else case, Path(cache))
    return results


def select(asked: argparse.Namespace) -> Iterator[Case]:
    wanted = (c for c in cases() if re.search(asked.include, c.name))
    return (c for i, c in enumerate(wanted) if i % asked.every == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--const-weights", action="store_true")
    parser.add_argument("--include", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache")
    parser.add_argument("--out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = asked.cache or scratch
        Path(cache).mkdir(parents=True, exist_ok=True)
        work = [(part, asked.jobs, asked, cache) for part in range(asked.jobs)]
        context = multiprocessing.get_context("spawn")
        with context.Pool(asked.jobs) as pool:
            results = {n: r for found in pool.map(_work, work) for n, r in found.items()}
    if asked.out:
        Path(asked.out).write_text(json.dumps(results, indent=1, sort_keys=True))
    counts = collections.Counter(r["status"] for r in results.values())
    taken = sum(r["status"] == "pass" and r["nodes"] > 0 for r in results.values())
    for name, result in sorted(results.items()):
        if result["status"] not in ("pass", "cpu"):
            print(result["status"], name, result["why"])
    bad = counts["error"] + counts["mismatch"]
    print(f"{dict(counts)}; cases with a node on bolt: {taken}")
    print(f"{counts['pass']} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
