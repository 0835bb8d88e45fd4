"""What every engine is opened with and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Feeds = Mapping[str, np.ndarray]
Call = Callable[[], list[np.ndarray]]
Bind = Callable[[Feeds], Call]

PRECISIONS = ("fp32", "bf16", "int8")
"""What bolt computes in; int8 is for models that come quantized."""


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
