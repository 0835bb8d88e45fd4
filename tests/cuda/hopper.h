// What compute capability 9.0 adds: mbarrier objects, bulk and tensor copies, warpgroup matrix products.
#pragma once
#include "machine.h"

namespace emu {

// Swizzling exchanges 16-byte pieces: address bits 4.. are XORed with bits 7.. (5.5.7; CuTe's Swizzle).
inline uint32_t swizzled(uint32_t address, int bits) {
  return address ^ (address >> 3 & ((1u << bits) - 1) << 4);
}

// The shared address of the same variable in block `rank` of the cluster (9.7.9.23), and back.
uint64_t map_rank(Thread* t, uint64_t address, uint32_t rank);
uint32_t rank_of(Thread* t, uint64_t address);

// mbarrier (9.7.13.15). Addresses are shared::cluster ones.
void mbarrier_init(Thread* t, uint32_t address, uint32_t count);
void mbarrier_check(Thread* t, uint32_t address);  // fails unless it was initialized
void mbarrier_invalidate(Thread* t, uint32_t address);
void mbarrier_expect(Thread* t, uint32_t address, uint32_t bytes);
void mbarrier_complete(Thread* t, uint32_t address, uint32_t bytes);
uint64_t mbarrier_arrive(Thread* t, uint32_t address, uint32_t count, bool drops);
bool mbarrier_test(Thread* t, uint32_t address, uint32_t parity);

// Bulk copies (9.7.9.25): loads happen as late as the machine can delay them, stores when they are waited for.
struct TensorCopy {
  uint64_t map;         // generic address of the 128-byte descriptor
  uint32_t shared;      // where the box is
  int32_t at[5];        // coordinates, innermost first
  uint32_t offsets[3];  // of im2col loads
  int rank;
  bool is_im2col;
};
void tensor_load(Thread* t, const TensorCopy& copy, uint32_t barrier,
                 uint32_t ranks);  // ranks 0: not multicast
enum StoreOp { kStore, kStoreAdd, kStoreMin, kStoreMax };
void tensor_store(Thread* t, const TensorCopy& copy, StoreOp op);
void bulk_load(Thread* t, uint32_t to, uint64_t from, uint32_t bytes, uint32_t barrier, uint32_t ranks);
void bulk_store(Thread* t, uint64_t to, uint32_t from, uint32_t bytes);
void bulk_commit(Thread* t);
void bulk_wait(Thread* t, uint32_t groups);
void copies_arrive(Thread* t, uint32_t address, bool counts);  // cp.async.mbarrier.arrive

// wgmma.mma_async (9.7.15): d = a * b (+ d). `a` is a fragment in registers or a descriptor.
struct Wgmma {
  int n;
  Element a_type, b_type, d_type;
  bool a_in_registers, accumulates, negates_a, negates_b, transposes_a, transposes_b, saturates;
  uint64_t a_descriptor, b_descriptor;
  const uint32_t* a;
  uint32_t* d;
};
void wgmma(Thread* t, const Wgmma& w);

}  // namespace emu
