// CUTLASS's direct depthwise convolution (cutlass/conv/kernel/direct_convolution.h) with fp32 sums and any epilogue
// whose inputs depend on the channel alone.
//
// A thread block keeps the taps of some channels and goes over tiles of output pixels, `split_k_slices` blocks side by
// side; input tiles arrive in shared memory while earlier ones are computed. The epilogue of a tile uses the shared
// memory of its input. fp32 sums of a large tile need more than that, which would overwrite the next tile's input: then
// every tile has a thread block of its own (ALONE).
#pragma once
#include "bolt/cuda/implicit_gemm.h"
#include "cutlass/conv/thread/depthwise_mma.h"

namespace cutlass::conv::thread {

// The products of 16-bit inputs are summed in fp32, not in 16 bits.
template <int N>
struct ElementwiseInnerProduct<gemm::GemmShape<N, N, 1>, 1, half_t, half_t, float, arch::OpMultiplyAdd> {
  typedef gemm::GemmShape<N, N, 1> Shape;
  typedef arch::OpMultiplyAdd Operator;
  typedef float ElementC;

  CUTLASS_HOST_DEVICE void operator()(Array<float, N>& d, Array<half_t, N> const& a, Array<half_t, N> const& b,
                                      Array<float, N> const& c) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < N; ++i) d[i] = float(a[i]) * float(b[i]) + c[i];
  }
};

}  // namespace cutlass::conv::thread

#include "cutlass/conv/kernel/default_depthwise_fprop.h"
#include "cutlass/conv/kernel/direct_convolution.h"

namespace bolt {

// CUTLASS's output operator: applies `Finish` to the kFragment channels of one thread, which are the same for every
// pixel it visits.
template <class Finish, class Element>
struct DepthwiseFinish {
  typedef Element ElementOutput;
  typedef float ElementAccumulator;
  typedef float ElementCompute;
  enum { kCount = Finish::kFragment };
  typedef cutlass::Array<Element, kCount> FragmentOutput;
  typedef cutlass::Array<float, kCount> FragmentAccumulator;
  struct Params {
    Tensors<Finish::kExtras> tensors;
    int columns;
  };

  const Params& params;
  typename Finish::Channel channel;

  CUTLASS_DEVICE explicit DepthwiseFinish(const Params& p) : params(p) {}
  CUTLASS_DEVICE void prepare(int column) { Finish::load(channel, params.tensors, Columns{0, column, params.columns}); }
  CUTLASS_HOST_DEVICE bool is_source_needed() const { return false; }
  CUTLASS_HOST_DEVICE void set_k_partition(int, int) {}
  CUTLASS_DEVICE FragmentOutput operator()(FragmentAccumulator const& acc) const {
    float result[kCount];
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kCount; ++i) result[i] = Finish::apply(acc[i], channel, typename Finish::Pixel(), i);
    FragmentOutput out;
    vstore_pack<kCount>(reinterpret_cast<typename Finish::Out*>(&out), result);
    return out;
  }
  CUTLASS_DEVICE FragmentOutput operator()(FragmentAccumulator const& acc, FragmentOutput const&) const {
    return (*this)(acc);
  }
};

// The kernel of CUTLASS, whose output operator is told its channels first. One pixel of a thread has one fragment.
template <class Base>
struct Depthwise : Base {
  typedef typename Base::Params Params;
  typedef typename Base::SharedStorage SharedStorage;
  typedef typename Base::Mma Mma;
  typedef typename Base::Epilogue Epilogue;
  typedef typename Epilogue::OutputTileIterator Tile;
  static_assert(Tile::ThreadMap::Iterations::kContiguous == 1, "a thread has one fragment of channels");

  CUTLASS_DEVICE void operator()(Params const& params, SharedStorage& shared) {
    const cutlass::gemm::GemmCoord tile = typename Base::ThreadblockSwizzle().get_tile_offset(params.swizzle_log_tile);
    if (params.grid_tiled_shape.m() <= tile.m() || params.grid_tiled_shape.n() <= tile.n()) return;
    const int thread = threadIdx.x, warp = __shfl_sync(0xffffffff, thread / 32, 0), lane = thread % 32;
    const int column = tile.n() * Mma::Shape::kN, first = tile.m() + tile.k();
    typename Mma::IteratorA x(params.iterator_A, params.problem_size, params.ptr_A, thread, {first, column});
    typename Mma::IteratorB taps(params.iterator_B, params.problem_size, params.ptr_reordered_B, thread, {0, column});
    Mma mma(shared.main_loop, thread, warp, lane);
    typename Mma::FragmentC sums;
    sums.clear();
    const cutlass::MatrixCoord extent = Base::ConvOutputIteratorParameter::extent(params.problem_size);
    Tile y(params.iterator_D, params.ptr_D, extent, thread, {first, column});
    Tile unused(params.iterator_C, params.ptr_C, extent, thread, {first, column});
    typename Base::EpilogueOutputOp finish(params.output_op);
    finish.prepare(y.thread_start_column());
    Epilogue epilogue(shared.epilogue, thread, warp, lane);
    mma(params.gemm_k_iterations, sums, x, params.iterator_A, taps, params.iterator_B, sums, epilogue, finish, y,
        unused, params.split_k_slices);
  }
};

