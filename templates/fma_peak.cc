// The machine's speed limit: fused multiply-adds on registers, as many at a time as the hardware can overlap.
#include "bolt/simd.h"

// 2 flops per lane, accumulator and round; the sum keeps the compiler from dropping the work.
extern "C" __attribute__((visibility("default"))) float bolt_fma_rounds(int64_t rounds) {
  constexpr int kAccumulators = 12;
  vf a = vset(1.0f), b = vset(1e-9f);
  __asm__ volatile("" : "+m"(a), "+m"(b));
  vf c[kAccumulators];
#pragma GCC unroll 12
  for (int i = 0; i < kAccumulators; i++) c[i] = vset(static_cast<float>(i));
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < kAccumulators; i++) BOLT_FMA(c[i], a, b);
  }
  vf sum = {};
#pragma GCC unroll 12
  for (int i = 0; i < kAccumulators; i++) sum += c[i];
  return sum[0];
}

struct FmaTask {
  int64_t rounds;
  float sink[256 * 16];  // a cache line per task
};

// A task of a thread pool.
extern "C" __attribute__((visibility("default"))) void bolt_fma_task(void* argument, size_t index) {
  FmaTask* task = static_cast<FmaTask*>(argument);
  task->sink[index % 256 * 16] = bolt_fma_rounds(task->rounds);
}
