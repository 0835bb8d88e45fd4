"""Small ONNX models built in code, and the runs they are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

Extents = Sequence[int | str | None] | None


class ModelBuilder:
    """Builds a model node by node; tensors are referred to by name.

    >>> b = ModelBuilder(opset=13)
    >>> x = b.input("x", ["N", 3, 8, 8])
    >>> y = b.add("Conv", x, b.weights("w", (4, 3, 3, 3)), pads=[1, 1, 1, 1])
    >>> model = b.output(y).model()
    """

    def __init__(self, *, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.domains: dict[str, int] = {}

    def input(self, name: str, shape: Extents, dtype: Any = np.float32) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, _code(dtype), shape))
        return name

    def constant(self, value: Any, dtype: Any = None, name: str | None = None) -> str:
        """An initializer with this content."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, name: str, shape: Sequence[int], *, low: float = -1.0, high: float = 1.0) -> str:
        """A float initializer of seeded random numbers."""
        return self.constant(self.random.uniform(low, high, tuple(shape)), np.float32, name)

    def add(
        self,
        op_type: str,
        *inputs: str,
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        **attributes: Any,
    ) -> Any:
        """A node; returns its output name (a list of names when there are several)."""
        if isinstance(outputs, int):
            stem = f"{op_type.lower()}{len(self.nodes)}"
            outputs = [stem if i == 0 else f"{stem}_{i}" for i in range(outputs)]
        name = f"n{len(self.nodes)}_{op_type}"
        node = helper.make_node(op_type, list(inputs), list(outputs), name=name, domain=domain, **attributes)
        if domain:
            self.domains.setdefault(domain, 1)
        self.nodes.append(node)
        return outputs[0] if len(outputs) == 1 else list(outputs)

    def output(self, name: str, shape: Extents = None, dtype: Any = np.float32) -> ModelBuilder:
        self.outputs.append(helper.make_tensor_value_info(name, _code(dtype), shape))
        return self

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(d, v) for d, v in sorted(self.domains.items())]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _code(dtype: Any) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def feeds(model: onnx.ModelProto, *, seed: int = 0, **bindings: int) -> dict[str, np.ndarray]:
    """Seeded random inputs; `bindings` gives the symbolic dims (1 where it does not)."""
    random = np.random.default_rng(seed)
    constants = {t.name for t in model.graph.initializer}
    out: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        dims = [
            d.dim_value if d.HasField("dim_value") else bindings.get(d.dim_param, 1) for d in tensor.shape.dim
        ]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            out[value.name] = random.uniform(-2, 2, dims).astype(dtype)
        else:
            out[value.name] = random.integers(0, 2, dims).astype(dtype)
    return out


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of ORT's CPU provider without graph optimizations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def convnet(
    *, batch: int | str = 1, size: int | str = 16, classes: int = 10, opset: int = 13
) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu, residual Add, pool, Gemm, Softmax."""
    b = ModelBuilder(opset=opset)
    x = b.input("x", [batch, 3, size, size if isinstance(size, int) else f"{size}2"])
    y = b.add("Conv", x, b.weights("w0", (8, 3, 3, 3)), b.weights("b0", (8,)), pads=[1] * 4, strides=[2, 2])
    norm = [b.weights(f"bn{i}", (8,), low=0.5, high=1.5) for i in range(4)]
    y = b.add("Relu", b.add("BatchNormalization", y, *norm))
    z = b.add("Conv", y, b.weights("w1", (8, 8, 3, 3)), pads=[1] * 4)
    y = b.add("Relu", b.add("Add", z, y))
    y = b.add("Flatten", b.add("GlobalAveragePool", y))
    y = b.add("Gemm", y, b.weights("w2", (classes, 8)), b.weights("b2", (classes,)), transB=1)
    return b.output(b.add("Softmax", y, axis=1), [batch, classes]).model()


def attention_block(
    *, batch: int | str = 1, length: int | str = 6, width: int = 16, heads: int = 2
) -> onnx.ModelProto:
    """LayerNormalization, QKV MatMuls with shape arithmetic, softmax, projection, Gelu MLP by parts."""
    b = ModelBuilder(opset=17)
    x = b.input("x", [batch, length, width])
    y = b.add("LayerNormalization", x, b.weights("s", (width,)), b.weights("t", (width,)), axis=-1)
    extents = b.add("Shape", x)
    rows = [b.add("Gather", extents, b.constant([i], np.int64)) for i in (0, 1)]
    split = b.add("Concat", *rows, b.constant([heads, width // heads], np.int64), axis=0)
    q, k, v = (_heads(b, y, name, width, split) for name in "qkv")
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.add("Div", scores, b.constant(np.sqrt(width / heads), np.float32))
    mixed = b.add("Transpose", b.add("MatMul", b.add("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    mixed = b.add("Reshape", mixed, b.constant([0, 0, width], np.int64))
    y = b.add("Add", x, b.add("MatMul", mixed, b.weights("wo", (width, width))))
    h = b.add("Add", b.add("MatMul", y, b.weights("w1", (width, 2 * width))), b.weights("b1", (2 * width,)))
    erf = b.add("Erf", b.add("Div", h, b.constant(np.sqrt(2.0), np.float32)))
    gate = b.add("Add", erf, b.constant(1.0, np.float32))
    h = b.add("Mul", b.add("Mul", h, gate), b.constant(0.5, np.float32))
    y = b.add("Add", y, b.add("MatMul", h, b.weights("w2", (2 * width, width))))
    return b.output(y, [batch, length, width]).model()


def _heads(b: ModelBuilder, y: str, name: str, width: int, split: str) -> str:
    part = b.add(
        "Add", b.add("MatMul", y, b.weights(f"w{name}", (width, width))), b.weights(f"b{name}", (width,))
    )
    return str(b.add("Transpose", b.add("Reshape", part, split), perm=[0, 2, 1, 3]))


def spelled_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which operators of bolt's domain are functions of plain ONNX, so that ORT can run it."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    opset = next(o.version for o in out.opset_import if o.domain == "")
    for index, node in enumerate(n for n in out.graph.node if n.domain == "ai.bolt"):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        body = FunctionBody(list(node.input), opset)
        _BODIES[node.op_type](body, **attributes)
        node.op_type = f"{node.op_type}_{index}"
        del node.attribute[:]
        out.functions.append(
            helper.make_function(
                "ai.bolt",
                node.op_type,
                body.inputs,
                [body.last],
                body.nodes,
                [helper.make_opsetid("", opset)],
            )
        )
    return out


class FunctionBody:
    """Nodes of a function; each call returns the name of its result."""

    def __init__(self, inputs: list[str], opset: int) -> None:
        self.inputs = [f"in{i}" for i in range(len(inputs))]
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.last = ""

    def __call__(self, op_type: str, *inputs: str | float, **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self._constant(np.float32(i)) for i in inputs]
        self.last = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, names, [self.last], **attributes))
        return self.last

    def _constant(self, value: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))
        )
        return name

    def mean(self, x: str, count: int) -> str:
        axes = list(range(-count, 0))
        if self.opset < 18:
            return self("ReduceMean", x, axes=axes, keepdims=1)
        return self("ReduceMean", x, self._constant(np.array(axes, np.int64)), keepdims=1)


def _gelu(f: FunctionBody, approximate: bytes = b"none") -> None:
    x = f.inputs[0]
    if approximate == b"tanh":
        cubic = f("Add", x, f("Mul", f("Pow", x, 3.0), 0.044715))
        gate = f("Tanh", f("Mul", cubic, float(np.sqrt(2 / np.pi))))
    else:
        gate = f("Erf", f("Mul", x, float(np.sqrt(0.5))))
    f("Mul", f("Mul", x, 0.5), f("Add", gate, 1.0))


def _layer_norm(f: FunctionBody, axis: int, epsilon: float) -> None:
    centered = f("Sub", f.inputs[0], f.mean(f.inputs[0], -axis))
    spread = f("Sqrt", f("Add", f.mean(f("Mul", centered, centered), -axis), epsilon))
    y = f("Mul", f("Div", centered, spread), f.inputs[1])
    if len(f.inputs) == 3:
        f("Add", y, f.inputs[2])


def _rms_norm(f: FunctionBody, axis: int, epsilon: float) -> None:
    x = f.inputs[0]
    spread = f("Sqrt", f("Add", f.mean(f("Mul", x, x), -axis), epsilon))
    f("Mul", f("Div", x, spread), f.inputs[1])


def _hard_swish(f: FunctionBody) -> None:
    f("Mul", f.inputs[0], f("HardSigmoid", f.inputs[0], alpha=1 / 6, beta=0.5))


def _swish(f: FunctionBody, alpha: float = 1.0) -> None:
    f("Mul", f.inputs[0], f("Sigmoid", f("Mul", f.inputs[0], alpha)))


def _mish(f: FunctionBody) -> None:
    f("Mul", f.inputs[0], f("Tanh", f("Softplus", f.inputs[0])))


_BODIES = {
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "HardSwish": _hard_swish,
    "Swish": _swish,
    "Mish": _mish,
}


def assert_same_results(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    *,
    tolerance: float = 1e-5,
    seed: int = 0,
    **bindings: int,
) -> None:
    """Both models give the same outputs (names, types, extents, numbers relative to the largest)."""
    inputs = feeds(before, seed=seed, **bindings)
    want, got = run(before, inputs), run(spelled_out(after), inputs)
    assert list(got) == list(want)
    for name, reference in want.items():
        result = got[name]
        assert result.dtype == reference.dtype and result.shape == reference.shape, name
        scale = max(1.0, float(np.abs(reference).max(initial=0)))
        np.testing.assert_allclose(result, reference, rtol=0, atol=tolerance * scale, err_msg=name)
