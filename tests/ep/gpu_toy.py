"""A CUDA module written by hand for the pretended driver (tests/cuda/driver.cc), and artifacts around it.

The module computes y[b, j] = x[b, j] * scale + w[j] by two launches through its workspace and, if asked for
two outputs, z = -y. Its host code never touches the tensors: only what it launches can.
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
from ep import toy

from bolt.ep import package
from bolt.ep.artifact import Artifact
from bolt.toolchain.host import INCLUDE, find_compiler

K = toy.K

SOURCE = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include "bolt/module_abi.h"

struct BoltModule { const float* w; };

static const int64_t dims[] = {-1, COLUMNS};
static const BoltValueInfo inputs[] = {{"x", 1, 2, dims}};
static const BoltValueInfo outputs[] = {{"y", 1, 2, dims}, {"z", 1, 2, dims}};

typedef int Launch(void* stream, void (*body)(void*), const void* arguments, size_t bytes);
typedef int GetDevice(int* device);
template <class F> static F* driver(const char* name) {
  return reinterpret_cast<F*>(dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), name));
}

static int32_t fail(char* error, size_t bytes, const char* text) {
  snprintf(error, bytes, "%s", text);
  return 1;
}

static int32_t create(const void* weights, BoltModule** out, char* error, size_t bytes) {
  int device = -1;
  if (driver<GetDevice>("cuCtxGetDevice")(&device) != 0) return fail(error, bytes, "no context in create");
  if (((uintptr_t)weights & 255) != 0) return fail(error, bytes, "weights are not aligned");
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

struct Job { const float *x, *w; float *scratch, *y, *z; size_t rows; };

static void scale_all(void* arg) {
  const Job& job = *(const Job*)arg;
  for (size_t i = 0; i < job.rows * COLUMNS; i++) job.scratch[i] = job.x[i] * SCALE;
}
typedef void Break(int code, const char* message);
static void break_down(void*) { driver<Break>("fake_cuda_fail")(700, "the toy fears 14 rows"); }
static void add_all(void* arg) {
  const Job& job = *(const Job*)arg;
  for (size_t i = 0; i < job.rows * COLUMNS; i++) {
    job.y[i] = job.scratch[i] + job.w[i % COLUMNS];
    if (job.z) job.z[i] = -job.y[i];
    job.scratch[i] = -1e30f;  /* whoever gets the memory finds it dirty */
  }
}

static int32_t run(const BoltModule* m, const BoltTensor* in, const BoltContext* c, char* error,
                   size_t bytes) {
  const size_t rows = (size_t)in[0].dims[0];
  if (rows == 13) return fail(error, bytes, "the toy fears 13 rows");
  if (!c->stream || c->threads != 1) return fail(error, bytes, "no stream, or threads");
  Job job = {(const float*)in[0].data, m->w, 0, 0, 0, rows};
  job.scratch = (float*)c->workspace(c->host, rows * COLUMNS * sizeof(float));
  job.y = (float*)c->output(c->host, 0, in[0].dims, 2);
  if (OUTPUTS == 2) job.z = (float*)c->output(c->host, 1, in[0].dims, 2);
  if (!job.scratch || !job.y || (OUTPUTS == 2 && !job.z)) return fail(error, bytes, "no memory");
  if (((uintptr_t)job.scratch & 255) != 0) return fail(error, bytes, "workspace is not aligned");
  Launch* launch = driver<Launch>("fake_cuda_launch");
  void* s = c->stream;
  if (rows == 14) return launch(s, break_down, &job, sizeof job);
  const int failed = launch(s, scale_all, &job, sizeof job) || launch(s, add_all, &job, sizeof job);
  return failed ? fail(error, bytes, "a launch failed") : 0;
}

static const BoltModuleTable table = {BOLT_MODULE_ABI_VERSION, TARGET, WEIGHTS_SHA256, WEIGHTS_BYTES,
                                      1, OUTPUTS, inputs, outputs, create, destroy, infer, run, 0, 0};
extern "C" __attribute__((visibility("default"))) const BoltModuleTable* bolt_module(void) { return &table; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """What may differ between toy modules."""

    scale: float = 2.0
    target: str = "sm80"
    outputs: int = 1

    @property
    def weights(self) -> np.ndarray:
        """w, float32 [K]."""
        return np.arange(K, dtype=np.float32)

    def expected(self, x: np.ndarray) -> np.ndarray:
        """What the module computes."""
        return x * np.float32(self.scale) + self.weights


@cache
def build(made: Toy) -> Path:
    """The compiled module; one folder per test process."""
    folder = Path(mkdtemp(prefix="bolt-gpu-toy-"))
    (folder / "toy.cc").write_text(SOURCE)
    macros = {
        "COLUMNS": K,
        "SCALE": f"{made.scale}f",
        "TARGET": f'"{made.target}"',
        "OUTPUTS": made.outputs,
        "WEIGHTS_SHA256": f'"{sha256(made.weights.tobytes()).hexdigest()}"',
        "WEIGHTS_BYTES": made.weights.nbytes,
    }
    out = folder / "toy.so"
    defines = [f"-D{key}={value}" for key, value in macros.items()]
    command = [*find_compiler().argv, "-O1", "-shared", "-fPIC", f"-I{INCLUDE}", *defines]
    subprocess.run([*command, str(folder / "toy.cc"), "-o", str(out), "-ldl"], check=True)
    return out


def variant(made: Toy) -> package.Variant:
    """The toy as a variant."""
    return package.Variant(target=made.target, module_path=build(made), weights=made.weights)


def artifact(folder: Path, *partitions: tuple[Toy, ...], graph: onnx.ModelProto | None = None) -> Artifact:
    """An artifact whose partitions p0, p1, ... have these toys as variants."""
    names = tuple(f"p{i}" for i in range(len(partitions)))
    return package.write(
        folder,
        name="toy",
        model=graph or toy.model(names),
        partitions=[
            package.Partition(name=n, variants=tuple(variant(t) for t in toys))
            for n, toys in zip(names, partitions, strict=True)
        ],
        source_sha256="0" * 64,
        report={"regions": []},
        tools={"compiler": "any"},
    )
