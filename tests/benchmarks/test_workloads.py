"""The table of models is well formed, and its inputs fit it."""

import re

import numpy as np
import onnx
import pytest

from benchmarks import random_models
from benchmarks.feeds import RECIPES, feeds, picture
from benchmarks.subjects import changed, subjects
from benchmarks.workloads import FLOORS, SUITES, WORKLOADS

ACCEPTED = ("mobilenetv2", "open_nsfw", "resnet50", "vgg16", "ppocr4_rec", "yolov8n", "minilm_l3")
IDS = [w.name for w in WORKLOADS]


def test_the_table_holds_the_models_bolt_is_judged_by():
    assert set(SUITES["accepted"].trained) == set(ACCEPTED)
    assert len(WORKLOADS) == 24 and len(set(IDS)) == 24


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_suites_name_models_that_exist_once(suite):
    assert set(suite.trained) <= set(IDS)
    assert set(suite.random) | {q.name for q in suite.quantized} <= set(random_models.MODELS)
    names = [s.name for s in subjects(suite)]
    assert names and len(names) == len(set(names))


def test_everything_is_in_a_suite():
    trained = {name for suite in SUITES.values() for name in suite.trained}
    assert trained == set(IDS)
    assert set(SUITES["full"].random) == set(random_models.MODELS)
    assert {f.precision for f in FLOORS} == {s.precision for s in SUITES.values()}


def test_floors_are_about_models_that_are_measured():
    names = {s.name for suite in SUITES.values() for s in subjects(suite)}
    assert {f.model for f in FLOORS} - {"", "every"} <= names


def test_only_models_without_inputs_of_their_own_have_batch_sizes():
    found = subjects(SUITES["quick"], (1, 8))
    sizes = [(s.name, len(next(iter(s.feeds()[0].values())))) for s in found if s.name.startswith("random/r")]
    assert sizes == [
        ("random/resnet50", 1),
        ("random/repvgg_a0", 1),
        ("random/resnet50", 8),
        ("random/repvgg_a0", 8),
    ]
    assert sum(s.name == "yolov8n" for s in found) == 1


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
