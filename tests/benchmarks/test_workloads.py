"""The table of models is well formed, and its inputs fit it."""

import re

import numpy as np
import onnx
import pytest

from benchmarks.feeds import RECIPES, feeds, picture
from benchmarks.models import changed
from benchmarks.workloads import WORKLOADS, select

ACCEPTED = ("mobilenetv2", "open_nsfw", "resnet50", "vgg16", "ppocr4_rec", "yolov8n", "minilm_l3")
IDS = [w.name for w in WORKLOADS]


def test_the_table_holds_the_models_bolt_is_judged_by():
    assert {w.name for w in select()} == set(ACCEPTED)
    assert select(every=True) == WORKLOADS
    assert [w.name for w in select(("vgg16", "espcn"))] == ["vgg16", "espcn"]
    assert len(WORKLOADS) == 24 and len(set(IDS)) == 24


@pytest.mark.parametrize("workload", WORKLOADS, ids=IDS)
def test_every_model_is_pinned(workload):
    member = workload.member
    assert re.fullmatch(r"[0-9a-f]{64}", member.sha256)
    assert re.fullmatch(r"\d+(\.\d+)+", member.version)
    assert member.path.endswith(".onnx") and not member.path.startswith("/")
    assert member.licence and workload.about and member.registry in ("pip", "npm")


def test_no_two_models_are_the_same_file():
    assert len({w.member.sha256 for w in WORKLOADS}) == len(WORKLOADS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=IDS)
def test_every_case_has_inputs(workload):
    assert workload.cases
    for index, case in enumerate(workload.cases):
        given = feeds(workload, index)
        assert {n: (a.shape, str(a.dtype)) for n, a in given.items()} == {
            n: (t.shape, t.dtype) for n, t in case.items()
        }
        assert all(np.isfinite(a).all() for a in given.values())


@pytest.mark.parametrize("workload", WORKLOADS, ids=IDS)
def test_inputs_are_always_the_same(workload):
    first, second = feeds(workload, 0), feeds(workload, 0)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_cases_differ():
    vgg = next(w for w in WORKLOADS if w.name == "vgg16")
    assert feeds(vgg, 0)["input"].shape != feeds(vgg, 1)["input"].shape


def test_every_recipe_is_used():
    used = {t.recipe.split(":")[0] for w in WORKLOADS for case in w.cases for t in case.values()}
    assert used == set(RECIPES)


def test_pictures_have_structure():
    image = picture(96, 128, 5)
    assert image.shape == (96, 128, 3) and image.min() >= 0 and image.max() <= 1
    assert np.abs(np.diff(image, axis=1)).max() > 0.3, "no edges"
    assert not np.array_equal(image, picture(96, 128, 6))


def tiny():
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Exp", ["x"], ["inner"]), onnx.helper.make_node("Neg", ["inner"], ["y"])],
        "tiny",
        [make("x", onnx.TensorProto.FLOAT, [10, 3])],
        [make("y", onnx.TensorProto.FLOAT, [10, 3])],
    )
    return onnx.helper.make_model(graph)


def test_dims_are_fixed_and_inner_values_exposed():
    class Wanted:
        fixed = {"x": (1, 3)}  # noqa: RUF012
        exposed = ("inner",)

    model = changed(tiny(), Wanted)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3]
    assert [o.name for o in model.graph.output] == ["y", "inner"]
    inferred = onnx.shape_inference.infer_shapes(model)
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim] == [1, 3]
