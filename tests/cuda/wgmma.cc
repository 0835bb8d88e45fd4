// Matrix products of warpgroups. PTX ISA 9.0, 9.7.15.
#include "arith.h"
#include "fibers.h"
#include "hopper.h"

namespace emu {
namespace {

struct Descriptor {
  uint32_t start, leading, stride;
  int swizzle;  // bits
};

Descriptor decode(Thread* t, uint64_t raw) {
  constexpr int kBits[] = {0, 3, 2, 1};  // layout type: none, 128, 64, 32 bytes
  if (raw >> 49 & 7) fail(t, kIllegalInstruction, "matrix descriptor with a base offset");
  uint32_t own = (t->cta->slot << kSharedStrideBits);
  return {own | (uint32_t(raw & 0x3FFF) << 4), uint32_t(raw >> 16 & 0x3FFF) << 4,
          uint32_t(raw >> 32 & 0x3FFF) << 4, kBits[raw >> 62]};
}

// Shared address of element (`mn`, `k`) of an operand. The canonical layouts are those of
// cute/atom/mma_traits_sm90_gmma.hpp; PTX ISA 9.0, 9.7.15.5.1 draws them.
uint32_t place(const Descriptor& d, int mn, int k, int bytes, bool is_mn_major) {
  uint32_t row_bytes = 16u << d.swizzle, offset;
  if (is_mn_major) {
    uint32_t per = row_bytes / uint32_t(bytes), block = uint32_t(mn) / per,
             in = uint32_t(mn) % per * uint32_t(bytes);
    uint32_t of_block = d.swizzle ? d.leading : d.stride, of_k = d.swizzle ? d.stride : d.leading;
    offset = block * of_block + in + uint32_t(k % 8) * row_bytes + uint32_t(k / 8) * of_k;
  } else {
    uint32_t at = uint32_t(k * bytes);
    offset = uint32_t(mn % 8) * row_bytes + uint32_t(mn / 8) * d.stride +
             at / 16 * (d.swizzle ? 16 : d.leading) + at % 16;
  }
  return swizzled(d.start + offset, d.swizzle);
}

float widen(Element type, const void* at) {
  switch (type) {
    case kF16:
      return F16::widen(load<uint16_t>(at));
    case kBF16:
      return BF16::widen(load<uint16_t>(at));
    case kTF32:
      return bits<float>(load<uint32_t>(at) & ~0x1FFFu);
    case kS8:
      return float(load<int8_t>(at));
    case kU8:
      return float(load<uint8_t>(at));
    case kE4M3:
      return E4M3::widen(load<uint8_t>(at));
    default:
      return E5M2::widen(load<uint8_t>(at));
  }
}

int bytes_of(Element e) { return e == kTF32 ? 4 : e == kF16 || e == kBF16 ? 2 : 1; }

void read_operand(Thread* t, uint64_t raw, Element type, int first, int count, bool is_mn_major, bool negates,
                  float* out) {
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
  if (first.a_in_registers)
    read_fragment(w, first.a_type, first.negates_a, a);
  else
    read_operand(t, first.a_descriptor, first.a_type, int(t->warp_index % 4) * 16, 16, first.transposes_a,
                 first.negates_a, a);
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
