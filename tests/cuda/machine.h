// The machine translated kernels run on: one fiber per CUDA thread, switched at the instructions where
// threads wait for each other. Everything of one launch runs on the operating system thread that launched it.
//
// Addresses: global and local memory have the addresses of the host, shared memory is a window of its own, in
// which every resident block has 16 MB. A shared address is the offset in the window (32 bits, as PTX's
// `cvta.to.shared` gives them); its generic address is kSharedWindow + offset. The blocks of a cluster are
// neighbours, so that `mapa` changes bits 24 and up (PTX ISA 9.0, 5.1.7 and 9.7.9.23).
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "addresses.h"

namespace emu {

constexpr int kSharedStrideBits = 24;
constexpr uint32_t kSharedStride = 1u << kSharedStrideBits;
constexpr uint32_t kSharedReserved = 1024;  // as the system keeps from compute capability 8.0 on

struct Dim3 {
  uint32_t x, y, z;
};

struct Cta;
struct Warp;
struct AsyncCopies;

// What translated code and the collectives know of a CUDA thread.
struct Thread {
  void* stack;  // saved stack pointer
  Warp* warp;
  Cta* cta;
  const uint8_t* params;
  Dim3 tid, ntid, ctaid, nctaid;
  Dim3 cluster_ctaid, cluster_nctaid, clusterid, nclusterid;
  uint32_t lane, warp_index, nwarps, cluster_rank;
  uint32_t shared;      // shared address of the block's first variable
  uint32_t shared_end;  // offset in the block's 16 MB after the last byte it may use
  uint32_t dynamic_bytes;
  uint32_t line;  // of the PTX file
  void* slot;     // what the thread brings to a meeting of its warp
  AsyncCopies* copies;
  int waits_for;  // number of a barrier, or -1
  uint32_t barrier_result;
  uint32_t cluster_arrivals;
};

// A translated kernel.
struct Param {
  uint32_t offset, bytes;
};
struct Kernel {
  const char* name;
  void (*run)(Thread*);
  const Param* params;
  uint32_t param_count, param_bytes;
  uint32_t shared_bytes;   // static
  uint32_t dynamic_align;  // where extern shared memory begins
  uint32_t max_threads;    // maxntid, or 0
  Dim3 cluster;            // reqnctapercluster, or 0
};
struct Global {
  const char* name;
  void* address;
  uint64_t bytes;
};
struct Module {
  const char* target;  // "sm_80"
  const Kernel* kernels;
  uint32_t kernel_count;
  const Global* globals;
  uint32_t global_count;
};
void add_module(const Module* module);
void remove_module(const Module* module);

// Ends the launch with the error `code` (a cudaError_t) and a message that names the thread.
[[noreturn]] void fail(Thread* t, int code, const char* format, ...) __attribute__((format(printf, 3, 4)));
enum {
  kMisaligned = 716,
  kIllegalAddress = 700,
  kIllegalInstruction = 715,
  kLaunchFailure = 719,
  kTimeout = 702,
  kAssert = 710
};

[[noreturn]] void misaligned(Thread* t, uint64_t address, uint32_t bytes);
[[noreturn]] void outside_shared(Thread* t, uint32_t address, uint32_t bytes);
void check_foreign(Thread* t, uint64_t address, uint32_t bytes);  // fails unless it is memory of another kind

// Host address of `bytes` bytes at a generic or global address.
inline void* global_at(Thread* t, uint64_t address, uint32_t bytes) {
  if (__builtin_expect(address & (bytes - 1), 0)) misaligned(t, address, bytes);
  if (__builtin_expect(address - kDeviceArena >= kDeviceArenaBytes, 0)) check_foreign(t, address, bytes);
  return reinterpret_cast<void*>(address);
}

inline void* shared_at(Thread* t, uint32_t address, uint32_t bytes) {
  if (__builtin_expect(address & (bytes - 1), 0)) misaligned(t, address, bytes);
  if (__builtin_expect((address & (kSharedStride - 1)) + bytes > t->shared_end, 0))
    outside_shared(t, address, bytes);
  return reinterpret_cast<void*>(kSharedWindow + address);
}

// Threads of a warp meet; the last one of `mask` to come does `act` for all, then all go on.
struct Meeting;
typedef void Act(Warp* warp, uint32_t lanes);
void meet(Thread* t, uint32_t mask, Act* act, void* slot);
Thread* lane_of(Warp* warp, uint32_t lane);
inline void* slot_of(Warp* warp, uint32_t lane) { return lane_of(warp, lane)->slot; }

// The end of the thread; the others go on.
[[noreturn]] void exit_thread(Thread* t);

// Lets all others go first.
void pause(Thread* t);
void progress();  // something happened that others may wait for
uint32_t active_mask(Thread* t);

void barrier_sync(Thread* t, uint32_t id, uint32_t count);
void barrier_arrive(Thread* t, uint32_t id, uint32_t count);
enum Reduction { kAnd, kOr, kCount };
uint32_t barrier_reduce(Thread* t, uint32_t id, uint32_t count, Reduction how, bool value);
void cluster_arrive(Thread* t);
void cluster_wait(Thread* t);

// Warp-wide exchange (collectives.cc).
enum ShuffleMode { kUp, kDown, kButterfly, kIndex };
uint32_t shuffle(Thread* t, ShuffleMode mode, uint32_t value, uint32_t b, uint32_t c, uint32_t mask,
                 bool* valid);
enum VoteMode { kAll, kAny, kUniform, kBallot };
uint32_t vote(Thread* t, VoteMode mode, bool value, uint32_t mask);
uint32_t match_any(Thread* t, uint64_t value, uint32_t mask);
uint32_t match_all(Thread* t, uint64_t value, uint32_t mask, bool* same);
enum ReduceMode { kReduceAdd, kReduceMin, kReduceMax, kReduceAnd, kReduceOr, kReduceXor };
uint32_t reduce(Thread* t, ReduceMode mode, bool is_signed, uint32_t value, uint32_t mask);
uint32_t elect(Thread* t, uint32_t mask, bool* chosen);
void warp_sync(Thread* t, uint32_t mask);

// Asynchronous copies (PTX ISA 9.7.9.25): done as late as the waits allow, so that a missing wait is seen.
void async_copy(Thread* t, uint32_t to, uint64_t from, uint32_t bytes, uint32_t source_bytes);
void async_commit(Thread* t);
void async_wait(Thread* t, uint32_t groups);  // until at most `groups` are pending
void async_wait_all(Thread* t);

// Matrix instructions (matrix.cc).
enum Element { kF16, kBF16, kTF32, kF32, kF64, kS8, kU8, kS4, kU4, kB1, kS32, kE4M3, kE5M2 };
void ldmatrix(Thread* t, uint32_t address, int count, bool transposed, uint32_t* out);
void stmatrix(Thread* t, uint32_t address, int count, bool transposed, const uint32_t* in);
uint32_t movmatrix(Thread* t, uint32_t value);
void mma(Thread* t, int m, int n, int k, Element a_type, Element b_type, Element c_type, Element d_type,
         bool saturate, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d);

uint64_t global_timer();
uint32_t clock32();

}  // namespace emu
