// The machine's memory limit: how fast a thread reads its part of an array, again and again.
#include "bolt/simd.h"

struct ReadTask {
  const float* data;
  int64_t floats;  // of each thread, a multiple of 16 vectors
  int64_t rounds;
  float sink[256 * 16];  // a cache line per task
};

// A task of a thread pool.
extern "C" __attribute__((visibility("default"))) void bolt_read_task(void* argument, size_t index) {
  constexpr int kStreams = 8;
  ReadTask* task = static_cast<ReadTask*>(argument);
  const float* begin = task->data + static_cast<int64_t>(index) * task->floats;
  vf sums[kStreams];
#pragma GCC unroll 8
  for (int i = 0; i < kStreams; i++) sums[i] = vset(0.0f);
  for (int64_t round = 0; round < task->rounds; round++) {
    for (int64_t at = 0; at < task->floats; at += kStreams * VL) {
#pragma GCC unroll 8
      for (int i = 0; i < kStreams; i++) sums[i] += vload(begin + at + i * VL);
    }
  }
  vf sum = sums[0];
#pragma GCC unroll 8
  for (int i = 1; i < kStreams; i++) sum += sums[i];
  task->sink[index % 256 * 16] = sum[0];
}
