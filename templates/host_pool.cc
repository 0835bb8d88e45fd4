// What Python lends a module: a thread pool, scratch memory and the memory of the outputs.
//
// The pool hands out indices through one atomic ticket (job number, next index). A worker reads the job only
// after the ticket and takes an index only if the ticket is unchanged, so a late worker never mixes two jobs.
// Idle workers spin for a fraction of a millisecond and then sleep: a spinning pool would halve the speed of
// every other pool in the process.
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <atomic>
#include <new>

#include "bolt/module_abi.h"

#define BOLT_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

typedef void (*Task)(void* arg, size_t index);

constexpr int kMaxThreads = 256;
constexpr uint64_t kClosed = 0xffffffffu;  // as "next index": the job is over
constexpr double kSpinUs = 200;

double NowUs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec * 1e-3;
}

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Pool {
  int workers;
  pthread_t thread[kMaxThreads];
  std::atomic<uint64_t> ticket{kClosed};
  std::atomic<Task> task{nullptr};
  std::atomic<void*> arg{nullptr};
  std::atomic<uint64_t> count{0};
  std::atomic<uint64_t> done{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
};

// Runs indices of the current job until none are left.
void Drain(Pool* pool) {
  uint64_t ticket = pool->ticket.load();
  for (;;) {
    const uint64_t index = ticket & kClosed;
    const Task task = pool->task.load();
    void* arg = pool->arg.load();
    if (index == kClosed || index >= pool->count.load()) return;
    if (pool->ticket.compare_exchange_weak(ticket, ticket + 1)) {
      task(arg, index);
      pool->done.fetch_add(1);
      ticket = pool->ticket.load();
    }
  }
}

uint64_t Job(const Pool* pool) { return pool->ticket.load() >> 32; }

void Sleep(Pool* pool, uint64_t job) {
  pthread_mutex_lock(&pool->mutex);
  pool->sleeping.fetch_add(1);
  while (Job(pool) == job && !pool->stop.load()) pthread_cond_wait(&pool->wake, &pool->mutex);
  pool->sleeping.fetch_sub(1);
  pthread_mutex_unlock(&pool->mutex);
}

void* Work(void* argument) {
  Pool* pool = static_cast<Pool*>(argument);
  uint64_t job = 0;
  while (!pool->stop.load()) {
    const double until = NowUs() + kSpinUs;
    while (Job(pool) == job && !pool->stop.load() && NowUs() < until) Pause();
    if (Job(pool) == job) Sleep(pool, job);
    job = Job(pool);
    Drain(pool);
  }
  return nullptr;
}

void Wake(Pool* pool) {
  if (pool->sleeping.load() == 0) return;
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

void RunJob(Pool* pool, Task task, size_t count, void* arg) {
  const uint64_t next = Job(pool) + 1;
  pool->task.store(task);
  pool->arg.store(arg);
  pool->count.store(count);
  pool->done.store(0);
  pool->ticket.store(next << 32);
  Wake(pool);
  Drain(pool);
  for (int spins = 0; pool->done.load() != count; spins++) {
    if (spins < 2000) {
      Pause();
    } else {
      sched_yield();
    }
  }
  pool->ticket.store(next << 32 | kClosed);
}

// BoltContext callbacks; `host` is a Host.
struct Host {
  Pool* pool;
  void* workspace;
  uint64_t workspace_bytes;
  int32_t output_count;
  void* const* outputs;
  const int64_t* const* output_dims;
  const int32_t* output_ranks;
  double* step_us;  // shortest time of each step so far; null when the run is not profiled
  double last_us;   // when the step under way began
};

}  // namespace

BOLT_EXPORT void bolt_pool_run(Pool* pool, Task task, size_t count, void* arg) {
  // A nested or second job at the same time runs on its own thread.
  const bool alone = pool && pool->workers && count > 1 && count < kClosed && !pool->busy.test_and_set();
  if (!alone) {
    for (size_t i = 0; i < count; i++) task(arg, i);
    return;
  }
  RunJob(pool, task, count, arg);
  pool->busy.clear();
}

BOLT_EXPORT void bolt_pool_destroy(Pool* pool) {
  pool->stop.store(true);
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
  for (int i = 0; i < pool->workers; i++) pthread_join(pool->thread[i], nullptr);
  pool->~Pool();
  __builtin_free(pool);
}

// A pool of `threads` including the one that calls; null when the system gives no more threads.
BOLT_EXPORT Pool* bolt_pool_create(int32_t threads) {
  if (threads < 1 || threads > kMaxThreads) return nullptr;
  void* memory = __builtin_malloc(sizeof(Pool));
  if (!memory) return nullptr;
  Pool* pool = new (memory) Pool();
  for (pool->workers = 0; pool->workers < threads - 1; pool->workers++) {
    if (pthread_create(&pool->thread[pool->workers], nullptr, Work, pool) != 0) {
      bolt_pool_destroy(pool);
      return nullptr;
    }
  }
  return pool;
}

namespace {

void HostParallelFor(void* host, Task task, size_t count, void* arg) {
  bolt_pool_run(static_cast<Host*>(host)->pool, task, count, arg);
}

void* HostWorkspace(void* host, size_t bytes) {
  const Host* h = static_cast<Host*>(host);
  return bytes <= h->workspace_bytes ? h->workspace : nullptr;
}

void* HostOutput(void* host, int32_t index, const int64_t* dims, int32_t rank) {
  const Host* h = static_cast<Host*>(host);
  if (index < 0 || index >= h->output_count || rank != h->output_ranks[index]) return nullptr;
  for (int32_t i = 0; i < rank; i++) {
    if (dims[i] != h->output_dims[index][i]) return nullptr;
  }
  return h->outputs[index];
}

void HostTick(void* host, int32_t step) {
  Host* h = static_cast<Host*>(host);
  const double us = NowUs() - h->last_us;
  if (us < h->step_us[step]) h->step_us[step] = us;
  h->last_us = NowUs();
}

}  // namespace

// Runs a module `rounds` times and writes the time of each into `us` (may be null).
BOLT_EXPORT int32_t bolt_host_run(const BoltModuleTable* table, const BoltModule* module,
                                  const BoltTensor* inputs, Host* host, int32_t threads, int32_t rounds,
                                  double* us, char* error, size_t error_bytes) {
  BoltContext context;
  memset(&context, 0, sizeof context);
  context.host = host;
  context.threads = threads;
  context.parallel_for = HostParallelFor;
  context.workspace = HostWorkspace;
  context.output = HostOutput;
  if (host->step_us) context.tick = HostTick;
  for (int32_t i = 0; i < rounds; i++) {
    const double start = NowUs();
    host->last_us = start;
    const int32_t status = table->run(module, inputs, &context, error, error_bytes);
    if (status != 0) return status;
    if (us) us[i] = NowUs() - start;
  }
  return 0;
}

namespace {

typedef void (*Kernel)(void* const* p, const int64_t* d, void* scratch, int64_t part, int64_t parts);

struct Call {
  Kernel kernel;
  void* const* p;
  const int64_t* d;
  char* scratch;
  uint64_t scratch_bytes;
  int64_t parts;
};

void RunPart(void* argument, size_t part) {
  const Call* call = static_cast<Call*>(argument);
  call->kernel(call->p, call->d, call->scratch + part * call->scratch_bytes, int64_t(part), call->parts);
}

}  // namespace

// Calls a kernel `calls` times, taking the operand pointers of set 0, 1, ... in turn from `first`, and writes
// the time of each call into `us` (may be null).
BOLT_EXPORT void bolt_kernel_run(Kernel kernel, void* const* pointers, int32_t operands, int32_t sets,
                                 int32_t first, const int64_t* d, char* scratch, uint64_t scratch_bytes,
                                 int64_t parts, Pool* pool, int32_t calls, double* us) {
  Call call = {kernel, nullptr, d, scratch, scratch_bytes, parts};
  for (int32_t i = 0; i < calls; i++) {
    call.p = pointers + size_t((first + i) % sets) * operands;
    const double start = NowUs();
    bolt_pool_run(pool, RunPart, size_t(parts), &call);
    if (us) us[i] = NowUs() - start;
  }
}
