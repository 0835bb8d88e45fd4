// Matrix instructions of a warp. PTX ISA 9.0, 9.7.14.5.
#include "arith.h"
#include "fibers.h"

namespace emu {
namespace {

struct Matrices {
  uint32_t address;
  int count;
  bool is_transposed, is_store;
  uint32_t* data;
};

// 9.7.14.5.15 (ldmatrix), .16 (stmatrix): row r of matrix i is at the address lane 8 i + r gives; lane l
// holds elements 2 (l % 4) and the next of row l / 4, of the transposed matrix with .trans.
void act_matrices(Warp* w, uint32_t) {
  const Matrices first = *static_cast<Matrices*>(slot_of(w, 0));
  for (int i = 0; i < first.count; i++) {
    uint16_t* rows[8];
    for (int r = 0; r < 8; r++) {
      Thread* owner = lane_of(w, uint32_t(8 * i + r));
      rows[r] = static_cast<uint16_t*>(shared_at(owner, static_cast<Matrices*>(owner->slot)->address, 16));
    }
    for (int l = 0; l < 32; l++) {
      uint16_t* held = reinterpret_cast<uint16_t*>(static_cast<Matrices*>(slot_of(w, uint32_t(l)))->data + i);
      for (int e = 0; e < 2; e++) {
        int row = l / 4, column = 2 * (l % 4) + e;
        uint16_t* at = first.is_transposed ? &rows[column][row] : &rows[row][column];
        if (first.is_store)
          *at = held[e];
        else
          held[e] = *at;
      }
    }
  }
}

struct Move {
  uint32_t value, result;
};

void act_move(Warp* w, uint32_t) {
  for (uint32_t l = 0; l < 32; l++) {
    Move& m = *static_cast<Move*>(slot_of(w, l));
    m.result = 0;
    for (uint32_t e = 0; e < 2; e++) {
      uint32_t row = 2 * (l % 4) + e, column = l / 4;  // of the source
      uint32_t from = static_cast<Move*>(slot_of(w, row * 4 + column / 2))->value;
      m.result |= (from >> 16 * (column % 2) & 0xFFFF) << 16 * e;
    }
  }
}

struct Fragments {
  int m, n, k;
  Element a_type, b_type, c_type, d_type;
  bool saturates;
  const uint32_t *a, *b, *c;
  uint32_t* d;
};

int bits_of(Element e) {
  switch (e) {
    case kF16:
    case kBF16:
      return 16;
    case kTF32:
    case kF32:
    case kS32:
      return 32;
    case kF64:
      return 64;
    case kS4:
    case kU4:
      return 4;
    case kB1:
      return 1;
    default:
      return 8;
  }
}

// Element `index` of a fragment's registers.
double element(const uint32_t* registers, Element type, int index) {
  int size = bits_of(type);
  if (type == kF64)
    return bits<double>(uint64_t(registers[2 * index]) | uint64_t(registers[2 * index + 1]) << 32);
  uint32_t raw = registers[index * size / 32] >> (index * size % 32);
  switch (type) {
    case kF16:
      return F16::widen(uint16_t(raw));
    case kBF16:
      return BF16::widen(uint16_t(raw));
    case kTF32:
      return bits<float>(raw & ~0x1FFFu);  // the tensor core ignores the low bits
    case kF32:
      return bits<float>(raw);
    case kS32:
      return int32_t(raw);
    case kS8:
      return int8_t(raw);
    case kU8:
      return uint8_t(raw);
    case kS4:
      return int32_t(raw << 28) >> 28;
    case kU4:
      return raw & 15;
    case kB1:
      return raw & 1;
    case kE4M3:
      return E4M3::widen(uint8_t(raw));
    default:
      return E5M2::widen(uint8_t(raw));
  }
}

void put(uint32_t* registers, Element type, int index, double value, bool saturates) {
  uint16_t* halves = reinterpret_cast<uint16_t*>(registers);
  switch (type) {
    case kF16:
      halves[index] = F16::round(value);
      break;
    case kF32:
      registers[index] = bits<uint32_t>(float(value));
      break;
    case kF64: {
      uint64_t raw = bits<uint64_t>(value);
      registers[2 * index] = uint32_t(raw);
      registers[2 * index + 1] = uint32_t(raw >> 32);
      break;
    }
    default:
      if (saturates)
        registers[index] = uint32_t(to_integer<int32_t>(value));
      else
        registers[index] = uint32_t(int64_t(value));
  }
}

// The layouts of all shapes are the same in units of 32-bit registers (9.7.14.5.1 - .13): with e elements to
// a register (f64: one element to two), a register of A is e neighbours of a row, one of B e neighbours of a
// column. A's registers go down by 8 rows first, then right by 4 e columns; B's go down by 4 e rows.
struct Place {
  int row, column;
};

Place place_a(int lane, int index, int rows, int per) {
  int reg = index / per, e = index % per, groups = rows / 8;
  return {lane / 4 + 8 * (reg % groups), (lane % 4) * per + e + 4 * per * (reg / groups)};
}

Place place_b(int lane, int index, int per) {
  int reg = index / per, e = index % per;
  return {(lane % 4) * per + e + 4 * per * reg, lane / 4};
}

Place place_c(int lane, int index) { return {lane / 4 + 8 * (index / 2), (lane % 4) * 2 + index % 2}; }

void act_mma(Warp* w, uint32_t) {
  const Fragments first = *static_cast<Fragments*>(slot_of(w, 0));
  const int m = first.m, n = first.n, k = first.k;
  const int per_a = first.a_type == kF64 ? 1 : 32 / bits_of(first.a_type);
  static double a[16][256], b[256][8];
  double c[16][8];
  for (int l = 0; l < 32; l++) {
    const Fragments& f = *static_cast<Fragments*>(slot_of(w, uint32_t(l)));
    for (int i = 0; i < m * k / 32; i++) {
      Place p = place_a(l, i, m, per_a);
      a[p.row][p.column] = element(f.a, f.a_type, i);
    }
    for (int i = 0; i < k * n / 32; i++) {
      Place p = place_b(l, i, per_a);
      b[p.row][p.column] = element(f.b, f.b_type, i);
    }
    for (int i = 0; i < m * n / 32; i++) {
      Place p = place_c(l, i);
      c[p.row][p.column] = element(f.c, f.c_type, i);
    }
  }
  for (int r = 0; r < m; r++)
    for (int i = 0; i < k; i++)
      for (int j = 0; j < 8; j++) c[r][j] += a[r][i] * b[i][j];
  for (int l = 0; l < 32; l++) {
    const Fragments& f = *static_cast<Fragments*>(slot_of(w, uint32_t(l)));
    for (int i = 0; i < m * n / 32; i++) {
      Place p = place_c(l, i);
      put(f.d, f.d_type, i, c[p.row][p.column], f.saturates);
    }
  }
}

void whole_warp(Thread* t, Act* act, void* slot) {
  if (t->warp->exited || t->warp->size != 32)
    fail(t, kLaunchFailure, "a matrix instruction needs all 32 lanes");
  meet(t, ~0u, act, slot);
}

}  // namespace

void ldmatrix(Thread* t, uint32_t address, int count, bool transposed, uint32_t* out) {
  Matrices m = {address, count, transposed, false, out};
  whole_warp(t, &act_matrices, &m);
}

void stmatrix(Thread* t, uint32_t address, int count, bool transposed, const uint32_t* in) {
  Matrices m = {address, count, transposed, true, const_cast<uint32_t*>(in)};
  whole_warp(t, &act_matrices, &m);
}

uint32_t movmatrix(Thread* t, uint32_t value) {
  Move m = {value, 0};
  whole_warp(t, &act_move, &m);
  return m.result;
}

void mma(Thread* t, int m, int n, int k, Element a_type, Element b_type, Element c_type, Element d_type,
         bool saturate, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  if (n != 8 || m % 8 || m > 16 || k > 256 || bits_of(a_type) != bits_of(b_type))
    fail(t, kIllegalInstruction, "mma of shape m%dn%dk%d", m, n, k);
  if (a_type == kB1) fail(t, kIllegalInstruction, "mma of single bits");
  Fragments f = {m, n, k, a_type, b_type, c_type, d_type, saturate, a, b, c, d};
  whole_warp(t, &act_mma, &f);
}

}  // namespace emu
