// Arithmetic of PTX on host types. Half types travel as the integers that hold them. PTX ISA 9.0, 9.7.1
// - 9.7.10. To be compiled with -ffp-contract=off.
#pragma once
#include <math.h>

#include "machine.h"

namespace emu {

template <class To, class From>
inline To bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "bits");
  return __builtin_bit_cast(To, value);
}

typedef unsigned __int128 u128;
typedef __int128 s128;

struct F16 {
  typedef uint16_t Bits;
  static float widen(uint16_t v) { return float(bits<_Float16>(v)); }
  static uint16_t round(double v) { return bits<uint16_t>(_Float16(v)); }
  static uint16_t round(float v) { return bits<uint16_t>(_Float16(v)); }
  static constexpr uint16_t kNan = 0x7FFF, kMax = 0x7BFF, kOne = 0x3C00;
};

struct BF16 {
  typedef uint16_t Bits;
  static float widen(uint16_t v) { return bits<float>(uint32_t(v) << 16); }
  static uint16_t round(float v) {
    if (v != v) return kNan;
    uint32_t u = bits<uint32_t>(v);
    return uint16_t((u + 0x7FFF + (u >> 16 & 1)) >> 16);
  }
  static uint16_t round(double v) {  // to odd in fp32 first, so that rounding twice is harmless
    float f = float(v);
    if (double(f) != v && f == f) {
      uint32_t u = bits<uint32_t>(f);
      bool away = fabs(double(f)) > fabs(v);
      if (away) u--;
      f = bits<float>(u | 1);
    }
    return round(f);
  }
  static constexpr uint16_t kNan = 0x7FFF, kMax = 0x7F7F, kOne = 0x3F80;
};

inline float tf32_nearest(float v) {  // cvt.rn.tf32.f32: nearest, ties to even
  if (!isfinite(v)) return v;
  uint32_t u = bits<uint32_t>(v);
  return bits<float>((u + 0xFFF + (u >> 13 & 1)) & ~0x1FFFu);
}
inline float tf32_round(float v) {  // cvt.rna.tf32.f32: nearest, ties away from zero
  if (!isfinite(v)) return v;
  return bits<float>((bits<uint32_t>(v) + 0x1000) & ~0x1FFFu);
}

// A format with `E` exponent and `M` mantissa bits, 8 bits wide; e4m3 has no infinity (OCP OFP8).
template <int E, int M, bool kHasInf>
struct Small {
  static float widen(uint8_t v) {
    int exponent = v >> M & ((1 << E) - 1), mantissa = v & ((1 << M) - 1), bias = (1 << (E - 1)) - 1;
    float sign = v & 0x80 ? -1.f : 1.f;
    if (kHasInf && exponent == (1 << E) - 1) return mantissa ? NAN : sign * INFINITY;
    if (!kHasInf && (v & 0x7F) == 0x7F) return NAN;
    if (!exponent) return sign * ldexpf(float(mantissa), 1 - bias - M);
    return sign * ldexpf(float(mantissa + (1 << M)), exponent - bias - M);
  }
  static uint8_t round(float v) {  // cvt.rn.satfinite
    uint8_t sign = signbit(v) ? 0x80 : 0;
    if (v != v) return 0x7F;
    constexpr uint8_t kMax = kHasInf ? 0x7B : 0x7E;
    float a = fabsf(v);
    if (a >= widen(kMax)) return sign | kMax;
    uint8_t low = 0, high = kMax;
    while (high - low > 1) {
      uint8_t mid = uint8_t((low + high) / 2);
      (widen(mid) <= a ? low : high) = mid;
    }
    float under = a - widen(low), over = widen(high) - a;
    return sign | (under < over || (under == over && !(low & 1)) ? low : high);
  }
};
typedef Small<4, 3, false> E4M3;
typedef Small<5, 2, true> E5M2;

