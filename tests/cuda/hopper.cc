// See hopper.h.
#include "hopper.h"

#include <functional>

#include "arith.h"
#include "fibers.h"
#include "tensormap.h"

namespace emu {
namespace {

// ---- mbarrier: our own layout of the opaque 64 bits

struct Barrier64 {
  uint32_t expected, pending;  // arrivals, at most 2^20 - 1
  int32_t bytes;               // transactions not done yet
  bool phase;
};

constexpr uint64_t kNothing = ~uint64_t(0);  // as shared memory begins: no barrier yet
constexpr uint32_t kCountMask = (1u << 20) - 1;
constexpr int64_t kBytesBias = 1 << 21;

uint64_t pack(const Barrier64& b) {
  return uint64_t(b.expected) | uint64_t(b.pending) << 20 | uint64_t(b.bytes + kBytesBias) << 40 | uint64_t(b.phase) << 63;
}

Barrier64 unpack(uint64_t raw) {
  return {uint32_t(raw) & kCountMask, uint32_t(raw >> 20) & kCountMask,
          int32_t(int64_t(raw >> 40 & ((1 << 22) - 1)) - kBytesBias), bool(raw >> 63)};
}

Barrier64 get(Thread* t, uint32_t address) {
  uint64_t raw = load<uint64_t>(shared_at(t, address, 8));
  if (raw == kNothing) fail(t, kLaunchFailure, "the mbarrier at shared address 0x%x was not initialized", address);
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

// ---- tensor copies

// Swizzling exchanges 16-byte pieces: address bits 4.. are XORed with bits 7.. (5.5.7; cute::Swizzle<B, 4, 3>).
uint32_t swizzled(uint32_t address, int bits) { return address ^ (address >> 3 & ((1u << bits) - 1) << 4); }

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
  if (m.is_im2col) each_pixel(m, c, row);
  else each_row_of_tile(m, c, row);
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
  if (m.magic != kTensorMapMagic) fail(t, kIllegalInstruction, "no tensor map at 0x%llx", (unsigned long long)c.map);
  if (m.rank != c.rank || bool(m.is_im2col) != c.is_im2col)
    fail(t, kIllegalInstruction, "a %s copy of rank %d by a map of rank %d", c.is_im2col ? "im2col" : "tiled", c.rank, m.rank);
  if (c.shared % 128) misaligned(t, c.shared, 128);
  return m;
}

void load_element(Thread* t, uint32_t to, uint64_t from, const TensorMap& m) {
  void* at = shared_at(t, to, m.element_bytes);
  if (from) memcpy(at, global_at(t, from, m.element_bytes), m.element_bytes);
  else memset(at, m.fills_nan ? 0xFF : 0, m.element_bytes);
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
    case kFloat: combine<float>(at, data, op, same, same); break;
    case kHalf: combine<uint16_t>(at, data, op, [](uint16_t v) { return F16::widen(v); }, [](float v) { return F16::round(v); }); break;
    case kBrain: combine<uint16_t>(at, data, op, [](uint16_t v) { return BF16::widen(v); }, [](float v) { return BF16::round(v); }); break;
    case kU32: combine<uint32_t>(at, data, op, same, same); break;
    case kS32Type: combine<int32_t>(at, data, op, same, same); break;
    default: fail(t, kIllegalInstruction, "reduction of tensor map type %d", m.type);
  }
}

}  // namespace

