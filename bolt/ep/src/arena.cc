#include "arena.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <new>

namespace bolt {
namespace {

constexpr size_t kGranule = 512;
constexpr size_t kLargest = size_t{1} << 48;

thread_local Arena::User captured_graph = nullptr;

// Eight sizes per power of two: at most an eighth is wasted, and equal sizes come back often.
size_t Round(size_t bytes) noexcept {
  const size_t step = std::max(kGranule, std::bit_floor(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

}  // namespace

void Arena::SetGraph(User graph) noexcept { captured_graph = graph; }

void* Arena::Take(size_t bytes, User user) noexcept {
  if (bytes == 0 || bytes > kLargest) return nullptr;
  if (captured_graph != nullptr) user = captured_graph;
  const size_t size = Round(bytes);
  try {
    {
      const std::lock_guard lock(mutex_);
      if (void* data = TakeFree(size, user, user)) return data;
      if (void* data = TakeFree(size, nullptr, user)) return data;
    }
    if (void* data = TakeNew(size, user)) return data;
    // What is kept for other streams, or has the wrong size, goes back for it.
    Trim();
    return TakeNew(size, user);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void* Arena::TakeFree(size_t bytes, User from, User user) {
  const auto list = free_.find(from);
  if (list == free_.end()) return nullptr;
  const auto it = list->second.lower_bound(bytes);
  if (it == list->second.end() || it->first / 2 > bytes) return nullptr;
  const size_t size = it->first;
  void* const data = it->second.data;
  Remember(data, size, user);
  list->second.erase(it);
  return data;
}

void* Arena::TakeNew(size_t bytes, User user) {
  void* const data = source_->Allocate(bytes);
  if (data == nullptr) return nullptr;
  const std::lock_guard lock(mutex_);
  ++statistics_.allocations;
  statistics_.total += bytes;
  Remember(data, bytes, user);
  return data;
}

void Arena::Remember(void* data, size_t bytes, User user) {
  taken_[static_cast<const char*>(data)] = {bytes, user};
  ++statistics_.takes;
  statistics_.in_use += bytes;
  statistics_.most_in_use = std::max(statistics_.most_in_use, statistics_.in_use);
}

void Arena::Give(void* data) noexcept {
  if (data == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto it = taken_.find(static_cast<const char*>(data));
  if (it == taken_.end()) return;
  statistics_.in_use -= it->second.bytes;
  try {
    free_[it->second.user].insert({it->second.bytes, Free{data, ++clock_}});
  } catch (const std::bad_alloc&) {
    // Without room to remember the block it is lost; nothing else works in such a process either.
  }
  taken_.erase(it);
}

void Arena::UsedBy(const void* address, User user) noexcept {
  const std::lock_guard lock(mutex_);
  const auto* const at = static_cast<const char*>(address);
  auto it = taken_.upper_bound(at);
  if (it == taken_.begin()) return;
  --it;
  if (at < it->first + it->second.bytes) it->second.user = user;
}

uint64_t Arena::Now() noexcept {
  const std::lock_guard lock(mutex_);
  return clock_;
}

void Arena::Finished(User user, uint64_t moment) noexcept {
  const std::lock_guard lock(mutex_);
  const auto list = free_.find(user);
  if (user == nullptr || list == free_.end()) return;
  for (auto it = list->second.begin(); it != list->second.end();) {
    const auto next = std::next(it);
    if (it->second.since <= moment) free_[nullptr].insert(list->second.extract(it));
    it = next;
  }
}

void Arena::Ended(User user) noexcept {
  Finished(user, UINT64_MAX);
  const std::lock_guard lock(mutex_);
  free_.erase(user);
  graphs_.erase(user);
  for (auto& [address, block] : taken_) {
    if (block.user == user) block.user = nullptr;
  }
}

void Arena::Hold(User user) {
  const std::lock_guard lock(mutex_);
  graphs_.insert(user);
}

void Arena::Trim() noexcept {
  const uint64_t moment = Now();
  const bool waited = source_->Wait();
  FreeBlocks unused;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [user, blocks] : free_) {
      const bool is_done = user == nullptr || (waited && graphs_.count(user) == 0);
      for (auto it = blocks.begin(); is_done && it != blocks.end();) {
        const auto next = std::next(it);
        if (user == nullptr || it->second.since <= moment) unused.insert(blocks.extract(it));
        it = next;
      }
    }
    for (const auto& [bytes, block] : unused) statistics_.total -= bytes;
  }
  for (const auto& [bytes, block] : unused) source_->Free(block.data);
}

Arena::Statistics Arena::statistics() const noexcept {
  const std::lock_guard lock(mutex_);
  return statistics_;
}

}  // namespace bolt
