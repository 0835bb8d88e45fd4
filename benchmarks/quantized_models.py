"""Models quantized by ONNX Runtime's own tools as users do: static QDQ for images, dynamic for text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Feeds = Mapping[str, np.ndarray]

KINDS = ("static", "dynamic")

_SCALES_PER_CHANNEL = 13
"""The opset that brought them."""

_CONSTANTS_ARE_NO_INPUTS = 7
"""Version of the file format from which on that holds here (4 at least)."""


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    """Given inputs, one after the other."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._left: Iterator[Feeds] = iter(feeds)

    def get_next(self) -> Feeds | None:
        return next(self._left, None)


def quantize(model: Path, kind: str, feeds: Sequence[Feeds], place: Path) -> Path:
    """Writes the quantized `model` to `place`.

    Args:
        kind: "static": QuantizeLinear and DequantizeLinear around every operator, uint8 activations by the
            smallest and largest values seen, int8 weights with one scale per output channel. "dynamic":
            matrix products of int8 weights with activations quantized at run time.
        feeds: inputs to calibrate a static model with.
        place: the file to write.
    """
    assert kind in KINDS, kind
    with tempfile.TemporaryDirectory(prefix="bolt-quantize-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        if kind == "dynamic":
            onnx.save(_untyped_weights(onnx.load(model)), prepared)
            quantize_dynamic(prepared, place, weight_type=QuantType.QInt8, per_channel=True)
            return place
        quant_pre_process(_recent(model, Path(folder)), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            place,
            _Samples(feeds),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    onnx.checker.check_model(str(place))
    return place


def _recent(model: Path, folder: Path) -> Path:
    """`model`, or a copy of it in a newer opset where its own has no scales per channel."""
    loaded = onnx.load(model)
    if any(o.domain in ("", "ai.onnx") and o.version >= _SCALES_PER_CHANNEL for o in loaded.opset_import):
        return model
    fed = {value.name for value in loaded.graph.input} - {t.name for t in loaded.graph.initializer}
    kept = [value for value in loaded.graph.input if value.name in fed]
    del loaded.graph.input[:]
    loaded.graph.input.extend(kept)
    loaded.ir_version = max(loaded.ir_version, _CONSTANTS_ARE_NO_INPUTS)
    place = folder / "recent.onnx"
    onnx.save(onnx.version_converter.convert_version(loaded, _SCALES_PER_CHANNEL), place)
    return place


def _untyped_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the shapes of weights that some exporters write: the tool transposes the weights alone."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.value_info if value.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    return model
