// Inside of the machine: blocks, warps and the scheduler. Translated code sees machine.h only.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "machine.h"

namespace emu {

struct Meeting {
  uint32_t mask = 0, arrived = 0;
  Act* act = nullptr;
};

struct Warp {
  Thread* threads;
  uint32_t size;
  uint32_t ready, polling, asking, exited;  // bits of lanes
  Meeting meetings[32];                     // by the lowest lane of the mask
};

struct Barrier {
  uint32_t arrived = 0, waiting = 0, expected = 0;
  bool all = true, any = false;
  uint32_t count = 0;
};

struct Cluster;

struct Cta {
  Cluster* cluster;
  uint32_t slot;
  uint32_t live;
  uint32_t thread_count;
  Thread* threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
};

struct Cluster {
  std::vector<Cta*> ctas;
  uint32_t live, arrived, phase;
};

// One launch.
struct Launch {
  const Kernel* kernel;
  Dim3 grid, block, cluster;
  uint32_t dynamic_bytes;
  const uint8_t* params;
};

struct AsyncCopy {
  uint32_t to;
  uint64_t from;
  uint32_t bytes, source_bytes;
};
struct AsyncCopies {
  std::deque<AsyncCopy> copies;
  std::deque<size_t> groups;  // how many copies each committed group has
  size_t open = 0;            // copies not committed yet
  std::deque<std::vector<std::function<void()>>> bulk_groups;
  std::vector<std::function<void()>> bulk_open;
};

// Work of the asynchronous engine: done when no thread can go on without it.
void defer(std::function<void()> work);
void add_bulk_store(Thread* t, std::function<void()> work);

// Whether, of those that can go on, the last thread goes first: what a kernel computes must not depend on it.
void set_order(bool is_reversed);

// Runs a launch to its end. Returns 0 or a cudaError_t; `message` then says what happened.
int run_launch(const Launch& launch, std::string* message);

}  // namespace emu
