// Elementary functions of `vf` (part of bolt/simd.h). Errors are the largest seen against float64 in the sweeps of
// tests/codegen/test_vmath.py; NaN in gives NaN out, and infinities go where float64 sends them.
#pragma once

// a * x + b, left to the compiler to contract where the target has FMA.
#define BOLT_MAD(a, x, b) ((a) * (x) + (b))

// Calls a scalar libm function on each lane: for what models use too rarely to deserve vector code.
#define BOLT_PER_LANE(name, scalar)                        \
  BOLT_INLINE vf name(vf x) {                              \
    for (int i = 0; i < VL; i++) x[i] = scalar(x[i]);      \
    return x;                                              \
  }
#define BOLT_PER_LANE2(name, scalar)                              \
  BOLT_INLINE vf name(vf x, vf y) {                               \
    for (int i = 0; i < VL; i++) x[i] = scalar(x[i], y[i]);       \
    return x;                                                     \
  }

// clang turns the loop over the lanes into one instruction; GCC does not.
#if defined(__clang__) || defined(__aarch64__)
BOLT_PER_LANE(vsqrt, __builtin_sqrtf)
#elif BOLT_VL == 16 && defined(__AVX512F__)
// Operand 4 of the builtins: keep the current rounding mode.
BOLT_INLINE vf vsqrt(vf x) { return __builtin_ia32_sqrtps512_mask(x, x, (uint16_t)-1, 4); }
#elif BOLT_VL == 8 && defined(__AVX__)
BOLT_INLINE vf vsqrt(vf x) { return __builtin_ia32_sqrtps256(x); }
#elif BOLT_VL == 4 && defined(__SSE__)
BOLT_INLINE vf vsqrt(vf x) { return __builtin_ia32_sqrtps(x); }
#else
BOLT_PER_LANE(vsqrt, __builtin_sqrtf)
#endif

#if __has_builtin(__builtin_elementwise_roundeven)
BOLT_INLINE vf vfloor(vf x) { return __builtin_elementwise_floor(x); }
BOLT_INLINE vf vceil(vf x) { return __builtin_elementwise_ceil(x); }
BOLT_INLINE vf vtrunc(vf x) { return __builtin_elementwise_trunc(x); }
BOLT_INLINE vf vround(vf x) { return __builtin_elementwise_roundeven(x); }
#elif BOLT_VL == 16 && defined(__AVX512F__) && !defined(__clang__)
BOLT_INLINE vf vround(vf x) { return __builtin_ia32_rndscaleps_mask(x, 0, x, (uint16_t)-1, 4); }
BOLT_INLINE vf vfloor(vf x) { return __builtin_ia32_rndscaleps_mask(x, 1, x, (uint16_t)-1, 4); }
BOLT_INLINE vf vceil(vf x) { return __builtin_ia32_rndscaleps_mask(x, 2, x, (uint16_t)-1, 4); }
BOLT_INLINE vf vtrunc(vf x) { return __builtin_ia32_rndscaleps_mask(x, 3, x, (uint16_t)-1, 4); }
#elif BOLT_VL == 8 && defined(__AVX__)
BOLT_INLINE vf vround(vf x) { return __builtin_ia32_roundps256(x, 0); }
BOLT_INLINE vf vfloor(vf x) { return __builtin_ia32_roundps256(x, 1); }
BOLT_INLINE vf vceil(vf x) { return __builtin_ia32_roundps256(x, 2); }
BOLT_INLINE vf vtrunc(vf x) { return __builtin_ia32_roundps256(x, 3); }
#elif defined(__aarch64__) && !defined(__clang__)
BOLT_PER_LANE(vround, __builtin_roundevenf)
BOLT_PER_LANE(vfloor, __builtin_floorf)
BOLT_PER_LANE(vceil, __builtin_ceilf)
BOLT_PER_LANE(vtrunc, __builtin_truncf)
#else
// Adding and subtracting 2^23 with the sign of x rounds to an integer, half to even; from 2^23 on every fp32 is one.
BOLT_INLINE vf vround(vf x) {
  const vf magic = (vf)((vi)vset(0x1p23f) | ((vi)x & INT32_MIN));
  const vf rounded = (vf)((vi)((x + magic) - magic) | ((vi)x & INT32_MIN));
  return vabs(x) < 0x1p23f ? rounded : x;
}
BOLT_INLINE vf vfloor(vf x) {
  const vf r = vround(x);
  return r - (vf)((r > x) & (vi)vset(1.0f));
}
BOLT_INLINE vf vceil(vf x) {
  const vf r = vround(x);
  return (vf)((vi)(r + (vf)((r < x) & (vi)vset(1.0f))) | ((vi)x & INT32_MIN));
}
BOLT_INLINE vf vtrunc(vf x) {
  return (vf)((vi)vfloor(vabs(x)) | ((vi)x & INT32_MIN));
}
#endif

