"""A kernel family whose configs do what a search has to survive."""

from dataclasses import dataclass

import numpy as np

from bolt.epilogue import Builder
from bolt.ops.gemm import GemmSpec
from bolt.ops.pointwise import PointwiseSpec
from bolt.ops.spec import Operand
from bolt.report import Rejection
from bolt.types import F32

HEAD = """#include <stdint.h>
#include <stdlib.h>
extern "C" __attribute__((visibility("default")))
void NAME(void* const* p, const int64_t* d, void* scratch, int64_t part, int64_t parts) {
  float* out = (float*)p[0]; const float* in = (const float*)p[1]; const float* w = (const float*)p[2];
  const int64_t rows = ROWS, n = 16, first = rows * part / parts, last = rows * (part + 1) / parts;
  (void)d;
  for (int repeat = 0; repeat < WORK; repeat++)
    for (int64_t i = first; i < last; i++)
      for (int64_t j = 0; j < n; j++) {
        out[i * n + j] = in[i * n + j] + w[j];
        __asm__ volatile("" ::: "memory");
      }
  EXTRA
}
"""

BEHAVIOUR = {
    "right": "",
    "wrong": "out[first * n] += 1;",
    "crash": "if (part == 0) abort();",
    "segfault": "if (part == 0) *(volatile int*)8 = 1;",
    "hang": 'for (;;) { __asm__ volatile(""); }',
    "outside": "if (last == rows) out[rows * n] = 7;",
    "broken": "this does not compile;",
    "scratch": "for (int i = 0; i < 100; i++) ((char*)scratch)[i] = 1;",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    work: int
    behaviour: str = "right"
    twin: int = 0


class ToyFamily:
    """out = in + w over (rows, 16); `configs` are given by the test, in estimated order."""

    name = "toy"
    op = "pointwise"

    def __init__(self, *configs):
        self._configs = configs

    def supports(self, spec, target):
        few = spec.out.dims[0] is None or spec.out.dims[0] < 1 << 20
        return None if few else Rejection(stage="supports", subject="toy", reason="too many rows")

    def configs(self, spec, target):
        return self._configs

    def estimate(self, spec, config, target):
        return self._configs.index(config)

    def render(self, spec, config, target, name):
        rows = "d[0]" if spec.dynamic() else str(spec.out.dims[0])
        text = HEAD.replace("ROWS", rows).replace("WORK", str(config.work)).replace("NAME", name)
        return text.replace("EXTRA", BEHAVIOUR[config.behaviour])

    def pack(self, spec, config, target, constants):
        return {index: np.ascontiguousarray(array).reshape(-1) for index, array in constants.items()}

    def scratch_bytes(self, spec, config, target):
        return 100


def add_spec(rows=64):
    """in + w; `rows` None is known at run time only."""
    b = Builder()
    epilogue = b.finish(b.op("add", b.input(0), b.input(1)))
    dense = Operand(dtype=F32, dims=(rows, 16), strides=(16, 1))
    vector = Operand(dtype=F32, dims=(rows, 16), strides=(0, 1))
    return PointwiseSpec(operands=(dense, dense, vector), epilogue=epilogue, constants=(2,))


def gemm_spec():
    dense = Operand.dense(F32, (1, 1, 4, 4))
    return GemmSpec(operands=(dense, dense, dense), constants=(2,))
