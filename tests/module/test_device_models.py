"""Small twins of well-known models as modules on the emulated GPU, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import lowered
import onnx
import pytest
from kernels.cuda_harness import NEEDS_EMULATOR
from module import twins
from module.test_device_run import check

from bolt.graph.conventions import conventions
from bolt.target import SM80, SM90A
from bolt.verify import MODEL_TOLERANCE

IMAGES = (
    twins.resnet,
    twins.mobilenet_v2,
    twins.efficientnet,
    twins.vgg,
    twins.densenet,
    twins.unet,
    twins.yolo,
    twins.vit,
)
TEXTS = (twins.bert, twins.gpt2, twins.llama)
SIZES = {"n": 2, "s": 9, "h": 24, "h2": 20}
"""What the symbols of the twins stand for."""


def open_twin(build: Any) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The twin with every extent open that may be, and sizes for them."""
    if build in TEXTS:
        model = build("n", "s")
    else:
        model = build("n", "h") if build in (twins.resnet, twins.unet) else build("n")
    dims = {d.dim_param for v in model.graph.input for d in v.type.tensor_type.shape.dim}
    return model, {name: size for name, size in SIZES.items() if name in dims}


def named(builds: Any) -> Any:
    return pytest.mark.parametrize("build", builds, ids=lambda b: b.__name__)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@named([*IMAGES, *TEXTS])
def test_lowering(build: Any, precision: str) -> None:
    model, sizes = open_twin(build)
    tolerance = MODEL_TOLERANCE[precision] / 10
    lowered.check(model, conventions=conventions(SM80, precision), tolerance=tolerance, **sizes)


@NEEDS_EMULATOR
@named([twins.mobilenet_v2, twins.yolo, twins.llama])
def test_a_few(build: Any) -> None:
    check(build(), SM80, "fp16")


@NEEDS_EMULATOR
def test_a_transformer_with_run_time_sizes() -> None:
    model, sizes = open_twin(twins.bert)
    check(model, SM80, "fp16", **sizes)


@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@named([*IMAGES, *TEXTS])
def test_every_arithmetic(build: Any, precision: str) -> None:
    check(build(), SM80, precision)


@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@named([*IMAGES, *TEXTS])
def test_batches(build: Any, precision: str) -> None:
    check(build(3), SM80, precision)
    model, sizes = open_twin(build)
    check(model, SM80, precision, **sizes)


@NEEDS_EMULATOR
@pytest.mark.slow
@named([*IMAGES, *TEXTS])
def test_hopper(build: Any) -> None:
    check(build(), SM90A, "fp16")
    model, sizes = open_twin(build)
    check(model, SM90A, "fp16", **sizes)


@NEEDS_EMULATOR
@pytest.mark.slow
@named(TEXTS)
def test_masks_of_attention_kernels(build: Any) -> None:
    """A kernel reads its mask by eights: only where the keys are a multiple of 8 does one take the block."""
    check(build(2, 16), SM80, "fp16")


@NEEDS_EMULATOR
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_parts_of_concatenations_at_odd_channels(precision: str) -> None:
    check(twins.densenet(2, growth=5), SM80, precision)
