"""Loading: every broken file is a ModelError, every readable one comes out in the same form."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import ModelBuilder, assert_same_results, attention_block, convnet

from bolt.errors import ModelError
from bolt.graph.load import load
from bolt.graph.pipeline import optimize
from bolt.graph.shapes import infer


def relu() -> ModelBuilder:
    b = ModelBuilder()
    return b.output(b.add("Relu", b.input("x", ["N", 4])), ["N", 4])


def test_path_bytes_and_proto_give_the_same_model(tmp_path):
    proto = convnet()
    path = tmp_path / "model.onnx"
    onnx.save(proto, path)
    nodes = [[n.name for n in load(s).graph] for s in (path, str(path), path.read_bytes(), proto)]
    assert nodes == [nodes[0]] * 4 and nodes[0]


def test_given_proto_is_not_changed():
    proto = convnet()
    before = proto.SerializeToString()
    optimize(load(proto))
    assert proto.SerializeToString() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"not a model", "not an ONNX file"),
        (b"\x08\x07", "no graph"),
    ],
)
def test_unusable_file_says_what_and_where(tmp_path, content, message):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert "broken.onnx" in str(caught.value)


def test_directory_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not a file"):
        load(tmp_path)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(cut):
    data = convnet().SerializeToString()
    with pytest.raises(ModelError):
        load(data[: int(len(data) * cut)])


@pytest.mark.parametrize(("opset", "message"), [(6, "older"), (999, "newer")])
def test_unsupported_opset_is_named(opset, message):
    proto = relu().model()
    proto.opset_import[0].version = opset
    with pytest.raises(ModelError, match=f"opset {opset} is {message}"):
        load(proto)


@pytest.mark.parametrize("opset", [7, 8, 11, 13, 17, 20, onnx.defs.onnx_opset_version()])
def test_supported_opsets_load(opset):
    b = ModelBuilder(opset=opset)
    assert len(load(b.output(b.add("Relu", b.input("x", [2])), [2]).model()).graph) == 1


def test_constant_nodes_become_initializers():
    b = ModelBuilder()
    x = b.input("x", [3])
    tensor = b.add("Constant", value=numpy_helper.from_array(np.ones(3, np.float32)))
    floats = b.add("Constant", value_floats=[1.0, 2.0, 3.0])
    scalar = b.add("Constant", value_float=2.0)
    proto = b.output(b.add("Mul", b.add("Add", b.add("Add", x, tensor), floats), scalar), [3]).model()
    model = load(proto)
    assert [n.op_type for n in model.graph] == ["Add", "Add", "Mul"]
    assert {tensor, floats, scalar} <= set(model.graph.initializers)
    assert_same_results(proto, ir.to_proto(model))


def test_constant_that_is_an_output_stays_a_node():
    b = ModelBuilder()
    x = b.input("x", [3])
    constant = b.add("Constant", value_floats=[1.0, 2.0, 3.0])
    proto = b.output(b.add("Add", x, constant), [3]).output(constant, [3]).model()
    model = load(proto)
    optimize(model)
    assert_same_results(proto, ir.to_proto(model))


def test_initializers_among_the_inputs_become_constants():
    b = relu()
    weights = b.weights("w", (4,))
    b.inputs.append(helper.make_tensor_value_info(weights, TensorProto.FLOAT, [4]))
    b.outputs.clear()
    proto = b.output(b.add("Add", "relu0", weights), ["N", 4]).model()
    model = load(proto)
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert model.meta["overridable"] == ("w",)


def test_nodes_get_names_of_their_own():
    proto = convnet()
    for node, name in zip(proto.graph.node, ("", "same", "same", ""), strict=False):
        node.name = name
    model = load(proto)
    names = [n.name for n in model.graph]
    assert all(names) and len(set(names)) == len(names)
    assert_same_results(convnet(), ir.to_proto(model))


@pytest.mark.parametrize("name", [b"n0_Relu", b"relu0"])
def test_name_that_is_not_text_is_refused(name):
    data = relu().model().SerializeToString()
    assert name in data
    with pytest.raises(ModelError):
        load(data.replace(name, b"\xff" + name[1:]))


def test_functions_are_inlined():
    b = ModelBuilder()
    proto = b.output(b.add("Twice", b.input("x", [3]), domain="my"), [3]).model()
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    proto.functions.append(
        helper.make_function("my", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )
    model = load(proto)
    assert [n.op_type for n in model.graph] == ["Add"] and not model.functions
    assert_same_results(proto, ir.to_proto(model))


def test_subgraphs_are_kept():
    b = ModelBuilder()
    x, flag = b.input("x", [4]), b.input("flag", [], np.bool_)
    branches = [
        helper.make_graph(
            [helper.make_node(op, [x], [op])],
            op,
            [],
            [helper.make_tensor_value_info(op, TensorProto.FLOAT, [4])],
        )
        for op in ("Neg", "Exp")
    ]
    proto = b.output(b.add("If", flag, then_branch=branches[0], else_branch=branches[1]), [4]).model()
    model = load(proto)
    optimize(model)
    assert_same_results(proto, ir.to_proto(model))


def external(folder, location: str, *, length: int = 16) -> onnx.ModelProto:
    """Relu plus a bias whose content is in another file."""
    b = relu()
    b.outputs.clear()
    proto = b.output(b.add("Add", "relu0", "w"), ["N", 4]).model()
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "8"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return proto


def test_external_data_is_read_next_to_the_model(tmp_path):
    external(tmp_path, "weights.bin")
    content = np.arange(4, dtype=np.float32)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 8 + content.tobytes())
    model = load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), content)


def test_external_data_needs_the_path(tmp_path):
    with pytest.raises(ModelError, match="give the model's path"):
        load(external(tmp_path, "weights.bin"))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gone.bin", "missing"),
        ("../weights.bin", "outside"),
        ("/etc/hostname", "outside"),
        ("short.bin", "too short"),
    ],
)
def test_bad_external_data_is_refused(tmp_path, location, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * 64)
    (folder / "short.bin").write_bytes(b"\0" * 9)
    external(folder, location)
    with pytest.raises(ModelError, match=message):
        load(folder / "model.onnx")


def test_external_data_behind_a_symlink_is_refused(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    (folder / "weights.bin").symlink_to(tmp_path / "secret.bin")
    external(folder, "weights.bin")
    with pytest.raises(ModelError, match="outside"):
        load(folder / "model.onnx")


def test_initializer_of_the_wrong_size_is_refused():
    proto = convnet()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError):
        load(proto)


def seeds_of_fuzzing() -> list[bytes]:
    return [
        relu().model().SerializeToString(),
        attention_block().SerializeToString(),
        convnet().SerializeToString(),
    ]


@pytest.mark.parametrize("part", range(5))
def test_mutated_bytes_never_crash(part):
    """Whatever loads can also be inferred and optimized without an exception of its own."""
    random = np.random.default_rng(part)
    files = seeds_of_fuzzing()
    for _ in range(100):
        data = bytearray(files[int(random.integers(len(files)))])
        # The structure is at both ends; most of the middle is weights.
        for at in random.integers(0, min(len(data), 1500), int(random.integers(1, 4))):
            data[at if random.random() < 0.5 else -at - 1] = int(random.integers(256))
        try:
            model = load(bytes(data))
        except ModelError:
            continue
        infer(model)
        optimize(model)
