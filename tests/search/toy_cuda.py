"""A kernel family for the pretended CUDA driver: launchers whose kernels run on the host."""

from search.toy_family import ToyFamily

from bolt.kernels.family import Source

UNIT = """#include "bolt/cuda/launch.h"
#include <dlfcn.h>
#include <stddef.h>
extern "C" int NAME(CUstream_st* stream, void (*body)(void*), const void* arguments, size_t bytes) {
  typedef int Launch(CUstream_st*, void (*)(void*), const void*, size_t);
  Launch* launch = (Launch*)dlsym(dlopen("libcuda.so.1", RTLD_NOW), "fake_cuda_launch");
  return launch(stream, body, arguments, bytes);
}
"""

LAUNCHER = """#include "bolt/cuda/launch.h"
#include <stddef.h>
#include <stdlib.h>
extern "C" int UNIT(CUstream_st* stream, void (*body)(void*), const void* arguments, size_t bytes);

struct NAME_call {
  float* out; const float* in; const float* w; float* scratch; int64_t rows;
};

static void NAME_body(void* raw) {
  const NAME_call& call = *(const NAME_call*)raw;
  float* out = call.out;
  for (int repeat = 0; repeat < WORK; repeat++)
    for (int64_t i = 0; i < call.rows; i++)
      for (int64_t j = 0; j < 16; j++) {
        out[i * 16 + j] = call.in[i * 16 + j] + call.w[j];
        __asm__ volatile("" ::: "memory");
      }
  EXTRA
}

extern "C" int NAME(void* const* p, const int64_t* d, void* scratch, CUstream_st* stream) {
  const NAME_call call = {(float*)p[0], (const float*)p[1], (const float*)p[2], (float*)scratch, ROWS};
  (void)d;
  REFUSE
  return UNIT(stream, NAME_body, &call, sizeof(call));
}
"""

BEHAVIOUR = {
    "right": "",
    "wrong": "out[0] += 1;",
    "outside": "out[call.rows * 16] = 7;",
    "crash": "abort();",
    "hang": 'for (;;) { __asm__ volatile(""); }',
    "zeroed": "out[0] += call.scratch[0];",
    "scratch": "call.scratch[24] = 1;",
    "broken": "this does not compile;",
    "refuses": "",
}


class ToyCuda(ToyFamily):
    """out = in + w over (rows, 16)."""

    name = "toy_cuda"
    language = "cxx"

    def render(self, spec, config, target, name):
        rows = "d[0]" if spec.dynamic() else str(spec.out.dims[0])
        (unit,) = self.units(spec, config, target)
        text = LAUNCHER.replace("UNIT", unit.name).replace("NAME", name).replace("ROWS", rows)
        refuse = "return 9;" if config.behaviour == "refuses" else ""
        text = text.replace("WORK", str(config.work)).replace("REFUSE", refuse)
        return text.replace("EXTRA", BEHAVIOUR[config.behaviour])

    def units(self, spec, config, target):
        return (Source(name="toy_unit", text=UNIT.replace("NAME", "toy_unit")),)
