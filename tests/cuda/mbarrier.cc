// Blocks of a cluster, and mbarrier objects. PTX ISA 9.0, 9.7.13.15.
#include "arith.h"
#include "fibers.h"
#include "hopper.h"

namespace emu {
namespace {

// What the opaque 64 bits say, in a layout of our own.
struct Barrier64 {
  uint32_t expected, pending;  // arrivals, at most 2^20 - 1
  int32_t bytes;               // transactions not done yet
  bool phase;
};

constexpr uint64_t kNothing = ~uint64_t(0);  // as shared memory begins: no barrier yet
constexpr uint32_t kCountMask = (1u << 20) - 1;
constexpr int64_t kBytesBias = 1 << 21;

uint64_t pack(const Barrier64& b) {
  return uint64_t(b.expected) | uint64_t(b.pending) << 20 | uint64_t(b.bytes + kBytesBias) << 40 |
         uint64_t(b.phase) << 63;
}

Barrier64 unpack(uint64_t raw) {
  return {uint32_t(raw) & kCountMask, uint32_t(raw >> 20) & kCountMask,
          int32_t(int64_t(raw >> 40 & ((1 << 22) - 1)) - kBytesBias), bool(raw >> 63)};
}

Barrier64 get(Thread* t, uint32_t address) {
  uint64_t raw = load<uint64_t>(shared_at(t, address, 8));
  if (raw == kNothing)
    fail(t, kLaunchFailure, "the mbarrier at shared address 0x%x was not initialized", address);
  return unpack(raw);
}

void set(Thread* t, uint32_t address, Barrier64 b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phase = !b.phase;
    b.pending = b.expected;
    progress();
  }
  store(shared_at(t, address, 8), pack(b));
}

}  // namespace

uint64_t map_rank(Thread* t, uint64_t address, uint32_t rank) {
  const Cta* cta = t->cta;
  if (rank >= cta->cluster->ctas.size())
    fail(t, kIllegalAddress, "block %u of a cluster of %zu", rank, cta->cluster->ctas.size());
  uint64_t slot = cta->slot - t->cluster_rank + rank;
  return (address & ~(uint64_t(0xFF) << kSharedStrideBits)) | slot << kSharedStrideBits;
}

uint32_t rank_of(Thread* t, uint64_t address) {
  return uint32_t(address >> kSharedStrideBits & 0xFF) - (t->cta->slot - t->cluster_rank);
}

void mbarrier_init(Thread* t, uint32_t address, uint32_t count) {
  if (count < 1 || count > kCountMask) fail(t, kIllegalInstruction, "mbarrier of %u arrivals", count);
  store(shared_at(t, address, 8), pack({count, count, 0, false}));
}

void mbarrier_check(Thread* t, uint32_t address) { get(t, address); }

void mbarrier_invalidate(Thread* t, uint32_t address) { store(shared_at(t, address, 8), kNothing); }

void mbarrier_expect(Thread* t, uint32_t address, uint32_t bytes) {
  Barrier64 b = get(t, address);
  b.bytes += int32_t(bytes);
  set(t, address, b);
}

void mbarrier_complete(Thread* t, uint32_t address, uint32_t bytes) {
  Barrier64 b = get(t, address);
  b.bytes -= int32_t(bytes);
  set(t, address, b);
}

uint64_t mbarrier_arrive(Thread* t, uint32_t address, uint32_t count, bool drops) {
  Barrier64 b = get(t, address);
  uint64_t state = pack(b);
  if (count > b.pending)
    fail(t, kLaunchFailure, "%u arrivals at an mbarrier that waits for %u", count, b.pending);
  b.pending -= count;
  if (drops) b.expected -= count;
  set(t, address, b);
  return state;
}

bool mbarrier_test(Thread* t, uint32_t address, uint32_t parity) {
  if (get(t, address).phase != bool(parity & 1)) return true;
  pause(t);
  return get(t, address).phase != bool(parity & 1);
}

void copies_arrive(Thread* t, uint32_t address, bool counts) {
  async_wait_all(t);
  if (counts) {  // without .noinc the pending count first grows by one
    Barrier64 b = get(t, address);
    b.pending++;
    store(shared_at(t, address, 8), pack(b));
  }
  mbarrier_arrive(t, address, 1, false);
}

}  // namespace emu
