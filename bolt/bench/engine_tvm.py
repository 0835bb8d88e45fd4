"""TVM: the model through Relax, built for this processor."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx

from bolt.bench.engine_torch import input_names
from bolt.bench.opening import Bind, Call, Feeds, Opening
from bolt.errors import ModelError


def open_tvm(opening: Opening) -> Bind:
    """Loads the model when its inputs, and with them all sizes, are known.

    Raises:
        ModelError: another precision than fp32 is asked for.
    """
    if opening.precision != "fp32":
        raise ModelError(f"TVM builds fp32 models here, not {opening.precision}")
    return lambda feeds: _call(opening, feeds)


def _call(opening: Opening, feeds: Feeds) -> Call:
    tvm, relax = importlib.import_module("tvm"), importlib.import_module("tvm.relax")
    importer = importlib.import_module("tvm.relax.frontend.onnx")
    given = {name: np.ascontiguousarray(feeds[name]) for name in input_names(opening.model)}
    shapes = {name: list(array.shape) for name, array in given.items()}
    module = importer.from_onnx(onnx.load(opening.model), shape_dict=shapes)
    target = tvm.target.Target({"kind": "llvm", "mcpu": _processor(tvm), "num-cores": opening.threads})
    with target:
        built = tvm.compile(relax.get_pipeline("zero")(module), target=target)
    machine = relax.VirtualMachine(built, tvm.cpu())
    tensors = [tvm.runtime.tensor(array) for array in given.values()]

    def call() -> list[np.ndarray]:
        found = machine["main"](*tensors)
        outputs = found if isinstance(found, (tuple, list)) or type(found).__name__ == "Array" else (found,)
        return [output.numpy() for output in outputs]

    return call


def _processor(tvm: Any) -> str:
    return str(tvm.target.codegen.llvm_get_system_cpu())
