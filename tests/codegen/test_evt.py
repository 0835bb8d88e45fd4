"""Visitor trees: the functor computes the expression, and the host arguments follow the tree."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bolt.codegen import evt
from bolt.codegen.evt import Extra
from bolt.epilogue import IDENTITY, OPS, Builder, Epilogue
from bolt.ops.spec import Operand
from bolt.templates import ROOT
from bolt.types import BF16, BOOL, F16, F32, LARGEST, S64, DType

STAND_IN = """
#include "bolt/cuda/vmath.h"
#define CUTLASS_HOST_DEVICE
#define CUTLASS_PRAGMA_UNROLL
namespace cutlass {
template <class T, int N> struct Array {
  T v[N];
  T& operator[](int i) { return v[i]; }
  T operator[](int i) const { return v[i]; }
};
}
"""
"""What the functor needs of CUTLASS, for a host compiler."""

CALL = """
extern "C" void NAME_run(float* out, const float* const* in, int count) {
  typedef cutlass::Array<float, 4> Four;
  for (int i = 0; i + 4 <= count; i += 4) *(Four*)(out + i) = NAME<Four>()(ARGUMENTS);
}
"""


def expression(op: str) -> Epilogue:
    """The operation of the accumulator and as many inputs as it takes."""
    builder, row = Builder(), OPS[op]
    arguments = [builder.acc(), *(builder.input(i) for i in range(row.arity - 1))]
    return builder.finish(builder.op(op, *arguments, params=(0.5, 2.0, 0.25)[: row.params]))


def run(functors: dict[str, tuple[Epilogue, int, DType]], inputs: list[np.ndarray], folder: Path) -> dict:
    """The result of each functor over the accumulator and inputs, by a host compiler."""
    text = STAND_IN
    for name, (epilogue, count, out) in functors.items():
        text += evt.functor(epilogue, name=name, inputs=count, out=out)
        arguments = ", ".join(f"*(const Four*)(in[{i}] + i)" for i in range(count + 1))
        text += CALL.replace("NAME", name).replace("ARGUMENTS", arguments)
    path = folder / "functors.cc"
    path.write_text(text)
    flags = ("-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC")
    command = ["g++", *flags, f"-I{ROOT / 'include'}", str(path), "-o", f"{path}.so"]
    subprocess.run(command, check=True, capture_output=True)
    library, found = ctypes.CDLL(f"{path}.so"), {}
    pointers = (ctypes.c_void_p * len(inputs))(*(x.ctypes.data for x in inputs))
    for name in functors:
        found[name] = np.zeros_like(inputs[0])
        library[f"{name}_run"](ctypes.c_void_p(found[name].ctypes.data), pointers, len(inputs[0]))
    return found


def test_the_functor_computes_every_operation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.uniform(0.1, 0.9, 64).astype(np.float32) for _ in range(3)]
    rows = {f"Op_{op}": (expression(op), OPS[op].arity - 1, F32) for op in OPS if op != "acosh"}
    got = run(rows, inputs, tmp_path)
    for name, (epilogue, count, _) in rows.items():
        want = epilogue.evaluate(inputs[0], inputs[1 : count + 1])
        np.testing.assert_allclose(got[name], want, rtol=2e-5, atol=1e-6, err_msg=name)


def test_an_expression_may_use_a_value_twice_and_skip_inputs(tmp_path: Path) -> None:
    builder = Builder()
    value = builder.op("add", builder.acc(), builder.input(2))
    epilogue = builder.finish(builder.op("mul", value, builder.op("sub", value, builder.input(0))))
    inputs = [np.arange(8, dtype=np.float32) + i for i in range(4)]
    got = run({"Twice": (epilogue, 3, F32)}, inputs, tmp_path)["Twice"]
    acc, first, _, third = inputs
    np.testing.assert_array_equal(got, (acc + third) * (acc + third - first))


def test_finite_values_stay_finite_in_fp16(tmp_path: Path) -> None:
    values = np.array([-3.4e38, 65504, 65520, 1e6, np.inf, -np.inf, np.nan, -1], np.float32)
    rows = {"Half": (IDENTITY, 0, F16), "Brain": (IDENTITY, 0, BF16)}
    got = run(rows, [values], tmp_path)
    want = np.array([-65504, 65504, 65504, 65504, np.inf, -np.inf, np.nan, -1], np.float32)
    np.testing.assert_array_equal(got["Half"], want)
    values[0] = -LARGEST[BF16]
    np.testing.assert_array_equal(got["Brain"], values)


@pytest.mark.parametrize(
    "strides, kind",
    (
        ((0, 0, 0, 0), "scalar"),
        ((0, 0, 0, 1), "row"),
        ((9, 0, 1, 0), "column"),
        ((0, 0, 64, 1), "full"),
        ((None, None, None, 1), "full"),
        ((None, 0, None, 0), "column"),
    ),
)
def test_the_kind_of_an_input_follows_from_its_strides(strides: tuple, kind: str) -> None:
    operand = Operand(dtype=F32, dims=(2, 2, 8, 8), strides=strides)
    assert evt.extra_of(operand) == Extra(kind=kind, dtype=F32)


def test_the_tree_loads_each_input_by_its_kind() -> None:
    extras = [
        Extra(kind=k, dtype=t) for k, t in (("row", F32), ("full", F16), ("column", BF16), ("scalar", BOOL))
    ]
    tree = evt.tree(IDENTITY, extras, F16, d="g.d", row="g.ldd", batch="g.d_batch")
    loads = [line for line in tree.types if line.startswith("using In")]
    visitors = ("VisitorRowBroadcast<Map, float", "VisitorAuxLoad<Map, cutlass::half_t")
    visitors += ("VisitorColBroadcast<Map, cutlass::bfloat16_t", "VisitorScalarBroadcast<uint8_t")
    assert len(loads) == 4 and all(v in line for v, line in zip(visitors, loads, strict=True))
    assert [line.split("{")[0] for line in tree.arguments[:4]] == [
        f"const typename In{i}::Arguments in{i}" for i in range(4)
    ]
    assert "{g.ldd, cute::_1{}, g.d_batch}" in tree.arguments[4]
    assert "Accumulator::Arguments{}, in0, in1, in2, in3, typename Apply" in tree.arguments[5]
    assert "Accumulator, In0, In1, In2, In3>" in "".join(tree.types)


def operand(dtype: DType = F32, columns: int | None = 1) -> Operand:
    return Operand(dtype=dtype, dims=(1, 1, 8, 8), strides=(0, 0, 8, columns))


@pytest.mark.parametrize(
    "extras, out, reason",
    (
        ([operand(S64)], F16, "input 0 is s64"),
        ([operand(), operand(columns=2)], F16, "input 1 has stride 2"),
        ([operand(columns=None)], F16, "input 0 has stride None"),
        ([operand()] * 9, F16, "9 epilogue inputs"),
        ([], S64, "not s64"),
    ),
)
def test_what_a_tree_cannot_hold_is_refused_with_a_reason(extras: list, out: DType, reason: str) -> None:
    rejection = evt.obstacle(extras, out, "here")
    assert rejection is not None and reason in rejection.reason
    assert evt.obstacle([operand(), operand(BOOL)], F32, "here") is None
