// Device memory, or pinned host memory, that is kept for the next one who asks: the driver takes milliseconds
// to hand memory out and waits for the whole device to take it back.
//
// Memory is given back when the host is done with it, while work on a stream may still use it. So a block
// remembers the stream it was taken for, and until that stream was waited for, the block is for that
// stream only, whose work is in order.
#ifndef BOLT_EP_ARENA_H_
#define BOLT_EP_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>

#include "cuda.h"

namespace bolt {

// Where an arena's memory comes from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual void* Allocate(size_t bytes) noexcept = 0;  // null when there is none
  virtual void Free(void* data) noexcept = 0;
  // Waits for the work of all streams, whosever they are; false when that is impossible at this moment.
  virtual bool Wait() noexcept = 0;
};

class Arena {
 public:
  // Who may still use a block: a stream, a graph that is being captured, or nobody (null).
  using User = const void*;

  explicit Arena(MemorySource* source) noexcept : source_(source) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Memory of at least `bytes`, 256-byte aligned; null when there is none or `bytes` is 0.
  void* Take(size_t bytes, User user) noexcept;
  void Give(void* data) noexcept;

  // `user` reads or writes a block that was taken for another one.
  void UsedBy(const void* address, User user) noexcept;

  // A moment: Finished(user, moment) says that `user` has done all it had to do then.
  uint64_t Now() noexcept;
  void Finished(User user, uint64_t moment) noexcept;
  // `user` has done everything and will not do more.
  void Ended(User user) noexcept;
  // `user` is a graph, which works again and again: only Ended frees its blocks. Throws std::bad_alloc.
  void Hold(User user);

  // Waits for all work but that of graphs, and hands what nobody uses then back to the driver.
  void Trim() noexcept;

  struct Statistics {
    size_t in_use = 0, most_in_use = 0, total = 0;  // bytes
    size_t takes = 0, allocations = 0;
  };
  Statistics statistics() const noexcept;

  // While a graph is captured by this thread, what it takes belongs to the graph; null: no graph.
  static void SetGraph(User graph) noexcept;

 private:
  struct Block {
    size_t bytes;
    User user;
  };
  struct Free {
    void* data;
    uint64_t since;
  };
  using FreeBlocks = std::multimap<size_t, Free>;  // by bytes

  void* TakeFree(size_t bytes, User from, User user);
  void* TakeNew(size_t bytes, User user);
  void Remember(void* data, size_t bytes, User user);

  MemorySource* const source_;
  mutable std::mutex mutex_;
  uint64_t clock_ = 0;
  std::map<const char*, Block> taken_;
  std::map<User, FreeBlocks> free_;
  std::set<User> graphs_;
  Statistics statistics_;
};

}  // namespace bolt

#endif  // BOLT_EP_ARENA_H_
