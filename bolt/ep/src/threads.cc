#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <mutex>

namespace bolt {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kProbes = 3;
// Long enough for a sleeping pool thread to wake (50-100 us), short enough to go unnoticed in the first runs.
constexpr std::chrono::microseconds kProbeTime(1000);
constexpr size_t kMaxThreads = 256;

// CPUs this process may use.
int32_t AvailableCpus() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return static_cast<int32_t>(kMaxThreads);
  return std::clamp<int32_t>(CPU_COUNT(&set), 1, static_cast<int32_t>(kMaxThreads));
}

// The roll call of one probe.
struct RollCall {
  explicit RollCall(size_t threads) noexcept : expected(threads), deadline(Clock::now() + kProbeTime) {}

  const size_t expected;
  const Clock::time_point deadline;
  std::mutex mutex;
  pthread_t seen[kMaxThreads];
  std::atomic<size_t> count{0};

  void SignIn() noexcept {
    const std::lock_guard lock(mutex);
    const size_t n = count.load();
    const pthread_t self = pthread_self();
    const bool known =
        std::any_of(seen, seen + n, [self](pthread_t t) { return pthread_equal(t, self) != 0; });
    if (!known && n < kMaxThreads) {
      seen[n] = self;
      count.store(n + 1);
    }
  }

  // Keeps its thread busy so that the other tasks go to other threads; never waits for one that may not come.
  static void Task(void* arg, size_t) noexcept {
    auto& call = *static_cast<RollCall*>(arg);
    call.SignIn();
    while (call.count.load() < call.expected && Clock::now() < call.deadline) sched_yield();
  }
};

int32_t Probe(const ort::Api& api, const ort::OrtKernelContext* context, int32_t expected) noexcept {
  RollCall call(static_cast<size_t>(expected));
  ort::OrtStatus* status =
      api.KernelContext_ParallelFor(context, RollCall::Task, call.expected, call.expected, &call);
  if (status != nullptr) {
    api.ReleaseStatus(status);
    return 1;
  }
  return static_cast<int32_t>(std::max<size_t>(call.count.load(), 1));
}

void StoreMax(std::atomic<int32_t>& value, int32_t candidate) noexcept {
  int32_t current = value.load();
  while (current < candidate && !value.compare_exchange_weak(current, candidate)) {
  }
}

}  // namespace

Threads::Threads(int32_t option) noexcept
    : count_(std::max(option, 1)), probes_left_(option > 0 ? 0 : kProbes) {}

int32_t Threads::Get(const ort::Api& api, const ort::OrtKernelContext* context) noexcept {
  if (probes_left_.load(std::memory_order_relaxed) > 0 && probes_left_.fetch_sub(1) > 0) {
    const int32_t cpus = AvailableCpus();
    if (cpus > 1) StoreMax(count_, Probe(api, context, cpus));
  }
  return count_.load(std::memory_order_relaxed);
}

}  // namespace bolt
