// Implicit GEMM, f16, tile 128x128_32x4, optimized iterator.
#include "bolt/cuda/implicit_gemm.h"

namespace bolt_implicit_gemm_d21d8c994842_unit {

using namespace cutlass;

struct Finish {
  typedef __half Out;
  enum { kFragment = 8, kVector = 8, kExtras = 2 };
  struct Channel {
    float in0[kFragment];
  };
  struct Pixel {
    __half in1[kFragment];
  };

  static int64_t extra_bytes(int i) {
    constexpr int64_t BYTES[] = {4, 2};
    return BYTES[i];
  }
  static CUTLASS_DEVICE void load(Channel& held, const bolt::Tensors<kExtras>& tensors, bolt::Columns at) {
    bolt::load_columns<8, 1>(held.in0, tensors.extras[0].data, 0, at);
  }
  static CUTLASS_DEVICE void load(Pixel& held, const bolt::Tensors<kExtras>& tensors, bolt::Columns at,
                                  bolt::Place place) {
    const BoltExtra& extra1 = tensors.extras[1];
    const int64_t offset1 = place.offset(extra1.strides);
    bolt::load_columns<8, 1>(held.in1, extra1.data, offset1, at);
  }
  static CUTLASS_DEVICE float apply(float acc, const Channel& channel, const Pixel& pixel, int i) {
    const vf e0 = acc;
    const vf e1 = Element<float>::to_float(channel.in0[i]);
    const vf e2 = e0 + e1;
    const vf e3 = Element<__half>::to_float(pixel.in1[i]);
    const vf e4 = e2 + e3;
    const vf e5 = vrelu(e4);
    return e5;
  }
};
typedef conv::kernel::DefaultConv2dFprop<
    cutlass::half_t, layout::TensorNHWC, cutlass::half_t, layout::TensorNHWC, cutlass::half_t, layout::TensorNHWC,
    float, arch::OpClassTensorOp, arch::Sm80,
    gemm::GemmShape<128, 128, 32>, gemm::GemmShape<64, 64, 32>,
    gemm::GemmShape<16, 8, 16>,
    epilogue::thread::LinearCombination<cutlass::half_t, Finish::kFragment, float, float>,
    gemm::threadblock::GemmIdentityThreadblockSwizzle<4>, 4, arch::OpMultiplyAdd,
    conv::IteratorAlgorithm::kOptimized, conv::StrideSupport::kStrided, 8, 8>::Kernel
    Base;
typedef bolt::Convolution<Base, Finish, false> Convolution;

}  // namespace bolt_implicit_gemm_d21d8c994842_unit

extern "C" int bolt_implicit_gemm_d21d8c994842(const BoltConv* a, CUstream_st* stream) {
  return bolt_implicit_gemm_d21d8c994842_unit::Convolution::run(*a, stream);
}
extern "C" int64_t bolt_implicit_gemm_d21d8c994842_workspace(const BoltConv* a) {
  return bolt_implicit_gemm_d21d8c994842_unit::Convolution::workspace(*a);
}
extern "C" int bolt_implicit_gemm_d21d8c994842_check(const BoltConv* a) {
  return bolt_implicit_gemm_d21d8c994842_unit::Convolution::check(*a);
}
