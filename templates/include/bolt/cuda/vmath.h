// The functions of bolt/simd.h and bolt/vmath.h over one float: the epilogue table of bolt/epilogue.py is C++ over
// `vf`, and on CUDA a vector has one lane. The rules are the same: NaN in gives NaN out, infinities go where float64
// sends them. Compiles as plain C++ too.
#pragma once
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define BOLT_DEVICE static __host__ __device__ __forceinline__
#else
#define BOLT_DEVICE static inline __attribute__((always_inline))
#endif

typedef float vf;

BOLT_DEVICE vf vset(float x) { return x; }
BOLT_DEVICE vf vselect(bool mask, vf a, vf b) { return mask ? a : b; }
BOLT_DEVICE vf vbool(bool mask) { return mask ? 1.0f : 0.0f; }
BOLT_DEVICE vf vabs(vf x) { return fabsf(x); }
BOLT_DEVICE vf vsign(vf x) { return x == x ? vbool(x > 0.0f) - vbool(x < 0.0f) : x; }

// A NaN in b passes through, a NaN in a loses (fmaxf and fminf would lose either).
BOLT_DEVICE vf vmax(vf a, vf b) { return a > b ? a : b; }
BOLT_DEVICE vf vmin(vf a, vf b) { return a < b ? a : b; }

// A NaN in either operand passes through, as in ONNX Max and Min.
BOLT_DEVICE vf vmax_nan(vf a, vf b) { return a == a ? vmax(a, b) : a; }
BOLT_DEVICE vf vmin_nan(vf a, vf b) { return a == a ? vmin(a, b) : a; }

// x is the second operand: NaN stays NaN.
BOLT_DEVICE vf vrelu(vf x) { return vmax(0.0f, x); }
BOLT_DEVICE vf vclip(vf x, vf lo, vf hi) { return vmin(hi, vmax(lo, x)); }

BOLT_DEVICE vf vsqrt(vf x) { return sqrtf(x); }
BOLT_DEVICE vf vfloor(vf x) { return floorf(x); }
BOLT_DEVICE vf vceil(vf x) { return ceilf(x); }
BOLT_DEVICE vf vtrunc(vf x) { return truncf(x); }
BOLT_DEVICE vf vround(vf x) { return rintf(x); }  // half to even

// The nearest float of few digits: within +-largest, `steps` of them between neighbouring powers of two, of which
// `least` is the smallest. Adding 1.5 * 2^23 steps and taking them away again rounds to one, half to even.
BOLT_DEVICE vf vnarrow(vf x, vf largest, vf steps, vf least) {
  const vf inside = vclip(x, -largest, largest);
  union {
    float number;
    uint32_t bits;
  } power = {inside};
  power.bits &= 0x7F800000u;
  const vf magic = vmax(power.number, least) * (0x1.8p23f / steps);
  return (inside + magic) - magic;
}

BOLT_DEVICE vf vexp(vf x) { return expf(x); }
BOLT_DEVICE vf vexp_nonpositive(vf x) { return expf(x); }
BOLT_DEVICE vf vlog(vf x) { return logf(x); }
BOLT_DEVICE vf vpow(vf x, vf y) { return powf(x, y); }
BOLT_DEVICE vf vfmod(vf x, vf y) { return fmodf(x, y); }
BOLT_DEVICE vf verf(vf x) { return erff(x); }
BOLT_DEVICE vf vsin(vf x) { return sinf(x); }
BOLT_DEVICE vf vcos(vf x) { return cosf(x); }
BOLT_DEVICE vf vtan(vf x) { return tanf(x); }
BOLT_DEVICE vf vasin(vf x) { return asinf(x); }
BOLT_DEVICE vf vacos(vf x) { return acosf(x); }
BOLT_DEVICE vf vatan(vf x) { return atanf(x); }
BOLT_DEVICE vf vsinh(vf x) { return sinhf(x); }
BOLT_DEVICE vf vcosh(vf x) { return coshf(x); }
BOLT_DEVICE vf vtanh(vf x) { return tanhf(x); }
BOLT_DEVICE vf vasinh(vf x) { return asinhf(x); }
BOLT_DEVICE vf vacosh(vf x) { return acoshf(x); }
BOLT_DEVICE vf vatanh(vf x) { return atanhf(x); }

BOLT_DEVICE vf vsigmoid(vf x) { return 1.0f / (expf(-x) + 1.0f); }
BOLT_DEVICE vf vsilu(vf x) { return x / (expf(-x) + 1.0f); }
BOLT_DEVICE vf vsoftplus(vf x) { return vrelu(x) + log1pf(expf(-fabsf(x))); }
BOLT_DEVICE vf vgelu(vf x) { return x * 0.5f * (erff(x * 0x1.6a09e6p-1f) + 1.0f); }

// 0.5 x (1 + tanh(u)) is x sigmoid(2 u); u = sqrt(2 / pi) (x + 0.044715 x^3).
BOLT_DEVICE vf vgelu_tanh(vf x) {
  const vf u = x * (x * x * 0.044715f + 1.0f) * 0x1.988454p0f;
  return x / (expf(-u) + 1.0f);
}

// tanh(log(1 + e)) is w / (w + 2) with w = e (e + 2); from 20 on it is 1 in fp32.
BOLT_DEVICE vf vmish(vf x) {
  const vf e = expf(vmin(20.0f, x)), w = e * (e + 2.0f);
  return x * (w / (w + 2.0f));
}

// x where x > 0, alpha (exp(x / scale) - 1) elsewhere: Elu, Selu and Celu.
BOLT_DEVICE vf velu(vf x, vf alpha, vf inverse_scale) { return x > 0.0f ? x : alpha * expm1f(x * inverse_scale); }
