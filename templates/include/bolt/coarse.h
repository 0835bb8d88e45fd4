// Elementary functions for results that are stored as bf16, whose own rounding is off by up to 2^-9 of a value.
// Included by simd.h; errors as swept by tests/codegen/test_vmath.py.
#pragma once

// 1 / x: relative error below 2^-14 on AVX-512.
#if BOLT_VL == 16 && defined(__AVX512F__)
BOLT_INLINE vf vreciprocal_coarse(vf x) {
  vf y;
  __asm__("vrcp14ps %1, %0" : "=v"(y) : "v"(x));
  return y;
}
#else
BOLT_INLINE vf vreciprocal_coarse(vf x) { return 1.0f / x; }
#endif

// 2^x for |x| <= 126: relative error below 2^-13.
BOLT_INLINE vf vexp2_coarse(vf x) {
  const vf magic = vset(0x1.8p23f + 127.0f);  // the last bits of x + magic are the exponent of 2^round(x)
  const vf whole = x + magic, r = x - (whole - magic);
  vf p = vset(5.517149e-2f);
  p = BOLT_MAD(p, r, 2.4261094e-1f);
  p = BOLT_MAD(p, r, 6.932610e-1f);
  p = BOLT_MAD(p, r, 9.9992806e-1f);
  return p * (vf)((vi)whole << 23);
}

// 1 + exp(-x).
BOLT_INLINE vf vexp1p_coarse(vf x) {
  return vexp2_coarse(vclip(x * -0x1.715476p0f, vset(-126.0f), vset(126.0f))) + 1.0f;
}

// Relative error below 2^-12.
BOLT_INLINE vf vsigmoid_coarse(vf x) { return vreciprocal_coarse(vexp1p_coarse(x)); }
BOLT_INLINE vf vsilu_coarse(vf x) { return x * vreciprocal_coarse(vexp1p_coarse(x)); }

// As vgelu_tanh.
BOLT_INLINE vf vgelu_tanh_coarse(vf x) {
  const vf u = x * BOLT_MAD(x * x, vset(0.044715f), 1.0f) * 0x1.988454p0f;
  return x * vreciprocal_coarse(vexp1p_coarse(u));
}

// As vmish.
BOLT_INLINE vf vmish_coarse(vf x) {
  const vf e = vexp2_coarse(vclip(x * 0x1.715476p0f, vset(-126.0f), vset(29.0f))), w = e * (e + 2.0f);
  return x * (w * vreciprocal_coarse(w + 2.0f));
}

// x (1/2 + erf(x / sqrt(2)) / 2), the odd part as a polynomial that is 1/2 from 3.6 on; error below 6e-4.
BOLT_INLINE vf vgelu_coarse(vf x) {
  const vf c = vclip(x, vset(-3.6f), vset(3.6f)), z = c * c;
  vf p = vset(7.956832e-8f);
  p = BOLT_MAD(p, z, -4.1574572e-6f);
  p = BOLT_MAD(p, z, 9.30557e-5f);
  p = BOLT_MAD(p, z, -1.2052484e-3f);
  p = BOLT_MAD(p, z, 1.0490062e-2f);
  p = BOLT_MAD(p, z, -6.8048626e-2f);
  p = BOLT_MAD(p, z, 4.0023857e-1f);
  return x * BOLT_MAD(p, c, 0.5f);
}
