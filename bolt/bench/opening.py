"""What every engine is opened with and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from bolt.errors import ModelError

Feeds = Mapping[str, np.ndarray]
Call = Callable[[], list[np.ndarray]]
Bind = Callable[[Feeds], Call]

PRECISIONS = ("fp32", "bf16", "int8")
"""What bolt computes in; int8 is for models that come quantized."""


QUANTIZED = frozenset(
    (
        "QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv",
        "QLinearMatMul", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    )
)  # fmt: skip
"""Operators of models whose arithmetic is int8; DequantizeLinear alone only stores weights that way."""


def is_quantized(model: Path) -> bool:
    """Whether the ONNX file `model` is computed in int8.

    Raises:
        ModelError: it can't be read.
    """
    try:
        graph = onnx.load(model, load_external_data=False).graph
    except Exception as error:  # protobuf's parse errors have no common base
        raise ModelError(f"{model} can't be read ({error}); give the path of an .onnx file") from error
    return any(node.op_type in QUANTIZED for node in graph.node)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What an engine is opened with.

    Attributes:
        model: the ONNX file.
        artifact: what bolt made of it.
        threads: threads to use.
        precision: one of `PRECISIONS`.
    """

    model: Path
    artifact: Path
    threads: int
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class Noted:
    """A call with a line about how it was set up.

    Attributes:
        call: what is timed.
        note: for people.
    """

    call: Call
    note: str

    def __call__(self) -> list[np.ndarray]:
        return self.call()


def note_of(call: Call) -> str:
    """How the call was set up ("" when there is nothing to say)."""
    return call.note if isinstance(call, Noted) else ""
