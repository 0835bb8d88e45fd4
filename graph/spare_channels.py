"""Channels behind an image's own, computed along because kernels of tensor cores like multiples of 8.

Pixels lie a multiple of 16 bytes apart (`Conventions.pixel_stride`): behind 61 channels there is room for
three more. A convolution fills it at no cost when its weights get rows of zeros and its epilogue knows what
to read there. With the same number in the room of every pixel of an input,

    y[..., spare] = epilogue(0, number of in0, number of in1, ...)

is one number again, and a convolution that reads y takes all 64 channels, with weights of zero for the last
three. (What is no finite number in a pixel's own channels may so spread to all results of that pixel.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from bolt.epilogue import Epilogue
from bolt.graph.placement import Placement
from bolt.program import View
from bolt.types import convert

CHANNELS = 1
"""Axis of the channels in (N, C, spatial...)."""


@dataclass(frozen=True, slots=True)
class Spare:
    """What lies behind the channels of a buffer.

    Attributes:
        own: channels of the value.
        channels: with those behind them.
        number: in each of the latter.
    """

    own: int
    channels: int
    number: float


@dataclass(frozen=True, slots=True)
class Wide:
    """A view with its spare channels, and the number in them."""

    view: View
    number: float


class SpareChannels(Placement):
    """Knows which buffers have numbers behind their channels.

    Attributes:
        spare: those, by name.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.spare: dict[str, Spare] = {}

    def room(self, value: ir.Value, out: View) -> int | None:
        """How many channels the kernel that writes `value` to `out` had better compute; None: its own."""
        if self.whole.get(out.buffer.name) is not value or len(out.dims) < 3:
            return None
        own = out.dims[CHANNELS]
        if not isinstance(own, int) or out.strides[CHANNELS] != 1 or out.dtype is not self.conventions.stored:
            return None
        wanted = self.conventions.channels(own)
        steps = [s for axis, s in enumerate(out.strides) if axis != CHANNELS]
        roomy = all(not isinstance(s, int) or s >= wanted for s in steps)
        return wanted if wanted != own and roomy else None

    def with_spare(self, view: View, channels: int, axis: int = CHANNELS) -> Wide | None:
        """`view` with `channels` channels, if what lies behind its own is known."""
        constant = self._per_channel(view, channels, axis)
        if constant is not None:
            return constant
        spare = self.spare.get(view.buffer.name)
        if spare is None or view.offset != 0 or view.strides[axis] != 1:
            return None
        if view.dims[axis] != spare.own or spare.channels < channels:
            return None
        return Wide(_lengthened(view, axis, channels), spare.number)

    def _per_channel(self, view: View, channels: int, axis: int) -> Wide | None:
        """One constant per channel, with zeros behind."""
        array = self.constants.get(view.buffer.name)
        others = [a for a in range(len(view.dims)) if a != axis]
        alone = all(view.strides[a] == 0 or view.dims[a] == 1 for a in others)
        if array is None or not alone or view.strides[axis] != 1 or array.size != view.dims[axis]:
            return None
        longer = self.const(np.pad(array.reshape(-1), (0, channels - array.size)))
        return Wide(_lengthened(replace(view, buffer=longer.buffer), axis, channels), 0.0)

    def fill_spare(
        self, value: ir.Value, out: View, extras: Sequence[View], epilogue: Epilogue, acc: float | None
    ) -> list[View] | None:
        """Output and epilogue inputs with spare channels, which from then on are known; None if they can't.

        Args:
            acc: what the kernel's accumulator holds in them.
        """
        channels = self.room(value, out)
        if channels is None:
            return None
        wide = [self.with_spare(v, channels) for v in extras]
        if any(w is None for w in wide):
            return None
        known = [w for w in wide if w is not None]
        start = None if acc is None else np.float64(acc)
        numbers = [np.float64(w.number) for w in known]
        number = float(convert(epilogue.evaluate(start, numbers), out.dtype))  # type: ignore[arg-type]
        if not np.isfinite(number):
            return None
        own = out.dims[CHANNELS]
        assert isinstance(own, int)
        self.spare[out.buffer.name] = Spare(own, channels, number)
        return [_lengthened(out, CHANNELS, channels), *(w.view for w in known)]


def _lengthened(view: View, axis: int, length: int) -> View:
    return replace(view, dims=(*view.dims[:axis], length, *view.dims[axis + 1 :]))