inline float ftz(float v) { return fabsf(v) < 0x1p-126f ? copysignf(0.f, v) : v; }
inline float sat(float v) { return v > 0.f ? (v < 1.f ? v : 1.f) : 0.f; }
inline double sat(double v) { return v > 0. ? (v < 1. ? v : 1.) : 0.; }

// min and max: a NaN loses against a number, and -0 < +0.
template <class T>
inline T fmin_ptx(T a, T b) {
  if (a != a) return b != b ? T(NAN) : b;
  if (b != b) return a;
  if (a == b) return signbit(a) ? a : b;
  return a < b ? a : b;
}
template <class T>
inline T fmax_ptx(T a, T b) {
  if (a != a) return b != b ? T(NAN) : b;
  if (b != b) return a;
  if (a == b) return signbit(a) ? b : a;
  return a > b ? a : b;
}
template <class T>
inline T fmin_nan(T a, T b) {
  return a != a || b != b ? (T)NAN : fmin_ptx(a, b);
}
template <class T>
inline T fmax_nan(T a, T b) {
  return a != a || b != b ? (T)NAN : fmax_ptx(a, b);
}

// Directed rounding: the nearest result, moved by one place where it lies on the wrong side of the exact one.
enum Round { kNearest, kZero, kDown_, kUp_ };
inline float directed(float nearest, double error, Round how) {  // error = exact - nearest
  if (how == kNearest || error == 0 || nearest != nearest) return nearest;
  if (isinf(nearest)) {  // of a finite value only if the rounding points away from zero
    bool away = how == kUp_ ? nearest > 0 : how == kDown_ && nearest < 0;
    return isinf(error) && !away ? copysignf(__FLT_MAX__, nearest) : nearest;
  }
  bool positive = nearest > 0 || (nearest == 0 && error > 0);
  bool up = how == kUp_ || (how == kZero && !positive);
  if (up && error > 0) return nextafterf(nearest, INFINITY);
  if (!up && error < 0) return nextafterf(nearest, -INFINITY);
  return nearest;
}
inline float add_rounded(float a, float b, Round how) {
  float n = a + b;
  double e = (double(a) - double(n)) + double(b);
  return directed(n, e, how);
}
inline float mul_rounded(float a, float b, Round how) {
  float n = a * b;
  return directed(n, double(a) * double(b) - double(n), how);
}
inline float fma_rounded(float a, float b, float c, Round how) {
  float n = fmaf(a, b, c);
  long double e = (long double)a * b - (long double)n + c;
  return directed(n, double(e), how);
}
inline float div_rounded(float a, float b, Round how) {
  float n = a / b;
  return directed(n, (double(a) - double(n) * double(b)) / double(b), how);
}
inline float sqrt_rounded(float a, Round how) {
  float n = sqrtf(a);
  return directed(n, double(a) - double(n) * double(n), how);
}
inline float narrow_rounded(double v, Round how) {
  float n = float(v);
  return directed(n, v - double(n), how);
}
template <class H>
inline uint16_t round_to(float v, Round how) {
  uint16_t n = H::round(v);
  float w = H::widen(n);
  if (how == kNearest || w == v || v != v) return n;
  bool want_up = how == kUp_ || (how == kZero && v < 0);
  if (!isfinite(w)) return how == kZero || want_up != (v > 0) ? uint16_t((n & 0x8000) | H::kMax) : n;
  if (want_up == (w > v)) return n;
  bool grow = want_up == (v > 0);  // magnitude
  if ((n & 0x7FFF) == 0) return uint16_t((v < 0 ? 0x8000 : 0) | (grow ? 1 : 0));
  return uint16_t(grow ? n + 1 : n - 1);
}
template <class H>
inline uint16_t clamp_finite(uint16_t v) {  // .satfinite
  float w = H::widen(v);
  return isinf(w) ? uint16_t((v & 0x8000) | H::kMax) : v;
}
template <class H>
inline uint16_t relu(uint16_t v) {  // .relu: negative becomes 0, NaN becomes the canonical one
  float w = H::widen(v);
  return w != w ? H::kNan : v & 0x8000 ? 0 : v;
}

