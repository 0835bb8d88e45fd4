"""A module written by hand, and small artifacts around it.

The module computes y[b, j] = x[b, j] * scale + w[j] and, if asked for two outputs, z = -y for x of dims
[?, K], through a workspace and `parallel_for`, so that it uses every part of the module ABI.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
from onnx import TensorProto, helper

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.toolchain.host import INCLUDE, find_compiler

K = 37

SOURCE = r"""
#include <atomic>
#include <stdio.h>
#include <string.h>
#include "bolt/module_abi.h"

struct BoltModule { const float* w; };

static const int64_t dims[] = {BATCH, COLUMNS};
static const BoltValueInfo inputs[] = {{"x", 1, 2, dims}};
static const BoltValueInfo outputs[] = {{"y", DTYPE, 2, dims}, {"z", 1, 2, dims}};

static int32_t fail(char* error, size_t bytes, const char* text) {
  snprintf(error, bytes, "%s", text);
  return 1;
}

static int32_t create(const void* weights, BoltModule** out, char* error, size_t bytes) {
  if (FAIL_CREATE) return fail(error, bytes, "the toy refuses to start");
  if (((uintptr_t)weights & 63) != 0) return fail(error, bytes, "weights are not aligned");
  *out = new BoltModule{(const float*)weights};
  return 0;
}
static void destroy(BoltModule* m) { delete m; }

static int32_t infer(const BoltModule*, const int64_t* const* in, int64_t* const* out, int32_t,
                     uint64_t* workspace, char*, size_t) {
  memcpy(out[0], in[0], 2 * sizeof(int64_t));
  *workspace = (uint64_t)(in[0][0] * in[0][1]) * sizeof(float);
  return 0;
}

struct Job { const float *x, *w; float *scratch, *y; };

static void scale_row(void* arg, size_t i) {
  const Job* job = (const Job*)arg;
  for (int64_t j = 0; j < COLUMNS; j++) job->scratch[i * COLUMNS + j] = job->x[i * COLUMNS + j] * SCALE;
}
static void add_row(void* arg, size_t i) {
  const Job* job = (const Job*)arg;
  for (int64_t j = 0; j < COLUMNS; j++) job->y[i * COLUMNS + j] = job->scratch[i * COLUMNS + j] + job->w[j];
}
static void each(const BoltContext* c, void (*fn)(void*, size_t), size_t n, void* arg) {
  if (c->threads > 1) return c->parallel_for(c->host, fn, n, arg);
  for (size_t i = 0; i < n; i++) fn(arg, i);
}

static int32_t run(const BoltModule* m, const BoltTensor* in, const BoltContext* c, char* error,
                   size_t bytes) {
  const size_t rows = (size_t)in[0].dims[0];
  if (rows == 13) return fail(error, bytes, "the toy fears 13 rows");
  Job job = {(const float*)in[0].data, m->w, 0, 0};
  job.scratch = (float*)c->workspace(c->host, rows * COLUMNS * sizeof(float) + 64);
  job.y = (float*)c->output(c->host, OUTPUT_INDEX, in[0].dims, 2);
  if (!job.scratch || !job.y) return fail(error, bytes, "no memory");
  if (((uintptr_t)job.scratch & 63) != 0) return fail(error, bytes, "workspace is not aligned");
  each(c, scale_row, rows, &job);
  each(c, add_row, rows, &job);
  if (OUTPUTS == 2) {
    float* z = (float*)c->output(c->host, 1, in[0].dims, 2);
    if (!z) return fail(error, bytes, "no memory for z");
    for (size_t i = 0; i < rows * COLUMNS; i++) z[i] = -job.y[i];
  }
  if (REPORT_THREADS) job.y[0] = (float)c->threads;
  return 0;
}

static const BoltModuleTable table = {ABI_VERSION, TARGET, WEIGHTS_SHA256, WEIGHTS_BYTES, 1, OUTPUTS, inputs,
                                      outputs, create, destroy, infer, run};