// The nearest float of few digits: within +-largest, `steps` of them between neighbouring powers of two, of which
// `least` is the smallest. Adding 1.5 * 2^23 steps and taking them away again rounds to one, half to even.
BOLT_INLINE vf vnarrow(vf x, vf largest, vf steps, vf least) {
  const vf inside = vclip(x, -largest, largest);
  const vf power = (vf)((vi)inside & 0x7F800000);
  const vf magic = vmax(power, least) * (0x1.8p23f / steps);
  return (inside + magic) - magic;
}

// 1.0 where the mask is set, else 0.0.
BOLT_INLINE vf vbool(vi mask) { return (vf)(mask & (vi)vset(1.0f)); }
BOLT_INLINE vf vsign(vf x) { return x == x ? vbool(x > 0.0f) - vbool(x < 0.0f) : x; }

// x * 2^n for integers n in [-252, 254], also where 2^n alone has no fp32; n is given as fp32.
BOLT_INLINE vf vscale2(vf x, vf n) {
#if BOLT_VL == 16 && defined(__AVX512F__)
  return __builtin_ia32_scalefps512_mask(x, n, x, (uint16_t)-1, 4);
#else
  const vi whole = __builtin_convertvector(n, vi), half = whole >> 1;
  return x * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
#endif
}

// exp(x) = 2^n (1 + r + r^2 q(r)) with r = x - n ln 2, |r| <= ln(2) / 2.
typedef struct { vf n, r, q; } vexp_parts;
BOLT_INLINE vexp_parts vexp_split(vf x) {
  const vf magic = vset(0x1.8p23f);
  const vf n = (x * 0x1.715476p0f + magic) - magic;
  const vf r = (x - n * 0x1.63p-1f) + n * 0x1.bd0106p-13f;
  vf q = vset(1.3813144760206342e-3f);
  q = BOLT_MAD(q, r, 8.369418792426586e-3f);
  q = BOLT_MAD(q, r, 4.166845604777336e-2f);
  q = BOLT_MAD(q, r, 1.6666515171527863e-1f);
  q = BOLT_MAD(q, r, 4.999999403953552e-1f);
  return {n, r, q};
}

// Error below 1.3 ulp; gradual underflow, infinity above 88.72.
BOLT_INLINE vf vexp(vf x) {
  const vexp_parts e = vexp_split(vclip(x, vset(-104.0f), vset(89.0f)));
  return vscale2(BOLT_MAD(e.q, e.r * e.r, e.r) + 1.0f, e.n);
}

// The same for x <= 0, where one bound is enough.
BOLT_INLINE vf vexp_nonpositive(vf x) {
  const vexp_parts e = vexp_split(vmax(vset(-104.0f), x));
  return vscale2(BOLT_MAD(e.q, e.r * e.r, e.r) + 1.0f, e.n);
}

// exp(x) for x <= 0 where only the absolute error counts, as in a softmax: below 1.2e-7. Never less than 2^-126.
BOLT_INLINE vf vexp_weight(vf x) {
  const vf magic = vset(0x1.8p23f + 127.0f);  // the last bits of t + magic are the exponent of 2^round(t)
  const vf t = vmax(vset(-126.0f), x * 0x1.715476p0f), whole = t + magic, r = t - (whole - magic);
  vf p = vset(1.3264727247039067e-3f);
  p = BOLT_MAD(p, r, 9.671512688147602e-3f);
  p = BOLT_MAD(p, r, 5.550733743574335e-2f);
  p = BOLT_MAD(p, r, 2.4022242084635134e-1f);
  p = BOLT_MAD(p, r, 6.931469775987165e-1f);
  return BOLT_MAD(p, r, 1.0f) * (vf)((vi)whole << 23);
}

// exp(x) - 1 for x <= 0 without cancellation; error below 2 ulp.
BOLT_INLINE vf vexpm1_neg(vf x) {
  const vexp_parts e = vexp_split(vmax(vset(-18.0f), x));
  const vf scale = (vf)((__builtin_convertvector(e.n, vi) + 127) << 23);
  return BOLT_MAD(BOLT_MAD(e.q, e.r * e.r, e.r), scale, scale - 1.0f);
}

