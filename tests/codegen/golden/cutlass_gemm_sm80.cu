// GEMM, tile 128x128_32x4
#include "bolt/cuda/cutlass_kernel.h"
#include "bolt/cuda/launch.h"
#include "bolt/cuda/vmath.h"
#include "cutlass/gemm/kernel/default_gemm_universal_with_visitor.h"
#include "cutlass/gemm/threadblock/threadblock_swizzle.h"
// visitors.hpp does not include what it needs of the above
#include "cutlass/epilogue/threadblock/fusion/visitors.hpp"

namespace bolt_gemm_46b69361e31c3c36_unit {

template <class T>
struct Finish;

template <>
struct Finish<float> {
  CUTLASS_HOST_DEVICE float operator()(float acc, float in0, float in1) const {
    const vf e0 = acc;
    const vf e1 = in0;
    const vf e2 = e0 + e1;
    const vf e3 = in1;
    const vf e4 = e2 + e3;
    const vf e5 = vrelu(e4);
    const vf result = e5;
    return vselect(vabs(result) < __builtin_inff(), vclip(result, -0x1.ffc0000000000p+15f, 0x1.ffc0000000000p+15f), result);
  }
};

template <int N>
struct Finish<cutlass::Array<float, N>> {
  typedef cutlass::Array<float, N> Values;

  CUTLASS_HOST_DEVICE Values operator()(Values const& acc, Values const& in0, Values const& in1) const {
    Values result;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) result[i] = Finish<float>()(acc[i], in0[i], in1[i]);
    return result;
  }
};

using Block = cutlass::gemm::GemmShape<128, 128, 32>;
using Warp = cutlass::gemm::GemmShape<64, 64, 32>;
using Instruction = cutlass::gemm::GemmShape<16, 8, 16>;
using A = cutlass::half_t;
using B = cutlass::half_t;
using D = cutlass::half_t;  // decides how threads share an output tile
using LayoutA = cutlass::layout::RowMajor;
using LayoutB = cutlass::layout::ColumnMajor;
using LayoutD = cutlass::layout::RowMajor;
using Swizzle = cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<1>;
constexpr int ALIGN_A = 8, ALIGN_B = 8, ALIGN_D = 8;  // elements

using Default = cutlass::gemm::kernel::DefaultGemmUniversal<
    A, LayoutA, cutlass::ComplexTransform::kNone, ALIGN_A, B, LayoutB, cutlass::ComplexTransform::kNone, ALIGN_B, D,
    LayoutD, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80, Block, Warp, Instruction,
    cutlass::epilogue::thread::LinearCombination<D, ALIGN_D, float, float>, Swizzle, 4,
    cutlass::arch::OpMultiplyAdd>::GemmKernel;
namespace fusion = cutlass::epilogue::threadblock;
constexpr auto NEAREST = cutlass::FloatRoundStyle::round_to_nearest;
using Map = bolt::LayoutOf<typename Default::Epilogue>;
using Accumulator = fusion::VisitorAccFetch;
using In0 = fusion::VisitorRowBroadcast<Map, float, cute::Stride<cute::_0, cute::_1, int64_t>, false>;
using In1 = fusion::VisitorAuxLoad<Map, cutlass::half_t, cute::Stride<int64_t, cute::_1, int64_t>>;
using Apply = fusion::VisitorCompute<Finish, float, float, NEAREST>;
using Value = fusion::Sm80EVT<Apply, Accumulator, In0, In1>;
using Store = fusion::VisitorAuxStore<Map, cutlass::half_t, NEAREST, cute::Stride<int64_t, cute::_1, int64_t>>;
using Tree = fusion::Sm80EVT<Store, Value>;
using Epilogue = fusion::EpilogueWithVisitorCallbacks<typename Default::Epilogue, Tree, 1>;
using Kernel = cutlass::gemm::kernel::GemmWithEpilogueVisitor<typename Default::Mma, Epilogue, Swizzle>;

static_assert(Kernel::kThreadCount == 128, "the tile's warps");
static_assert(sizeof(typename Kernel::SharedStorage) <= 166912, "shared memory of the target");