// .approx functions are as exact as the host's, but for tanh, whose 2^-11 relative error is visible on a GPU.
inline float tanh_approx(float v) { return bits<float>((bits<uint32_t>(tanhf(v)) + 0x800) & ~0xFFFu); }
inline float rsqrt_(float v) { return 1.f / sqrtf(v); }
inline double rsqrt_(double v) { return 1. / sqrt(v); }

template <class H, class F>
inline uint16_t half1(uint16_t a, F f) {
  return H::round(f(H::widen(a)));
}
template <class H, class F>
inline uint16_t half2(uint16_t a, uint16_t b, F f) {
  return H::round(f(H::widen(a), H::widen(b)));
}
template <class H>
inline uint16_t half_fma(uint16_t a, uint16_t b, uint16_t c) {
  return H::round(double(H::widen(a)) * double(H::widen(b)) + double(H::widen(c)));
}
template <class F>
inline uint32_t pair(uint32_t a, uint32_t b, uint32_t c, F f) {
  return uint32_t(f(uint16_t(a), uint16_t(b), uint16_t(c))) |
         uint32_t(f(uint16_t(a >> 16), uint16_t(b >> 16), uint16_t(c >> 16))) << 16;
}
template <class H>
inline uint16_t half_sat(uint16_t v) {
  return H::round(sat(H::widen(v)));
}

template <class T>
inline bool ordered(T a, T b) {
  return a == a && b == b;
}

// Conversions to integers: NaN is 0, the rest is clamped (9.7.9.22, cvt).
template <class To, class From>
inline To to_integer(From v) {
  constexpr bool kSigned = To(-1) < To(0);
  constexpr To kMin = kSigned ? To(uint64_t(1) << (sizeof(To) * 8 - 1)) : To(0);
  constexpr double kLimit = 2. * double(uint64_t(1) << (sizeof(To) * 8 - 1 - kSigned));
  if (v != v) return sizeof(To) == 8 ? To(uint64_t(1) << 63) : To(0);
  if (double(v) >= kLimit) return To(~kMin);
  if (double(v) <= double(kMin)) return kMin;
  return To(v);
}
template <class To, class From>
inline To saturate(From v) {  // cvt.sat between integers; From is the wider or differs in sign
  constexpr s128 kMin = To(-1) < To(0) ? -(s128(1) << (sizeof(To) * 8 - 1)) : 0;
  constexpr s128 kMax =
      To(-1) < To(0) ? (s128(1) << (sizeof(To) * 8 - 1)) - 1 : (s128(1) << (sizeof(To) * 8)) - 1;
  s128 w = v;
  return To(w < kMin ? kMin : w > kMax ? kMax : w);
}

