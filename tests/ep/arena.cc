// The arena (bolt/ep/src/arena.h) over memory that never was: who is given which block, and when.
//   arena <seed>   checks fixed cases, then a long random one; prints "ok" or what went wrong
#include "arena.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <vector>

namespace {

#define CHECK(condition)                                                \
  do {                                                                  \
    if (!(condition)) {                                                 \
      std::printf("line %d: %s does not hold\n", __LINE__, #condition); \
      std::exit(0);                                                     \
    }                                                                   \
  } while (false)

// Hands out addresses one after the other, as long as the sum fits.
class Source : public bolt::MemorySource {
 public:
  explicit Source(size_t capacity) : capacity_(capacity) {}

  void* Allocate(size_t bytes) noexcept override {
    if (used_ + bytes > capacity_) return nullptr;
    used_ += bytes;
    char* const at = next_;
    next_ += bytes;
    blocks_[at] = bytes;
    return at;
  }
  void Free(void* data) noexcept override {
    const auto it = blocks_.find(static_cast<char*>(data));
    CHECK(it != blocks_.end());
    used_ -= it->second;
    blocks_.erase(it);
  }
  bool Wait() noexcept override {
    ++waits;
    return can_wait;
  }

  size_t used() const { return used_; }
  size_t bytes_at(void* data) const { return blocks_.at(static_cast<char*>(data)); }

  int waits = 0;
  bool can_wait = true;

 private:
  const size_t capacity_;
  size_t used_ = 0;
  char* next_ = reinterpret_cast<char*>(size_t{1} << 40);
  std::map<char*, size_t> blocks_;
};

int a, b, graph;  // their addresses are users

void CheckStreams() {
  Source source(1 << 20);
  bolt::Arena arena(&source);
  CHECK(arena.Take(0, &a) == nullptr);
  void* const first = arena.Take(1000, &a);
  arena.Give(first);
  CHECK(arena.Take(1000, &b) != first);  // a may be at work with it
  CHECK(arena.Take(1000, nullptr) != first);
  CHECK(arena.Take(900, &a) == first);  // its own work is in order
  arena.Give(first);
  const uint64_t moment = arena.Now();
  void* const second = arena.Take(5000, &a);
  arena.Give(second);
  arena.Finished(&a, moment);
  CHECK(arena.Take(5000, &b) != second);  // given back after that moment
  CHECK(arena.Take(1000, &b) == first);
  arena.Give(first);
  CHECK(arena.Take(400, &a) != first);  // more than twice as large as asked for, and b's
  arena.Ended(&b);
  CHECK(arena.Take(1000, &a) == first);
}

void CheckUsedBy() {
  Source source(1 << 20);
  bolt::Arena arena(&source);
  char* const block = static_cast<char*>(arena.Take(4096, nullptr));
  arena.UsedBy(block + 100, &a);
  arena.UsedBy(block + 5000, &b);  // not in the block
  arena.Give(block);
  CHECK(arena.Take(4096, &b) != block);
  CHECK(arena.Take(4096, &a) == block);
}

void CheckGraphs() {
  Source source(1 << 20);
  bolt::Arena arena(&source);
  arena.Hold(&graph);
  bolt::Arena::SetGraph(&graph);
  void* const block = arena.Take(1000, &a);
  arena.Give(block);
  CHECK(arena.Take(1000, &a) == block);  // within the graph the order is known
  arena.Give(block);
  bolt::Arena::SetGraph(nullptr);
  arena.Finished(&a, arena.Now());
  CHECK(arena.Take(1000, &a) != block);
  arena.Trim();
  CHECK(source.bytes_at(block) == 1024);  // still there
  arena.Ended(&graph);
  CHECK(arena.Take(1000, &b) == block);
}

void CheckFullMemory() {
  Source source(64 << 10);
  bolt::Arena arena(&source);
  void* const kept = arena.Take(32 << 10, &a);
  void* const other = arena.Take(32 << 10, &a);
  CHECK(arena.Take(512, &b) == nullptr && source.waits == 1);
  arena.Give(other);
  CHECK(arena.Take(1 << 10, &b) != nullptr);  // waits for a, then trades its block
  CHECK(source.used() == (33 << 10) && source.waits == 2);
  source.can_wait = false;
  arena.Give(kept);
  CHECK(arena.Take(40 << 10, &b) == nullptr);
  CHECK(arena.Take(SIZE_MAX, &b) == nullptr && arena.Take(SIZE_MAX / 2, &b) == nullptr);
}

// What is known of a block since it was given back.
struct Past {
  int user = 0;
  uint64_t time = 0;
};

void CheckRandomly(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Source source(4 << 20);
  bolt::Arena arena(&source);
  int users[4];  // the first stands for nobody
  std::map<char*, std::pair<size_t, int>> taken;
  std::map<char*, Past> past;
  uint64_t time = 0, finished[4] = {};
  for (int step = 0; step < 100000; ++step) {
    ++time;
    const int user = pick(4);
    const bolt::Arena::User name = user == 0 ? nullptr : &users[user];
    if (pick(5) == 0) {
      arena.Finished(name, arena.Now());
      finished[user] = time;
    } else if (pick(2) == 0 || taken.empty()) {
      const int waits = source.waits;
      const size_t bytes = 1 + static_cast<size_t>(pick(pick(10) == 0 ? 300000 : 3000));
      auto* const data = static_cast<char*>(arena.Take(bytes, name));
      if (source.waits != waits) {
        for (uint64_t& moment : finished) moment = time;
      }
      if (data == nullptr) continue;
      CHECK(source.bytes_at(data) >= bytes && reinterpret_cast<uintptr_t>(data) % 256 == 0);
      CHECK(taken.count(data) == 0);
      const Past& before = past[data];
      CHECK(before.user == 0 || before.user == user || finished[before.user] > before.time);
      taken[data] = {bytes, user};
    } else {
      const auto it = std::next(taken.begin(), pick(static_cast<int>(taken.size())));
      past[it->first] = {it->second.second, time};
      arena.Give(it->first);
      taken.erase(it);
    }
  }
  for (const auto& [data, block] : taken) arena.Give(data);
  CHECK(arena.statistics().in_use == 0);
  CHECK(arena.statistics().allocations < arena.statistics().takes / 3);
  arena.Trim();
  CHECK(source.used() == 0 && arena.statistics().total == 0);
}

}  // namespace

int main(int, char** argv) {
  CheckStreams();
  CheckUsedBy();
  CheckGraphs();
  CheckFullMemory();
  CheckRandomly(static_cast<unsigned>(std::atoi(argv[1])));
  std::puts("ok");
}