typename Kernel::Params parameters(const BoltGemm& g) {
  const cutlass::gemm::GemmCoord size((int)g.m, (int)g.n, (int)g.k);
  const auto mode = cutlass::gemm::GemmUniversalMode::kBatched;
  const int count = (int)g.batch;
  const typename In0::Arguments in0{(float*)g.extras[0].data, float(0), {cute::_0{}, cute::_1{}, g.extras[0].strides[0]}};
  const typename In1::Arguments in1{(cutlass::half_t*)g.extras[1].data, cutlass::half_t(0), {g.extras[1].strides[1], cute::_1{}, g.extras[1].strides[0]}};
  const typename Store::Arguments store{(cutlass::half_t*)g.d, {g.ldd, cute::_1{}, g.d_batch}};
  const typename Tree::Arguments tree{typename Value::Arguments{typename Accumulator::Arguments{}, in0, in1, typename Apply::Arguments{}}, store};
  const typename Kernel::Arguments arguments(mode, size, count, tree, g.a, g.b, nullptr, nullptr, g.a_batch, g.b_batch,
                                             0, 0, g.lda, g.ldb, (int64_t)0, (int64_t)0);
  return typename Kernel::Params(arguments, 108, 1);
}

// Thread blocks along x take `swizzle` neighbouring column tiles in turn, so that they find their operands in the
// L2 cache.
dim3 swizzled_grid(typename Kernel::Params& params, int64_t swizzle) {
  const cutlass::gemm::GemmCoord tiles = params.get_tiled_shape();
  int log = 0;
  while ((2 << log) <= swizzle && (2 << log) <= tiles.n()) log++;
  params.swizzle_log_tile = log;
  return dim3(tiles.m() << log, (tiles.n() + (1 << log) - 1) >> log, tiles.k());
}

}  // namespace bolt_gemm_46b69361e31c3c36_unit

extern "C" __attribute__((visibility("default"))) int bolt_gemm_46b69361e31c3c36_check(const BoltGemm* arguments) {
  using namespace bolt_gemm_46b69361e31c3c36_unit;
  const BoltGemm& g = *arguments;
  if (g.batch < 1 || g.m < 1 || g.n < 1 || g.k < 1) return bolt::failed(cutlass::Status::kErrorInvalidProblem);
  const int64_t most = INT32_MAX - 1024;  // a tile may start before the end and reach beyond it
  if (g.batch > 65535 || g.m > most || g.n > most || g.k > most)
    return bolt::failed(cutlass::Status::kErrorInvalidProblem);
  if (g.k % 8 || (g.m > 1 && g.lda % 8) || g.a_batch % 8 || !bolt::is_aligned(g.a, 16))
    return bolt::failed(cutlass::Status::kErrorMisalignedOperand);
  if (g.k % 8 || (g.n > 1 && g.ldb % 8) || g.b_batch % 8 || !bolt::is_aligned(g.b, 16))
    return bolt::failed(cutlass::Status::kErrorMisalignedOperand);
  if (g.n % 8 || (g.m > 1 && g.ldd % 8) || g.d_batch % 8 || !bolt::is_aligned(g.d, 16))
    return bolt::failed(cutlass::Status::kErrorMisalignedOperand);
  if (!bolt::is_aligned(g.extras[0].data, 16) || g.extras[0].strides[0] % 4)
    return bolt::failed(cutlass::Status::kErrorMisalignedOperand);
  if (!bolt::is_aligned(g.extras[1].data, 16) || g.extras[1].strides[0] % 8 || (g.m > 1 && g.extras[1].strides[1] % 8))
    return bolt::failed(cutlass::Status::kErrorMisalignedOperand);
  return 0;
}

extern "C" __attribute__((visibility("default"))) int64_t bolt_gemm_46b69361e31c3c36_workspace(const BoltGemm* arguments) {
  (void)arguments;
  return 0;
}

extern "C" __attribute__((visibility("default"))) int bolt_gemm_46b69361e31c3c36(const BoltGemm* arguments, CUstream_st* stream) {
  using namespace bolt_gemm_46b69361e31c3c36_unit;
  auto params = parameters(*arguments);
  return bolt::launch<Kernel>(params, swizzled_grid(params, arguments->swizzle), stream);
}