// The host side of one unit.
template <class Base, class Finish, int MULTIPROCESSORS, bool ALONE>
struct DepthwiseConvolution {
  typedef Depthwise<Base> Kernel;
  typedef typename Base::ElementA Element;
  typedef typename Base::ElementC Out;
  typedef typename Base::ThreadBlockOutputShape Pixels;

  static int code(cutlass::Status status) { return -(int)status; }

  static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

  static int64_t tiles_of(const BoltConv& a) { return ceil_div(a.p, Pixels::kH) * ceil_div(a.q, Pixels::kW); }

  // Images of one launch: addresses inside it are counted in 32 bits, thread blocks along z in 16.
  static int64_t images(const BoltConv& a) {
    const int64_t x = a.h * a.x_strides[1] + a.x_strides[0], y = a.p * a.y_strides[1] + a.y_strides[0];
    int64_t most = (INT32_MAX / 4) / (x > y ? x : y);
    if (ALONE && most > 65535 / tiles_of(a)) most = 65535 / tiles_of(a);
    return most < a.n ? most : a.n;
  }

  static cutlass::conv::Conv2dProblemSize problem(const BoltConv& a, int64_t n) {
    const int64_t tiles = n * tiles_of(a);
    const int64_t columns = ceil_div(a.k, Base::ThreadblockShape::kN), room = ceil_div(4 * MULTIPROCESSORS, columns);
    return cutlass::conv::Conv2dProblemSize((int)n, (int)a.h, (int)a.w, (int)a.c, (int)a.k, (int)a.r, (int)a.s,
                                            (int)a.p, (int)a.q, (int)a.pad[0], (int)a.pad[1], (int)a.stride[0],
                                            (int)a.stride[1], (int)a.dilation[0], (int)a.dilation[1],
                                            cutlass::conv::Mode::kCrossCorrelation,
                                            (int)(ALONE || tiles < room ? tiles : room), (int)a.groups);
  }

  static int check(const BoltConv& a) {
    if (images(a) < 1 || a.c != a.groups || a.k != a.groups) return code(cutlass::Status::kErrorInvalidProblem);
    const cutlass::conv::Conv2dProblemSize size = problem(a, 1);
    cutlass::Status status = Base::Mma::IteratorA::can_implement(size);
    if (status == cutlass::Status::kSuccess) status = Base::Mma::IteratorB::can_implement(size);
    if (status != cutlass::Status::kSuccess) return code(status);
    uintptr_t bits = (uintptr_t)a.x | (uintptr_t)a.weights | (uintptr_t)a.y;
    for (int i = 0; i < 3; i++) bits |= (uintptr_t)(a.x_strides[i] | a.y_strides[i]) * sizeof(Element);
    const bool aligned = bits % 16 == 0 && a.k % Finish::kFragment == 0;
    return aligned ? 0 : code(cutlass::Status::kErrorMisalignedOperand);
  }

  static int launch(const BoltConv& a, int64_t first, int64_t n, cudaStream_t stream) {
    typedef cutlass::layout::TensorNHWC Layout;
    const int64_t *s = a.x_strides, *t = a.y_strides;
    Element* const x = (Element*)a.x + first * s[0];
    Element* const taps = (Element*)a.weights;
    Out* const y = (Out*)a.y + first * t[0];
    const Layout y_layout({(int)t[2], (int)t[1], (int)t[0]});
    typename Base::EpilogueOutputOp::Params finish = {};
    for (int i = 0; i < Finish::kExtras; i++) finish.tensors.extras[i] = a.extras[i];
    finish.columns = (int)a.k;
    const typename Base::Arguments arguments(problem(a, n), {x, Layout({(int)s[2], (int)s[1], (int)s[0]})},
                                             {taps, Layout({1, (int)a.s, (int)(a.r * a.s)})}, {y, y_layout},
                                             {y, y_layout}, finish,
                                             {taps, Layout({1, (int)a.s, (int)(a.r * a.s)})});
    typename Kernel::Params params(arguments);
    if (!ALONE && (int)sizeof(typename Base::Epilogue::SharedStorage) > params.iterator_A.activation_size)
      return code(cutlass::Status::kErrorInternal);
    const int shared = params.get_smem_size();
    const cudaError_t error =
        cudaFuncSetAttribute(cutlass::Kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
    const dim3 grid = typename Base::ThreadblockSwizzle().get_grid_shape(params.grid_tiled_shape);
    cutlass::Kernel<Kernel><<<grid, Base::kThreadCount, shared, stream>>>(params);
    return cudaGetLastError();
  }

  static int run(const BoltConv& a, cudaStream_t stream) { return run_images<DepthwiseConvolution>(a, stream); }
};

}  // namespace bolt