uint64_t map_rank(Thread* t, uint64_t address, uint32_t rank) {
  const Cta* cta = t->cta;
  if (rank >= cta->cluster->ctas.size()) fail(t, kIllegalAddress, "block %u of a cluster of %zu", rank, cta->cluster->ctas.size());
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
  if (count > b.pending) fail(t, kLaunchFailure, "%u arrivals at an mbarrier that waits for %u", count, b.pending);
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

void tensor_load(Thread* t, const TensorCopy& copy, uint32_t barrier, uint32_t ranks) {
  TensorMap m = map_of(t, copy);
  get(t, barrier);
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

void copies_arrive(Thread* t, uint32_t address, bool counts) {
  async_wait_all(t);
  if (counts) {  // without .noinc the pending count first grows by one
    Barrier64 b = get(t, address);
    b.pending++;
    store(shared_at(t, address, 8), pack(b));
  }
  mbarrier_arrive(t, address, 1, false);
}

// ---- wgmma

namespace {

struct Descriptor {
  uint32_t start, leading, stride;
  int swizzle;  // bits
};

Descriptor decode(Thread* t, uint64_t raw) {
  constexpr int kBits[] = {0, 3, 2, 1};  // layout type: none, 128, 64, 32 bytes
  if (raw >> 49 & 7) fail(t, kIllegalInstruction, "matrix descriptor with a base offset");
  uint32_t own = (t->cta->slot << kSharedStrideBits);
  return {own | (uint32_t(raw & 0x3FFF) << 4), uint32_t(raw >> 16 & 0x3FFF) << 4, uint32_t(raw >> 32 & 0x3FFF) << 4,
          kBits[raw >> 62]};
}

// Shared address of element (`mn`, `k`) of an operand. The canonical layouts are those of
// cute/atom/mma_traits_sm90_gmma.hpp; PTX ISA 9.0, 9.7.15.5.1 draws them.
uint32_t place(const Descriptor& d, int mn, int k, int bytes, bool is_mn_major) {
  uint32_t row_bytes = 16u << d.swizzle, offset;
  if (is_mn_major) {
    uint32_t per = row_bytes / uint32_t(bytes), block = uint32_t(mn) / per, in = uint32_t(mn) % per * uint32_t(bytes);
    uint32_t of_block = d.swizzle ? d.leading : d.stride, of_k = d.swizzle ? d.stride : d.leading;
    offset = block * of_block + in + uint32_t(k % 8) * row_bytes + uint32_t(k / 8) * of_k;
  } else {
    uint32_t at = uint32_t(k * bytes);
    offset = uint32_t(mn % 8) * row_bytes + uint32_t(mn / 8) * d.stride + at / 16 * (d.swizzle ? 16 : d.leading) + at % 16;
  }
  return swizzled(d.start + offset, d.swizzle);
}

float widen(Element type, const void* at) {
  switch (type) {
    case kF16: return F16::widen(load<uint16_t>(at));
    case kBF16: return BF16::widen(load<uint16_t>(at));
    case kTF32: return bits<float>(load<uint32_t>(at) & ~0x1FFFu);
    case kS8: return float(load<int8_t>(at));
    case kU8: return float(load<uint8_t>(at));
    case kE4M3: return E4M3::widen(load<uint8_t>(at));
    default: return E5M2::widen(load<uint8_t>(at));
  }
}

int bytes_of(Element e) { return e == kTF32 ? 4 : e == kF16 || e == kBF16 ? 2 : 1; }

void read_operand(Thread* t, uint64_t raw, Element type, int first, int count, bool is_mn_major, bool negates, float* out) {
  Descriptor d = decode(t, raw);
  int bytes = bytes_of(type), k = 32 / bytes;
  for (int r = 0; r < count; r++)
    for (int i = 0; i < k; i++) {
      float v = widen(type, shared_at(t, place(d, first + r, i, bytes, is_mn_major), uint32_t(bytes)));
      out[r * k + i] = negates ? -v : v;
    }
}

void read_fragment(Warp* w, Element type, bool negates, float* out) {
  int bytes = bytes_of(type), k = 32 / bytes, per = 4 / bytes;
  for (int l = 0; l < 32; l++) {
    const uint8_t* held = reinterpret_cast<const uint8_t*>(static_cast<Wgmma*>(slot_of(w, uint32_t(l)))->a);
    for (int i = 0; i < 4 * per; i++) {
      int reg = i / per, row = l / 4 + 8 * (reg % 2), column = (l % 4) * per + i % per + 4 * per * (reg / 2);
      float v = widen(type, held + i * bytes);
      out[row * k + column] = negates ? -v : v;
    }
  }
}

void act_wgmma(Warp* w, uint32_t) {
  Thread* t = lane_of(w, 0);
  const Wgmma first = *static_cast<Wgmma*>(t->slot);
  const int k = 32 / bytes_of(first.b_type), n = first.n;
  static float a[16 * 32], b[256 * 32], bt[32 * 256];
  static double c[16 * 256];
  if (first.a_in_registers) read_fragment(w, first.a_type, first.negates_a, a);
  else read_operand(t, first.a_descriptor, first.a_type, int(t->warp_index % 4) * 16, 16, first.transposes_a, first.negates_a, a);
  read_operand(t, first.b_descriptor, first.b_type, 0, n, first.transposes_b, first.negates_b, b);
  for (int j = 0; j < n; j++)
    for (int i = 0; i < k; i++) bt[i * n + j] = b[j * k + i];
  for (int r = 0; r < 16; r++) {
    double* row = c + r * n;
    for (int j = 0; j < n; j++) row[j] = 0;
    for (int i = 0; i < k; i++) {
      double x = a[r * k + i];
      const float* y = bt + i * n;
      for (int j = 0; j < n; j++) row[j] += x * double(y[j]);
    }
  }
  for (int l = 0; l < 32; l++) {
    Wgmma& g = *static_cast<Wgmma*>(slot_of(w, uint32_t(l)));
    for (int i = 0; i < n / 2; i++) {
      double sum = c[(l / 4 + 8 * (i / 2 % 2)) * n + 8 * (i / 4) + 2 * (l % 4) + i % 2];
      if (first.d_type == kF32) {
        g.d[i] = bits<uint32_t>(float(sum + (g.accumulates ? double(bits<float>(g.d[i])) : 0)));
      } else if (first.d_type == kF16) {
        uint16_t* h = reinterpret_cast<uint16_t*>(g.d) + i;
        *h = F16::round(sum + (g.accumulates ? double(F16::widen(*h)) : 0));
      } else {
        int64_t total = int64_t(sum) + (g.accumulates ? int64_t(int32_t(g.d[i])) : 0);
        g.d[i] = uint32_t(first.saturates ? saturate<int32_t>(total) : int32_t(total));
      }
    }
  }
}

}  // namespace

void wgmma(Thread* t, const Wgmma& w) {
  if (t->warp->exited || t->warp->size != 32) fail(t, kLaunchFailure, "wgmma needs whole warps");
  Wgmma own = w;
  meet(t, ~0u, &act_wgmma, &own);
}

}  // namespace emu
