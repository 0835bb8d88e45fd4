"""OpenVINO's CPU plugin."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import numpy as np

from bolt.bench.opening import Bind, Call, Feeds, Opening

_PRECISION: Mapping[str, Mapping[str, str]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {},
}
"""A quantized model runs in int8 with any hint; what is not quantized in it runs in OpenVINO's own choice."""


def open_openvino(opening: Opening) -> Bind:
    """Loads the model for short answers; inputs and outputs are shared, not copied."""
    openvino = importlib.import_module("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": opening.threads,
        "PERFORMANCE_HINT": "LATENCY",
        **_PRECISION[opening.precision],
    }
    compiled = openvino.Core().compile_model(str(opening.model), "CPU", settings)
    request = compiled.create_infer_request()

    def bind(feeds: Feeds) -> Call:
        def call() -> list[np.ndarray]:
            found = request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            return [found[output] for output in compiled.outputs]

        return call

    return bind
