"""Convolution and pooling of volumes, as programs of kernels for images."""

from __future__ import annotations

from typing import Any

import lowered
import pytest
from lowered import check, ops
from onnx_models import ModelBuilder

from bolt.program import Step

CONVS: dict[str, tuple[list[Any], tuple[int, ...], dict[str, Any]]] = {
    "3x3x3": ([1, 4, 5, 6, 7], (6, 4, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "stride": ([1, 3, 7, 9, 8], (5, 3, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1], "strides": [2, 2, 1]}),
    "uneven": ([1, 2, 5, 6, 9], (3, 2, 2, 3, 1), {"pads": [0, 1, 0, 1, 0, 0], "dilations": [1, 2, 1]}),
    "two volumes": ([2, 3, 4, 5, 6], (4, 3, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "over slices": ([1, 4, 8, 5, 6], (4, 4, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
    "within slices": ([1, 4, 3, 6, 6], (4, 4, 1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1]}),
    "one slice of all": ([3, 2, 3, 5, 5], (4, 2, 3, 3, 3), {}),
    "groups within slices": ([1, 6, 2, 5, 6], (9, 2, 1, 3, 3), {"group": 3, "pads": [0, 1, 1, 0, 1, 1]}),
    "one channel": ([1, 1, 4, 5, 6], (2, 1, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "one slice, open sizes": (["N", 3, 1, "H", "W"], (4, 3, 1, 5, 5), {"pads": [0, 2, 2, 0, 2, 2]}),
    "open sizes": ([1, 3, 4, "H", "W"], (4, 3, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
}
OPEN = {"N": 2, "H": 9, "W": 7}


def sizes_of(x: list[Any]) -> dict[str, int]:
    return {name: size for name, size in OPEN.items() if name in x}


@pytest.mark.parametrize("name", CONVS)
def test_conv(name: str) -> None:
    x, w, attributes = CONVS[name]
    check(lowered.conv_model(x, w, **attributes), **sizes_of(x))


def test_neighbouring_convolutions_need_no_copies() -> None:
    b = ModelBuilder()
    x = b.input("x", [1, 4, 5, 8, 8])
    y = b.add("Conv", x, b.weights("w", (8, 4, 3, 3, 3)), pads=[1] * 6)
    y = b.add("Conv", b.add("Relu", y), b.weights("v", (4, 8, 3, 3, 3)), pads=[1] * 6)
    found = check(b.output(b.add("Relu", y)).model())
    assert ops(found) == ["copy", "conv", "conv", "copy"]  # the copies are those of the caller's layout


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool", "AveragePool including pads"])
@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        ([1, 3, 6, 8, 9], {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
        ([2, 4, 5, 7, 7], {"kernel_shape": [3, 3, 2], "strides": [1, 2, 2], "pads": [1, 1, 0, 1, 1, 1]}),
        ([2, 2, 1, 6, 6], {"kernel_shape": [1, 3, 3], "strides": [1, 2, 2]}),
    ],
)
def test_pool(kind: str, x: list[int], attributes: dict[str, Any]) -> None:
    op, *including = kind.split(" ", 1)
    more = {"count_include_pad": 1} if including else {}
    b = ModelBuilder()
    pooled = b.add(op, b.input("x", x), **attributes, **more)
    check(b.output(b.add("Tanh", pooled)).model())


REFUSED: dict[str, tuple[list[Any], tuple[int, ...], dict[str, Any], str]] = {
    "groups": ([1, 4, 4, 5, 5], (4, 1, 3, 3, 3), {"group": 4}, "in groups"),
    "apart": ([1, 2, 6, 5, 5], (3, 2, 3, 1, 1), {"dilations": [2, 1, 1]}, "slices apart"),
    "depth": ([1, 2, "D", 5, 5], (3, 2, 3, 1, 1), {}, "depth"),
    "volumes": (["N", 2, 4, 5, 5], (3, 2, 3, 1, 1), {}, "number of volumes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_left_with_a_reason(name: str) -> None:
    x, w, attributes, reason = REFUSED[name]
    found = lowered.covered(lowered.conv_model(x, w, **attributes), **{n: 4 for n in ("D", "N") if n in x})
    assert any(reason in r.reason for r in found.rejections), [r.reason for r in found.rejections]


def test_windows_overlap_instead_of_being_copied() -> None:
    model = lowered.conv_model([1, 4, 6, 8, 8], (8, 4, 3, 3, 3), pads=[1] * 6)
    steps = [s for p in check(model).programs for s in p.steps if isinstance(s, Step)]
    step = next(s for s in steps if s.spec.op == "conv")
    assert step.views[1].dims == (6, 8, 8, 12)
    assert step.views[1].strides[0] == 4
    assert step.constants[2].shape == (8, 12, 3, 3)
