"""What the demo can run: a page of text, a generated network, or a model of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bolt.bench.engines import stock_session
from bolt.bench.packages import Member, fetch
from bolt.bench.run import sample_case
from bolt.demo import page, png
from bolt.options import Shapes
from bolt.report import Progress

RECOGNIZER = Member(
    package="rapidocr-onnxruntime",
    version="1.4.4",
    path="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    licence="Apache-2.0",
)
PAGE = Member(
    package="scikit-image",
    version="0.26.0",
    path="skimage/data/page.png",
    sha256="341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3",
    licence="BSD-3-Clause",
)

Outputs = Sequence[np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A model with real inputs, and what its outputs mean.

    Attributes:
        model: the ONNX file.
        about: what model it is, one line.
        input_about: what it is given, one line.
        unit: what one run over all feeds is called ("page").
        feeds: one set of inputs per call.
        answer: a line for a person from the outputs of one call.
    """

    model: Path
    about: str
    input_about: str
    unit: str
    feeds: tuple[Mapping[str, np.ndarray], ...]
    answer: Callable[[Outputs], str]

    @property
    def largest(self) -> Mapping[str, np.ndarray]:
        """The feed with most elements."""
        return max(self.feeds, key=lambda feed: sum(array.size for array in feed.values()))


def page_job(progress: Progress) -> Job:
    """Reading a photographed page with PaddleOCR's recognizer.

    Raises:
        PackageError: model or image can't be fetched.
    """
    files = fetch((RECOGNIZER, PAGE), progress=progress)
    model = files[RECOGNIZER]
    lines = page.text_lines(png.read_gray(files[PAGE]))
    session = stock_session(model, 1)
    name = session.get_inputs()[0].name
    classes = session.get_outputs()[0].shape[-1]
    letters = page.alphabet(session.get_modelmeta().custom_metadata_map["character"], classes)
    return Job(
        model=model,
        about=f"PP-OCRv4 text recognition ({RECOGNIZER.release}, {RECOGNIZER.licence})",
        input_about=f"{PAGE.name}, a photographed page, {len(lines)} lines ({PAGE.release}, {PAGE.licence})",
        unit="page",
        feeds=tuple({name: page.to_input(line)} for line in lines),
        answer=lambda outputs: page.decode(outputs[0][0], letters),
    )


def generated_job(folder: Path) -> Job:
    """A small convolutional network with random weights, for machines without a network."""
    path = folder / "generated_cnn.onnx"
    onnx.save(generated_model(), path)
    image = np.random.default_rng(1).random((1, 3, 96, 96), np.float32)
    return Job(
        model=path,
        about="a generated convolutional network with random weights",
        input_about="a random image",
        unit="image",
        feeds=({"image": image},),
        answer=top_classes,
    )


def file_job(path: Path, shapes: Shapes) -> Job:
    """A model of the user's on random inputs.

    Raises:
        ModelError: it can't be read, or no sizes were found for what it leaves open.
    """
    case = sample_case(path, shapes)
    return Job(
        model=path,
        about=str(path),
        input_about=f"random values, {case.label}",
        unit="run",
        feeds=(case.feeds,),
        answer=lambda outputs: ", ".join(_summary(array) for array in outputs[:4]),
    )


def generated_model() -> onnx.ModelProto:
    """Three convolutions with ReLU, a residual sum, pooling and a classifier; always the same weights."""
    rng = np.random.default_rng(0)
    shapes = {"w0": (32, 3, 3, 3), "w1": (32, 32, 3, 3), "w2": (64, 32, 1, 1), "wc": (64, 10)}
    constants = [
        numpy_helper.from_array((rng.standard_normal(s) / np.prod(s[1:]) ** 0.5).astype(np.float32), name)
        for name, s in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2], name="stem"),
        helper.make_node("Relu", ["c0"], ["r0"], name="stem_relu"),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1], name="body"),
        helper.make_node("Add", ["c1", "r0"], ["a1"], name="residual"),
        helper.make_node("Relu", ["a1"], ["r1"], name="body_relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="head"),
        helper.make_node("GlobalAveragePool", ["c2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("MatMul", ["f", "wc"], ["scores"], name="classifier"),
    ]
    graph = helper.make_graph(
        nodes,
        "generated_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 96, 96])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def top_classes(outputs: Outputs) -> str:
    """The three classes with the highest scores."""
    return "best classes " + " ".join(str(i) for i in np.argsort(-outputs[0][0])[:3])


def _summary(array: np.ndarray) -> str:
    """Type and dims; values would differ in their last digits."""
    return f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'}"
