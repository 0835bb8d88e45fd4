// Bulk and tensor copies. PTX ISA 9.0, 5.5 and 9.7.9.25 - .27.
#include "arith.h"
#include "fibers.h"
#include "hopper.h"
#include "tensormap.h"

namespace emu {
namespace {

// Calls f(index, length, global address or 0) for each row of the box, a run along the innermost dim.
template <class F>
void each_row_of_tile(const TensorMap& m, const TensorCopy& c, F f) {
  uint32_t box[5], index[5] = {};
  for (int i = 0; i < 5; i++) box[i] = i < m.rank ? (m.box[i] + m.steps[i] - 1u) / m.steps[i] : 1;
  uint32_t rows = box[1] * box[2] * box[3] * box[4];
  for (uint32_t row = 0; row < rows; row++) {
    bool inside = true;
    uint64_t address = m.address;
    for (int i = 1; i < m.rank; i++) {
      int64_t at = int64_t(c.at[i]) + int64_t(index[i]) * m.steps[i];
      inside &= at >= 0 && at <= int64_t(m.dims[i]);
      address += uint64_t(at) * m.strides[i - 1];
    }
    f(row, box[0], inside ? address : 0);
    for (int i = 1; i < 5 && ++index[i] == box[i]; i++) index[i] = 0;
  }
}

// 5.5.5: pixels follow each other within the bounding box, its last row by the first one of the next image.
template <class F>
void each_pixel(const TensorMap& m, const TensorCopy& c, F f) {
  int spatial = m.rank - 2;
  int64_t at[4] = {};
  for (int i = 0; i < spatial + 1; i++) at[i] = c.at[i + 1];
  for (uint32_t p = 0; p < m.pixels; p++) {
    bool inside = at[spatial] >= 0 && at[spatial] <= int64_t(m.dims[m.rank - 1]);
    uint64_t address = m.address + uint64_t(at[spatial]) * m.strides[m.rank - 2];
    for (int i = 0; i < spatial; i++) {
      int64_t x = at[i] + c.offsets[i];
      inside &= x >= 0 && x <= int64_t(m.dims[i + 1]);
      address += uint64_t(x) * m.strides[i];
    }
    f(p, uint32_t(m.channels), inside ? address : 0);
    int i = 0;
    for (; i < spatial; i++) {
      at[i] += m.steps[i + 1];
      if (at[i] <= int64_t(m.dims[i + 1]) + m.upper[i]) break;
      at[i] = m.lower[i];
    }
    if (i == spatial) at[spatial]++;
  }
}

// Calls f(shared address, global address or 0) for each element of the box.
template <class F>
void each_element(const TensorMap& m, const TensorCopy& c, uint32_t shared, F f) {
  auto row = [&](uint32_t index, uint32_t count, uint64_t address) {
    for (uint32_t i = 0; i < count; i++) {
      int64_t at = int64_t(c.at[0]) + int64_t(i) * m.steps[0];
      bool inside = address && at >= 0 && at <= int64_t(m.dims[0]);
      uint32_t to = swizzled(shared + (index * count + i) * m.element_bytes, m.swizzle);
      f(to, inside ? address + uint64_t(at) * m.element_bytes : 0);
    }
  };
  if (m.is_im2col)
    each_pixel(m, c, row);
  else
    each_row_of_tile(m, c, row);
}

uint32_t box_bytes(const TensorMap& m) {
  if (m.is_im2col) return uint32_t(m.channels) * m.pixels * m.element_bytes;
  uint32_t count = m.element_bytes;
  for (int i = 0; i < m.rank; i++) count *= (m.box[i] + m.steps[i] - 1u) / m.steps[i];
  return count;
}

TensorMap map_of(Thread* t, const TensorCopy& c) {
  TensorMap m;
  if (c.map % 64) misaligned(t, c.map, 64);
  if (c.map - kDeviceArena < kDeviceArenaBytes) global_at(t, c.map, 64);
  memcpy(&m, reinterpret_cast<void*>(c.map), sizeof m);
  if (m.magic != kTensorMapMagic)
    fail(t, kIllegalInstruction, "no tensor map at 0x%llx", (unsigned long long)c.map);
  if (m.rank != c.rank || bool(m.is_im2col) != c.is_im2col)
    fail(t, kIllegalInstruction, "a %s copy of rank %d by a map of rank %d", c.is_im2col ? "im2col" : "tiled",
         c.rank, m.rank);
  if (c.shared % 128) misaligned(t, c.shared, 128);
  return m;
}

void load_element(Thread* t, uint32_t to, uint64_t from, const TensorMap& m) {
  void* at = shared_at(t, to, m.element_bytes);
  if (from)
    memcpy(at, global_at(t, from, m.element_bytes), m.element_bytes);
  else
    memset(at, m.fills_nan ? 0xFF : 0, m.element_bytes);
}

template <class Bits, class Widen, class Round>
void combine(void* to, const void* from, StoreOp op, Widen widen, Round round) {
  auto a = widen(load<Bits>(to)), b = widen(load<Bits>(from));
  store<Bits>(to, Bits(round(op == kStoreAdd ? a + b : (op == kStoreMin) == (a < b) ? a : b)));
}

void store_element(Thread* t, uint64_t to, uint32_t from, const TensorMap& m, StoreOp op) {
  enum { kU16 = 1, kU32, kS32Type, kU64, kS64, kHalf, kFloat, kDouble, kBrain };
  void* at = global_at(t, to, m.element_bytes);
  const void* data = shared_at(t, from, m.element_bytes);
  if (op == kStore) {
    memcpy(at, data, m.element_bytes);
    return;
  }
  auto same = [](auto v) { return v; };
  switch (m.type) {
    case kFloat:
      combine<float>(at, data, op, same, same);
      break;
    case kHalf:
      combine<uint16_t>(
          at, data, op, [](uint16_t v) { return F16::widen(v); }, [](float v) { return F16::round(v); });
      break;
    case kBrain:
      combine<uint16_t>(
          at, data, op, [](uint16_t v) { return BF16::widen(v); }, [](float v) { return BF16::round(v); });
      break;
    case kU32:
      combine<uint32_t>(at, data, op, same, same);
      break;
    case kS32Type:
      combine<int32_t>(at, data, op, same, same);
      break;
    default:
      fail(t, kIllegalInstruction, "reduction of tensor map type %d", m.type);
  }
}

}  // namespace

void tensor_load(Thread* t, const TensorCopy& copy, uint32_t barrier, uint32_t ranks) {
  TensorMap m = map_of(t, copy);
  mbarrier_check(t, barrier);
  uint32_t all = ranks ? ranks : 1;
  defer([=] {
    for (uint32_t left = all; left; left &= left - 1) {
      uint32_t rank = uint32_t(__builtin_ctz(left));
      uint32_t shared = ranks ? uint32_t(map_rank(t, copy.shared, rank)) : copy.shared;
      each_element(m, copy, shared, [&](uint32_t to, uint64_t from) { load_element(t, to, from, m); });
      mbarrier_complete(t, ranks ? uint32_t(map_rank(t, barrier, rank)) : barrier, box_bytes(m));
    }
  });
}

void tensor_store(Thread* t, const TensorCopy& copy, StoreOp op) {
  TensorMap m = map_of(t, copy);
  add_bulk_store(t, [=] {
    each_element(m, copy, copy.shared, [&](uint32_t from, uint64_t to) {
      if (to) store_element(t, to, from, m, op);
    });
  });
}

static void check_bulk(Thread* t, uint64_t global, uint32_t shared, uint32_t bytes) {
  if (bytes % 16) fail(t, kIllegalInstruction, "bulk copy of %u bytes", bytes);
  global_at(t, global, 16);
  shared_at(t, shared, 16);
}

void bulk_load(Thread* t, uint32_t to, uint64_t from, uint32_t bytes, uint32_t barrier, uint32_t ranks) {
  check_bulk(t, from, to, bytes);
  defer([=] {
    for (uint32_t left = ranks ? ranks : 1; left; left &= left - 1) {
      uint32_t rank = uint32_t(__builtin_ctz(left));
      uint32_t place = ranks ? uint32_t(map_rank(t, to, rank)) : to;
      shared_at(t, place + bytes - 16, 16);
      memcpy(shared_at(t, place, 16), reinterpret_cast<void*>(from), bytes);
      mbarrier_complete(t, ranks ? uint32_t(map_rank(t, barrier, rank)) : barrier, bytes);
    }
  });
}

void bulk_store(Thread* t, uint64_t to, uint32_t from, uint32_t bytes) {
  check_bulk(t, to, from, bytes);
  add_bulk_store(t, [=] { memcpy(reinterpret_cast<void*>(to), shared_at(t, from, 16), bytes); });
}

}  // namespace emu
