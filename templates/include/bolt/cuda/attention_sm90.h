// What units of Hopper's attention share: masks, the order of the tiles, the store of the output, and the way from
// BoltAttention to the kernel's parameters. The kernel is CUTLASS's example 88: one warp loads by TMA, warpgroups
// multiply by wgmma and keep scores, their running maximum and the output in registers.
#pragma once
#include "bolt/cuda/cutlass_kernel.h"
#include "bolt/cuda/launch.h"
#include "bolt/cuda/tma.h"
#include "collective/fmha_collective_tma_warpspecialized.hpp"
#include "collective/fmha_fusion.hpp"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/thread/linear_combination.h"
#include "cutlass/fast_math.h"
#include "kernel/fmha_kernel_tma_warpspecialized.hpp"

namespace bolt_sm90 {

// Rows of a tensor of (batch, head) pairs, in elements: (row, column, (batch, head)).
using HeadStride = cute::tuple<int, cute::_1, cute::tuple<int, int>>;

// Masks of the last tiles of keys. TMA reads zeros behind the last key, so those must be hidden as well, also by a
// causal mask: a query may lie behind the last key.
struct Tail : cutlass::fmha::collective::ResidualFusion {};

struct CausalTail : cutlass::fmha::collective::CausalFusion {
  template <class Scores, class Indices, class Problem>
  CUTLASS_DEVICE void before_softmax(Scores& scores, const Indices& indices, const Problem& problem) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < cute::size(scores); i++) {
      const auto at = indices(i);
      const int visible = cute::min(cute::get<0>(at) + 1, cute::get<3>(problem));
      if (cute::get<1>(at) >= visible) scores(i) = -INFINITY;
    }
  }
};

// One thread block for each tile of queries. The last tiles of a sequence come first: under a causal mask they have
// the most keys, and short ones then fill the gaps at the end. Heads share a grid dimension with batches, of which
// there may be more than 65535 each.
struct Tiles {
  struct Params {
    cutlass::FastDivmod rows, heads;
    unsigned blocks;
  };
  Params params;
  bool is_left = true;

  CUTLASS_DEVICE explicit Tiles(const Params& params) : params(params) {}

  template <class Problem, class Cluster, class Tile>
  static Params to_underlying_arguments(const Problem& problem, cutlass::KernelHardwareInfo, Cluster,
                                        const Tile& tile) {
    const int rows = cute::ceil_div(cute::get<2>(problem), cute::size<0>(tile));
    const unsigned blocks = unsigned(rows) * cute::get<0>(problem) * cute::get<1>(problem);
    return {cutlass::FastDivmod(rows), cutlass::FastDivmod(cute::get<1>(problem)), blocks};
  }

  static dim3 get_grid_shape(const Params& params) { return dim3(params.blocks); }

  CUTLASS_DEVICE bool is_valid() const { return is_left; }

  CUTLASS_DEVICE auto get_block_coord() const {
    int pair, row, batch, head;
    params.rows(pair, row, int(blockIdx.x));
    params.heads(batch, head, pair);
    return cute::make_coord(params.rows.divisor - 1 - row, cute::_0{}, cute::make_coord(batch, head));
  }

  CUTLASS_DEVICE Tiles& operator++() {
    is_left = false;
    return *this;
  }
};

// Stores a warpgroup's rows by TMA, which leaves out those behind the last query.
template <class Element, class Tile>
struct Output {
  static constexpr int ALIGNMENT = 16 / sizeof(Element);
  using Store = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, cute::Shape<cute::_1, cute::_1, cute::_1>,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, HeadStride, ALIGNMENT, Element, HeadStride,
      ALIGNMENT, cutlass::epilogue::TmaWarpSpecialized,
      cutlass::epilogue::fusion::LinearCombination<Element, float, void>>::CollectiveOp;

  struct Arguments {
    Element* out;
    HeadStride stride;
  };
  using Params = typename Store::Params;
  using TensorStorage = typename Store::TensorStorage;
  using PipelineStorage = typename Store::PipelineStorage;
  using LoadPipeline = typename Store::LoadPipeline;
  static constexpr int TmaTransactionBytes = Store::TmaTransactionBytes;

  // The output as the columns of a product.
  template <class Problem, class Depth>
  CUTLASS_HOST_DEVICE static auto shape(const Problem& problem, Depth depth) {
    const auto [batch, heads, m, n, d] = problem;
    return cute::make_shape(m, d, depth, cute::make_shape(batch, heads));
  }

  template <class Problem>
  static Params to_underlying_arguments(const Problem& problem, const Arguments& a, void* workspace) {
    const typename Store::Arguments arguments{{}, nullptr, a.stride, a.out, a.stride};
    return Store::to_underlying_arguments(shape(problem, 1), arguments, workspace);
  }