extern "C" __attribute__((visibility("default"))) const BoltModuleTable* bolt_module(void) { return &table; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """What may be odd about a toy module."""

    scale: float = 2.0
    batch: int = -1
    columns: int = K
    dtype: int = TensorProto.FLOAT
    abi_version: int = 1
    target: str = "x86-portable"
    weights_sha256: str | None = None
    weights_bytes: int | None = None
    fail_create: bool = False
    output_index: int = 0
    outputs: int = 1
    report_threads: bool = False

    @property
    def weights(self) -> np.ndarray:
        """w, float32 [K]."""
        return np.arange(self.columns, dtype=np.float32)

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What the module computes."""
        return x * np.float32(self.scale) + self.weights


@cache
def build(toy: Toy) -> Path:
    """The compiled module; one folder per test process."""
    folder = Path(mkdtemp(prefix="bolt-toy-"))
    (folder / "toy.cc").write_text(SOURCE)
    digest = sha256(toy.weights.tobytes()).hexdigest() if toy.weights_sha256 is None else toy.weights_sha256
    macros = {
        "BATCH": toy.batch,
        "COLUMNS": toy.columns,
        "DTYPE": toy.dtype,
        "SCALE": f"{toy.scale}f",
        "ABI_VERSION": toy.abi_version,
        "TARGET": f'"{toy.target}"',
        "WEIGHTS_SHA256": f'"{digest}"',
        "WEIGHTS_BYTES": toy.weights.nbytes if toy.weights_bytes is None else toy.weights_bytes,
        "FAIL_CREATE": int(toy.fail_create),
        "OUTPUT_INDEX": toy.output_index,
        "OUTPUTS": toy.outputs,
        "REPORT_THREADS": int(toy.report_threads),
    }
    out = folder / "toy.so"
    defines = [f"-D{key}={value}" for key, value in macros.items()]
    command = [*find_compiler().argv, "-O1", "-shared", "-fPIC", f"-I{INCLUDE}", *defines]
    subprocess.run([*command, str(folder / "toy.cc"), "-o", str(out)], check=True)
    return out


def model(names: tuple[str, ...], columns: int = K) -> onnx.ModelProto:
    """x -> Identity -> partition -> Neg -> partition ... -> y, with one partition per name."""
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Identity", ["x"], ["x0"])]
    infos = []
    for i, name in enumerate(names):
        nodes.append(package.context_node(name, [f"x{i}"], [f"p{i}"]))
        nodes.append(helper.make_node("Neg", [f"p{i}"], [f"x{i + 1}"]))
        infos.append(value(f"p{i}", TensorProto.FLOAT, ["N", columns]))
    nodes.append(helper.make_node("Neg", [f"x{len(names)}"], ["y"]))
    io = [value(n, TensorProto.FLOAT, ["N", columns]) for n in "xy"]
    graph = helper.make_graph(nodes, "toy", io[:1], io[1:], value_info=infos)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="toy")


def only_partition(name: str = "p0", columns: int = K) -> onnx.ModelProto:
    """A model that is one partition and nothing else."""
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", columns]) for n in "xy"]
    graph = helper.make_graph([package.context_node(name, ["x"], ["y"])], "toy", io[:1], io[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def branches() -> onnx.ModelProto:
    """A partition in one branch of If, fed by the outer graph; Neg in the other."""
    branch = [
        helper.make_graph([node], name, [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["N", K])])
        for name, node in (
            ("yes", package.context_node("p0", ["x"], ["b"])),
            ("no", helper.make_node("Neg", ["x"], ["b"])),
        )
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", K]) for n in "xy"]
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "g", [values[0], condition], [values[1]])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def variant(toy: Toy) -> package.Variant:
    """The toy as a variant."""
    return package.Variant(target=toy.target, module_path=build(toy), weights=toy.weights)


def artifact(folder: Path, *toys: Toy, graph: onnx.ModelProto | None = None) -> Artifact:
    """An artifact whose partitions p0, p1, ... are `toys`."""
    names = tuple(f"p{i}" for i in range(len(toys)))
    return package.write(
        folder,
        name="toy",
        model=graph or model(names),
        partitions=[
            package.Partition(name=n, variants=(variant(t),)) for n, t in zip(names, toys, strict=True)
        ],
        source_sha256="0" * 64,
        report={"regions": []},
        tools={"compiler": "any"},
    )