// Error below 1.5 ulp; -inf at 0, NaN below.
BOLT_INLINE vf vlog(vf x) {
  const vi denormal = x < 0x1p-126f;
  const vf normal = denormal ? x * 0x1p23f : x;
  const vi exponent = ((vi)normal - 0x3f3504f3) >> 23;  // mantissa in [sqrt(1/2), sqrt(2))
  const vf f = (vf)((vi)normal - (exponent << 23)) - 1.0f;
  const vf n = __builtin_convertvector(exponent + (denormal & -23), vf);
  vf p = vset(8.700430393218994e-2f);
  p = BOLT_MAD(p, f, -1.4267486333847046e-1f);
  p = BOLT_MAD(p, f, 1.4914768934249878e-1f);
  p = BOLT_MAD(p, f, -1.657758504152298e-1f);
  p = BOLT_MAD(p, f, 1.9963063299655914e-1f);
  p = BOLT_MAD(p, f, -2.500133812427521e-1f);
  p = BOLT_MAD(p, f, 3.333390951156616e-1f);
  const vf f2 = f * f;
  vf y = BOLT_MAD(p, f * f2, n * -0x1.bd0106p-13f);
  y = BOLT_MAD(f2, vset(-0.5f), y) + f;
  y = BOLT_MAD(n, vset(0x1.63p-1f), y);
  y = x < __builtin_inff() ? y : x;
  y = x == 0.0f ? vset(-__builtin_inff()) : y;
  return x < 0.0f ? vset(__builtin_nanf("")) : y;
}

// log(1 + u) for 0 <= u <= 1 by 2 atanh(u / (2 + u)): no cancellation for small u; error below 2 ulp.
BOLT_INLINE vf vlog1p_unit(vf u) {
  const vf s = u / (u + 2.0f), z = s * s;
  vf p = vset(2.801198363304138e-1f);
  p = BOLT_MAD(p, z, 2.8001806139945984e-1f);
  p = BOLT_MAD(p, z, 4.002152681350708e-1f);
  p = BOLT_MAD(p, z, 6.66664183139801e-1f);
  return BOLT_MAD(s * z, p, s + s);
}

// x p(x^2) / q(x^2); error below 6 ulp, magnitude never above 1.
BOLT_INLINE vf vtanh(vf x) {
  x = vclip(x, vset(-9.02f), vset(9.02f));
  const vf z = x * x;
  vf p = vset(1.3319065850225797e-8f), q = vset(7.762016593915178e-7f);
  p = BOLT_MAD(p, z, 2.0583476725732908e-5f);
  q = BOLT_MAD(q, z, 3.283092228230089e-4f);
  p = BOLT_MAD(p, z, 3.4940342884510756e-3f);
  q = BOLT_MAD(q, z, 2.5871071964502335e-2f);
  p = BOLT_MAD(p, z, 1.3379716873168945e-1f);
  q = BOLT_MAD(q, z, 4.671303331851959e-1f);
  p = BOLT_MAD(p, z, 1.0f);
  q = BOLT_MAD(q, z, 1.0f);
  return vclip(x * p / q, vset(-1.0f), vset(1.0f));
}

// x p(x^2) / q(x^2); error below 7 ulp, magnitude never above 1.
BOLT_INLINE vf verf(vf x) {
  x = vclip(x, vset(-3.95f), vset(3.95f));
  const vf z = x * x;
  vf p = vset(2.025909452640917e-6f), q = vset(3.783184729400091e-5f);
  p = BOLT_MAD(p, z, 2.846883435267955e-4f);
  q = BOLT_MAD(q, z, 1.1707297526299953e-3f);
  p = BOLT_MAD(p, z, 3.8081759121268988e-3f);
  q = BOLT_MAD(q, z, 1.5055118128657341e-2f);
  p = BOLT_MAD(p, z, 5.287548899650574e-2f);
  q = BOLT_MAD(q, z, 1.1455974727869034e-1f);
  p = BOLT_MAD(p, z, 1.91550612449646e-1f);
  q = BOLT_MAD(q, z, 5.03089964389801e-1f);
  p = BOLT_MAD(p, z, 1.1283791065216064f);
  q = BOLT_MAD(q, z, 1.0f);
  return vclip(x * p / q, vset(-1.0f), vset(1.0f));
}

BOLT_INLINE vf vsigmoid(vf x) { return 1.0f / (vexp(-x) + 1.0f); }
BOLT_INLINE vf vsilu(vf x) { return x / (vexp(-x) + 1.0f); }
BOLT_INLINE vf vsoftplus(vf x) { return vrelu(x) + vlog1p_unit(vexp_nonpositive(-vabs(x))); }
BOLT_INLINE vf vgelu(vf x) { return x * 0.5f * (verf(x * 0x1.6a09e6p-1f) + 1.0f); }