  template <class Block, class Result, class Mma, class Problem>
  CUTLASS_DEVICE void operator()(const Tile& tile, const Block& block, const Result& result, const Mma& mma,
                                 const Problem& problem, const Params& params, LoadPipeline loads,
                                 TensorStorage& storage) {
    using namespace cute;
    using Stores = typename Store::StorePipeline;
    typename Stores::Params always_wait;
    always_wait.always_wait = true;
    Stores stores(always_wait);
    Store store(params, storage);
    auto state = cutlass::make_producer_start_state<Stores>();
    auto [loaded, stored] = store.store(
        loads, typename Store::LoadPipelineState{}, stores, state, shape(problem, _), tile,
        make_coord(get<0>(block), _0{}, _, get<2>(block)), get<0>(result), mma,
        threadIdx.x % cutlass::NumThreadsPerWarpGroup, storage);
    store.store_tail(loads, loaded, stores, stored);
  }
};

template <class Unit>
struct Attention {
  using Element = typename Unit::Element;
  using Mainloop = cutlass::fmha::collective::FmhaMainloopTmaWarpSpecialized<
      Element, float, float, typename Unit::Tile, HeadStride, HeadStride, HeadStride, typename Unit::Mask,
      cutlass::fmha::kernel::Option<cutlass::fmha::kernel::Tag::kNumMmaWarpGroups, cute::Int<Unit::WARPGROUPS>>,
      cutlass::fmha::kernel::Option<cutlass::fmha::kernel::Tag::kStagesKV, cute::Int<Unit::STAGES>>>;
  using Epilogue = Output<Element, typename Mainloop::TileShapePV>;
  using Kernel = cutlass::fmha::kernel::FmhaKernelTmaWarpSpecialized<Mainloop, Epilogue, Tiles>;
  static_assert(sizeof(typename Kernel::SharedStorage) <= Unit::SMEM_BYTES, "more shared memory than a block may have");

  // Between rows, batches and heads; the step of a dim of one element may be anything, also what TMA refuses.
  struct Steps {
    int64_t row, batch, head;

    Steps(const BoltAttention& a, int64_t rows, const int64_t* strides)
        : row(rows > 1 ? strides[2] : 0), batch(a.batch > 1 ? strides[0] : 0), head(a.heads > 1 ? strides[1] : 0) {}

    bool fit(const void* data) const {
      const int64_t all[] = {row, batch, head};
      return tma_can_read(data, sizeof(Element), all, 3) && row <= INT_MAX && batch <= INT_MAX && head <= INT_MAX;
    }

    HeadStride stride() const { return {int(row), cute::_1{}, {int(batch), int(head)}}; }
  };

  static int check(const BoltAttention& a) {
    bool valid = a.d == a.e && a.d <= cute::size<2>(typename Unit::Tile{}) && a.scale > 0 && !a.bias;
    for (int64_t n : {a.batch, a.heads, a.m, a.n, a.d}) valid = valid && is_extent(n);
    valid = valid && (a.m + 63) / 64 * a.batch * a.heads <= INT_MAX;
    if (!valid || a.causal != Unit::CAUSAL) return code(cutlass::Status::kErrorInvalidProblem);
    const bool aligned = Steps(a, a.m, a.q_strides).fit(a.q) && Steps(a, a.n, a.k_strides).fit(a.k) &&
                         Steps(a, a.n, a.v_strides).fit(a.v) && Steps(a, a.m, a.out_strides).fit(a.out);
    return aligned ? 0 : code(cutlass::Status::kErrorMisalignedOperand);
  }

  static typename Kernel::Params params(const BoltAttention& a) {
    typename Kernel::Arguments arguments{};
    arguments.problem_size = {int(a.batch), int(a.heads), int(a.m), int(a.n), int(a.d)};
    arguments.mainloop = {static_cast<const Element*>(a.q), Steps(a, a.m, a.q_strides).stride(),
                          static_cast<const Element*>(a.k), Steps(a, a.n, a.k_strides).stride(),
                          static_cast<const Element*>(a.v), Steps(a, a.n, a.v_strides).stride()};
    arguments.epilogue = {static_cast<Element*>(a.out), Steps(a, a.m, a.out_strides).stride()};
    typename Kernel::Params params = Kernel::to_underlying_arguments(arguments, nullptr);
    params.mainloop.scale_softmax = a.scale;
    params.mainloop.scale_softmax_log2 = a.scale * 1.4426950408889634f;
    return params;
  }

  static int run(const BoltAttention& a, CUstream_st* stream) {
    if (const int refused = check(a)) return refused;
    typename Kernel::Params p = params(a);
    constexpr auto* kernel = &cutlass::device_kernel<Kernel>;
    if (const int error = bolt::allow_shared_memory<kernel>(Kernel::SharedStorageSize)) return error;
    void* arguments[] = {&p};
    return cudaLaunchKernel((const void*)kernel, Kernel::get_grid_shape(p), Kernel::get_block_shape(), arguments,
                            Kernel::SharedStorageSize, stream);
  }
};

}  // namespace bolt_sm90