template <class T>
inline T shl(T a, uint32_t b) {
  return b >= sizeof(T) * 8 ? T(0) : T(a << b);
}
template <class T>
inline T shr(T a, uint32_t b) {
  constexpr uint32_t w = sizeof(T) * 8;
  return T(a >> (b >= w ? (T(-1) < T(0) ? w - 1 : 0) : b)) * T(b < w || T(-1) < T(0));
}
template <class T>
inline T divide(T a, T b) {
  if (b == 0) return T(-1);
  if (T(-1) < T(0) && b == T(-1)) return T(0 - uint64_t(a));
  return T(a / b);
}
template <class T>
inline T remainder_(T a, T b) {
  if (b == 0) return a;
  if (T(-1) < T(0) && b == T(-1)) return 0;
  return T(a % b);
}
inline uint32_t funnel(uint32_t low, uint32_t high, uint32_t shift, bool left, bool wrap) {
  uint32_t n = wrap ? shift & 31 : shift > 32 ? 32 : shift;
  uint64_t both = uint64_t(high) << 32 | low;
  return left ? uint32_t(n == 32 ? low : (both << n) >> 32) : uint32_t(n == 32 ? high : both >> n);
}
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t r = 0;
  for (uint32_t i = 0; i < 8; i++)
    if (table >> i & 1) r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return r;
}
inline uint32_t prmt(uint32_t a, uint32_t b, uint32_t select) {
  uint64_t both = uint64_t(b) << 32 | a;
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) {
    uint32_t s = select >> 4 * i;
    uint32_t byte = uint8_t(both >> 8 * (s & 7));
    if (s & 8) byte = byte & 0x80 ? 0xFF : 0;
    r |= byte << 8 * i;
  }
  return r;
}
template <class T>
inline T bfe(T a, uint32_t b, uint32_t c) {
  typedef __typeof__(sizeof(T) == 8 ? uint64_t() : uint64_t()) U;
  uint32_t position = b & 0xFF, length = c & 0xFF, width = sizeof(T) * 8;
  bool is_signed = T(-1) < T(0);
  U value = sizeof(T) == 8 ? U(a) : U(uint32_t(a));
  uint32_t last = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
  bool sign = is_signed && length && (value >> last & 1);
  U mask = length >= 64 ? ~U(0) : (U(1) << length) - 1;
  U field = position >= width ? 0 : value >> position;
  U have = position >= width ? 0 : ((width - position) >= 64 ? ~U(0) : (U(1) << (width - position)) - 1);
  U result = field & mask & have;
  if (sign) result |= ~(mask & have);
  return T(result);
}
template <class T>
inline T bfi(T a, T b, uint32_t c, uint32_t d) {
  uint32_t position = c & 0xFF, length = d & 0xFF, width = sizeof(T) * 8;
  if (position >= width || !length) return b;
  uint64_t mask = (length >= 64 ? ~0ull : (1ull << length) - 1) << position;
  return T((uint64_t(b) & ~mask) | (uint64_t(a) << position & mask));
}
template <class T>
inline uint32_t bfind(T a, bool shift_amount) {
  typedef __typeof__(a) V;
  uint64_t v = V(-1) < V(0) ? uint64_t(a < 0 ? ~a : a) : uint64_t(a);
  if (V(-1) < V(0) && sizeof(T) == 4) v = uint32_t(v);
  if (!v) return ~0u;
  uint32_t bit = 63 - uint32_t(__builtin_clzll(v));
  return shift_amount ? uint32_t(sizeof(T) * 8 - 1) - bit : bit;
}
template <class T>
inline T reverse_bits(T a) {
  T r = 0;
  for (unsigned i = 0; i < sizeof(T) * 8; i++) r |= T((a >> i & 1)) << (sizeof(T) * 8 - 1 - i);
  return r;
}
inline uint32_t clz32(uint32_t a) { return a ? uint32_t(__builtin_clz(a)) : 32; }
inline uint32_t clz64(uint64_t a) { return a ? uint32_t(__builtin_clzll(a)) : 64; }
template <class A, class B>
inline int32_t dot(uint32_t a, uint32_t b, int32_t c, int count, int bytes, int shift) {
  for (int i = 0; i < count; i++) {
    int64_t x = bytes == 1 ? int64_t(A(a >> 8 * i)) : int64_t(A(a >> 16 * i));
    c += int32_t(x * int64_t(B(b >> 8 * (i + shift))));
  }
  return c;
}
template <class T>
inline uint32_t pack_saturated(int32_t a, int32_t b, uint32_t c, int width) {  // cvt.pack.sat (9.7.9.23)
  uint32_t mask = width >= 32 ? ~0u : (1u << width) - 1;
  uint32_t high = uint32_t(saturate<T>(a)) & mask, low = uint32_t(saturate<T>(b)) & mask;
  return (width * 2 >= 32 ? 0 : c << 2 * width) | high << width | low;
}

template <class T>
inline T load(const void* at) {
  T v;
  memcpy(&v, at, sizeof v);
  return v;
}
template <class T>
inline void store(void* at, T v) {
  memcpy(at, &v, sizeof v);
}

template <class T, class F>
inline T atomic(void* at, F f) {
  T old = load<T>(at);
  store<T>(at, T(f(old)));
  progress();
  return old;
}

}  // namespace emu