// 0.5 x (1 + tanh(u)) is x sigmoid(2 u); u = sqrt(2 / pi) (x + 0.044715 x^3).
BOLT_INLINE vf vgelu_tanh(vf x) {
  const vf u = x * BOLT_MAD(x * x, vset(0.044715f), 1.0f) * 0x1.988454p0f;
  return x / (vexp(-u) + 1.0f);
}

// tanh(log(1 + e)) is w / (w + 2) with w = e (e + 2); from 20 on it is 1 in fp32.
BOLT_INLINE vf vmish(vf x) {
  const vf e = vexp(vmin(vset(20.0f), x)), w = e * (e + 2.0f);
  return x * (w / (w + 2.0f));
}

// x where x > 0, alpha (exp(x / scale) - 1) elsewhere: Elu, Selu and Celu.
BOLT_INLINE vf velu(vf x, vf alpha, vf inverse_scale) {
  return x > 0.0f ? x : alpha * vexpm1_neg(x * inverse_scale);
}

// Whether any lane of a mask is set.
#if __has_builtin(__builtin_reduce_or)
BOLT_INLINE bool vany(vi mask) { return __builtin_reduce_or(mask) != 0; }
#elif BOLT_VL == 16 && defined(__AVX512F__) && !defined(__clang__)
BOLT_INLINE bool vany(vi mask) { return __builtin_ia32_ptestmd512(mask, mask, (uint16_t)-1) != 0; }
#elif BOLT_VL == 8 && defined(__AVX__)
BOLT_INLINE bool vany(vi mask) { return __builtin_ia32_movmskps256((vf)mask) != 0; }
#elif BOLT_VL == 4 && defined(__SSE__)
BOLT_INLINE bool vany(vi mask) { return __builtin_ia32_movmskps((vf)mask) != 0; }
#else
BOLT_INLINE bool vany(vi mask) {
  int32_t any = 0;
  for (int i = 0; i < VL; i++) any |= mask[i];
  return any != 0;
}
#endif

// sin(x + quarters pi / 2) for |x| < 8192: pi / 2 in three parts, so that x - n pi / 2 keeps its bits.
BOLT_INLINE vf vsin_quarters(vf x, int32_t quarters) {
  const vf magic = vset(0x1.8p23f);
  const vf n = (x * 0x1.45f306p-1f + magic) - magic;
  const vf r = ((x - n * 0x1.92p0f) - n * 0x1.fb4p-12f) - n * 0x1.4442d2p-24f;
  const vi quadrant = __builtin_convertvector(n, vi) + quarters;
  const vf z = r * r;
  vf s = vset(-1.9508741388563067e-4f), c = vset(2.4431205019936897e-5f);
  s = BOLT_MAD(s, z, 8.332112804055214e-3f);
  c = BOLT_MAD(c, z, -1.3887305976822972e-3f);
  s = BOLT_MAD(s, z, -1.6666653752326965e-1f);
  c = BOLT_MAD(c, z, 4.166664555668831e-2f);
  s = BOLT_MAD(s, r * z, r);
  c = BOLT_MAD(BOLT_MAD(c, z, -0.5f), z, 1.0f);
  return (vf)((vi)((quadrant & 1) != 0 ? c : s) ^ ((quadrant & 2) << 30));
}

BOLT_PER_LANE(vsin_exact, __builtin_sinf)
BOLT_PER_LANE(vcos_exact, __builtin_cosf)

// Error below 2^-23 for |x| < 8192; beyond, libm's.
BOLT_INLINE vf vsin(vf x) { return vany(!(vabs(x) < 8192.0f)) ? vsin_exact(x) : vsin_quarters(x, 0); }
BOLT_INLINE vf vcos(vf x) { return vany(!(vabs(x) < 8192.0f)) ? vcos_exact(x) : vsin_quarters(x, 1); }

BOLT_PER_LANE(vtan, __builtin_tanf)
BOLT_PER_LANE(vasin, __builtin_asinf)
BOLT_PER_LANE(vacos, __builtin_acosf)
BOLT_PER_LANE(vatan, __builtin_atanf)
BOLT_PER_LANE(vsinh, __builtin_sinhf)
BOLT_PER_LANE(vcosh, __builtin_coshf)
BOLT_PER_LANE(vasinh, __builtin_asinhf)
BOLT_PER_LANE(vacosh, __builtin_acoshf)
BOLT_PER_LANE(vatanh, __builtin_atanhf)
BOLT_PER_LANE2(vpow, __builtin_powf)
BOLT_PER_LANE2(vfmod, __builtin_fmodf)
