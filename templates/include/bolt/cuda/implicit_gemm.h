// CUTLASS 2.x implicit-GEMM convolution with an epilogue of any number of inputs.
//
// CUTLASS supplies the main loop and the exchange of accumulators through shared memory
// (cutlass/epilogue/threadblock/epilogue_with_visitor_callbacks.h); `Visitor` is its callback: it finds the pixel of
// each accumulator, loads what the epilogue reads, and stores the result, so that every tensor may have strides of its
// own. A unit gives it a struct `Finish`:
//
//   typedef ... Out;                          element type of the output
//   enum { kFragment, kVector, kExtras };     elements of one visit; of one store (divides the channels of a group)
//   struct Channel, struct Pixel              inputs that depend on the channel only; all others
//   static void load(Channel&, const Tensors<kExtras>&, Columns)
//   static void load(Pixel&, const Tensors<kExtras>&, Columns, Place)
//   static float apply(float acc, const Channel&, const Pixel&, int i)
//
// Groups are the z dimension of the grid: each is a convolution of its own with shifted pointers. With split-K the z
// dimension is the slice instead: partial sums go to the workspace, a second kernel adds and finishes them.
#pragma once
#include "cutlass/conv/conv2d_problem_size.h"
#include "cutlass/conv/kernel/default_conv2d_fprop.h"
#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"
#include "cutlass/epilogue/thread/linear_combination.h"
#include "cutlass/epilogue/threadblock/epilogue_with_visitor_callbacks.h"
#include "cutlass/gemm/threadblock/threadblock_swizzle.h"

#include "bolt/cuda/access.h"
#include "bolt/cuda/launch.h"

namespace bolt {

// Neighbouring channels `column` to `column + E` of a group that starts at channel `first` and has `count` channels.
struct Columns {
  int first, column, count;
};

// An output pixel.
struct Place {
  int n, p, q;

  CUTLASS_DEVICE int64_t offset(const int64_t* strides) const {
    return n * strides[0] + p * strides[1] + q * strides[2];
  }
};

// What the epilogue reads and writes; strides are of n, p and q, also those of BoltConv's extras.
template <int EXTRAS>
struct Tensors {
  void* y;
  int64_t y_strides[3];
  BoltExtra extras[EXTRAS ? EXTRAS : 1];
};

// E values of a tensor whose channels are STEP (0 or 1) apart, V at a time. Lanes beyond the group are zero.
template <int V, int STEP, int E, class T>
CUTLASS_DEVICE void load_columns(T (&values)[E], const void* data, int64_t offset, Columns at) {
  const T* p = (const T*)data + offset;
  if (STEP) p += at.first + at.column;
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < E; i += V) {
    if (at.column + i < at.count) {
      if (STEP) {
        load_pack<V>(values + i, p + i);
      } else {
        CUTLASS_PRAGMA_UNROLL
        for (int j = 0; j < V; j++) values[i + j] = *p;
      }
    } else {
      CUTLASS_PRAGMA_UNROLL
      for (int j = 0; j < V; j++) values[i + j] = T(0.0f);
    }
  }
}

template <class Finish>
struct Output {
  Tensors<Finish::kExtras> tensors;
  float* partial;  // with split-K: (slice, pixel, channel)
  int rows, columns;
  cutlass::FastDivmod image, line;  // by pixels of an image, of a line

  CUTLASS_DEVICE Place place(int row) const {
    Place at;
    int pixel;
    image(at.n, pixel, row);
    line(at.p, at.q, pixel);
    return at;
  }
};

template <class Finish, int E>
CUTLASS_DEVICE void finish(const Output<Finish>& output, const float (&acc)[E], const typename Finish::Channel& channel,
                           const typename Finish::Pixel& pixel, Columns at, Place place) {
  typedef typename Finish::Out Out;
  Out* y = (Out*)output.tensors.y + place.offset(output.tensors.y_strides) + at.first + at.column;
  float result[E];
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < E; i++) result[i] = Finish::apply(acc[i], channel, pixel, i);
  CUTLASS_PRAGMA_UNROLL
  for (int i = 0; i < E; i += Finish::kVector)
    if (at.column + i < at.count) vstore_pack<Finish::kVector>(y + i, result + i);
}

// Callback of EpilogueWithVisitorCallbacks; the loops over rows are those of PredicatedTileIterator.
template <class Finish, class TileIterator, bool SPLIT>
struct Visitor {
  typedef Output<Finish> Params;
  typedef Params Arguments;
  struct SharedStorage {};
  typedef typename TileIterator::ThreadMap Map;
  typedef typename Map::Iterations Iterations;
  enum {
    E = Finish::kFragment,
    COLUMNS = Iterations::kColumn,
    ROWS = Iterations::kRow * Iterations::kGroup * Iterations::kCluster,
    PARTIAL = Finish::kVector < 4 ? Finish::kVector : 4,  // fp32 values of a 16-byte store
  };

  struct Callbacks {
    const Params& output;
    int row, first, column, slice;
    int row_count, group_count;
    typename Finish::Channel channel[COLUMNS];
    typename Finish::Pixel pixel[ROWS * COLUMNS];
    Place place[ROWS];

    CUTLASS_DEVICE Columns columns(int index) const {
      return {first, column + index * Map::Delta::kColumn, output.columns};
    }
    CUTLASS_DEVICE int row_of(int index) const {
      return row + index % Iterations::kRow * Map::Delta::kRow +
             index / Iterations::kRow % Iterations::kGroup * Map::Delta::kGroup +
             index / (Iterations::kRow * Iterations::kGroup) * Map::Delta::kCluster;
    }
    CUTLASS_DEVICE void begin_epilogue() {
      if (SPLIT) return;
      CUTLASS_PRAGMA_UNROLL
      for (int c = 0; c < COLUMNS; c++) Finish::load(channel[c], output.tensors, columns(c));
    }
    CUTLASS_DEVICE void begin_step(int) {
      if (SPLIT) return;
      CUTLASS_PRAGMA_UNROLL
      for (int r = 0; r < ROWS; r++) {
        if (row_of(r) >= output.rows) continue;
        place[r] = output.place(row_of(r));
        CUTLASS_PRAGMA_UNROLL
        for (int c = 0; c < COLUMNS; c++) {
          if (columns(c).column >= output.columns) continue;
          Finish::load(pixel[r * COLUMNS + c], output.tensors, columns(c), place[r]);
        }
      }
    }
    CUTLASS_DEVICE void begin_row(int) {}
    CUTLASS_DEVICE void visit(int, int r, int c, int index, const cutlass::Array<float, E>& fragment) {
      const Columns at = columns(c);
      if (row_of(r) >= output.rows || at.column >= output.columns) return;
      float acc[E];
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < E; i++) acc[i] = fragment[i];
      if (!SPLIT) return finish(output, acc, channel[c], pixel[index], at, place[r]);
      float* partial = output.partial + ((int64_t)slice * output.rows + row_of(r)) * output.columns + at.column;
      CUTLASS_PRAGMA_UNROLL
      for (int i = 0; i < E; i += PARTIAL)
        if (at.column + i < output.columns) store_pack<PARTIAL>(partial + i, acc + i);
    }
    CUTLASS_DEVICE void end_row(int) {}
    CUTLASS_DEVICE void end_step(int) {
      row += Map::Shape::kRow;
      if (++row_count < Map::Count::kRow) return;
      row_count = 0;
      row += (Map::Shape::kGroup - 1) * Map::Shape::kRow * Map::Count::kRow;
      if (++group_count < Map::Count::kGroup) return;
      group_count = 0;
      row += Map::Count::kGroup * Map::Shape::kGroup * Map::Count::kRow * Map::Shape::kRow;
    }
    CUTLASS_DEVICE void end_epilogue() {}
  };

  const Params& output;

  CUTLASS_DEVICE Visitor(const Params& params, SharedStorage&) : output(params) {}

  template <class Tile>
  CUTLASS_DEVICE Callbacks get_callbacks(cutlass::gemm::GemmCoord tile, int thread, Tile) {
    const cutlass::MatrixCoord start = Map::initial_offset(thread);
    const int z = tile.k();
    return {output, tile.m() * Tile::kM + start.row(), SPLIT ? 0 : z * output.columns,
            tile.n() * Tile::kN + start.column(), z, 0, 0};
  }
};

// The kernel. `Base` is a cutlass::conv::kernel::ImplicitGemmConvolution: its main loop, its epilogue's data movement.
template <class Base, class Finish, bool SPLIT>
struct ImplicitGemm {
  typedef typename Base::Mma Mma;
  typedef typename Base::ThreadblockSwizzle Swizzle;
  typedef typename Base::ThreadblockShape Tile;
  typedef typename Base::ElementA Element;
  typedef cutlass::layout::TensorNHWC Layout;
  typedef Visitor<Finish, typename Base::Epilogue::OutputTileIterator, SPLIT> Callback;
  typedef cutlass::epilogue::threadblock::EpilogueWithVisitorCallbacks<typename Base::Epilogue, Callback, 1> Epilogue;
  enum { THREADS = Base::kThreadCount };

  struct Params {
    cutlass::conv::Conv2dProblemSize problem;
    cutlass::gemm::GemmCoord grid;
    int swizzle, iterations, iterations_per_channel;
    typename Mma::IteratorA::Params x_params;
    const Element* x;
    typename Mma::IteratorB::Params weights_params;
    const Element* weights;
    int64_t group_weights;
    Output<Finish> output;
  };

  union SharedStorage {
    typename Mma::SharedStorage main_loop;
    typename Epilogue::SharedStorage epilogue;
  };

  CUTLASS_DEVICE void operator()(const Params& params, SharedStorage& shared) {
    const cutlass::gemm::GemmCoord tile = Swizzle().get_tile_offset(params.swizzle);
    if (params.grid.m() <= tile.m() || params.grid.n() <= tile.n()) return;
    const int z = tile.k(), thread = threadIdx.x;
    const int slice = SPLIT ? z : 0, group = SPLIT ? 0 : z;
    typename Mma::IteratorA x(params.x_params, params.problem, params.x + (int64_t)group * params.problem.C, thread,
                              {tile.m() * Tile::kM, slice * Tile::kK});
    typename Mma::IteratorB weights(params.weights_params, params.problem,
                                    params.weights + group * params.group_weights, thread,
                                    {slice * Tile::kK, tile.n() * Tile::kN});
    const int warp = cutlass::canonical_warp_idx_sync(), lane = thread % 32;
    Mma mma(shared.main_loop, thread, warp, lane);
    typename Mma::FragmentC accumulators;
    accumulators.clear();
    mma(params.iterations, accumulators, x, weights, accumulators, params.iterations_per_channel);
    Epilogue epilogue(params.output, shared.epilogue, thread, warp, lane);
    epilogue(accumulators, tile, Tile(), thread);
  }
};

// Adds the slices of split-K and finishes: one thread per kFragment channels of a pixel.
template <class Finish>
__global__ void add_slices(Output<Finish> output, int slices) {
  enum { E = Finish::kFragment, V = Finish::kVector, PARTIAL = V < 4 ? V : 4 };
  const int steps = (output.columns + E - 1) / E;
  const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= (int64_t)steps * output.rows) return;
  const int row = (int)(index / steps);
  const Columns at = {0, (int)(index % steps) * E, output.columns};
  const Place place = output.place(row);
  typename Finish::Channel channel;
  typename Finish::Pixel pixel;
  Finish::load(channel, output.tensors, at);
  Finish::load(pixel, output.tensors, at, place);
  float acc[E] = {};
  const float* partial = output.partial + (int64_t)row * output.columns + at.column;
  for (int s = 0; s < slices; s++, partial += (int64_t)output.rows * output.columns) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < E; i += PARTIAL) {
      if (at.column + i >= output.columns) continue;
      float addend[PARTIAL];
      load_pack<PARTIAL>(addend, partial + i);
      CUTLASS_PRAGMA_UNROLL
      for (int j = 0; j < PARTIAL; j++) acc[i + j] += addend[j];
    }
  }
  finish(output, acc, channel, pixel, at, place);
}

// All images of a convolution, as many at a time as the unit's `images` says.
template <class Unit>
int run_images(const BoltConv& a, cudaStream_t stream) {
  if (const int status = Unit::check(a)) return status;
  const int64_t step = Unit::images(a);
  for (int64_t first = 0; first < a.n; first += step) {
    const int64_t rest = a.n - first;
    if (const int status = Unit::launch(a, first, rest < step ? rest : step, stream)) return status;
  }
  return 0;
}

// The host side of one unit.
template <class Base, class Finish, bool SPLIT>
struct Convolution {
  typedef ImplicitGemm<Base, Finish, SPLIT> Kernel;
  typedef typename Kernel::Element Element;

  static int code(cutlass::Status status) { return -(int)status; }

  static int slices(const BoltConv& a) { return SPLIT && a.split_k > 1 ? (int)a.split_k : 1; }

  static int64_t workspace(const BoltConv& a) {
    return SPLIT ? slices(a) * a.n * a.p * a.q * a.k * (int64_t)sizeof(float) : 0;
  }

  // Images per launch: the iterators count the bits of the input, or bytes, in 32 bits.
  static int64_t images(const BoltConv& a) {
    typedef cutlass::conv::IteratorAlgorithm Algorithm;
    const bool bits = Base::kIteratorAlgorithm == Algorithm::kFixedChannels ||
                      Base::kIteratorAlgorithm == Algorithm::kFewChannels;
    const int64_t limit = INT32_MAX / (bits ? cutlass::sizeof_bits<Element>::value : (int)sizeof(Element));
    const int64_t image = (a.h - 1) * a.x_strides[1] + (a.w - 1) * a.x_strides[2] + a.c;
    if (image > limit || a.p * a.q > INT32_MAX / 2) return 0;
    int64_t count = a.x_strides[0] > 0 ? (limit - image) / a.x_strides[0] + 1 : a.n;
    const int64_t rows = INT32_MAX / 2 / (a.p * a.q);
    count = count < rows ? count : rows;
    return count < a.n ? count : a.n;
  }

  static cutlass::conv::Conv2dProblemSize problem(const BoltConv& a, int64_t n) {
    return cutlass::conv::Conv2dProblemSize((int)n, (int)a.h, (int)a.w, (int)(a.c / a.groups), (int)(a.k / a.groups),
                                            (int)a.r, (int)a.s, (int)a.p, (int)a.q, (int)a.pad[0], (int)a.pad[1],
                                            (int)a.stride[0], (int)a.stride[1], (int)a.dilation[0],
                                            (int)a.dilation[1], cutlass::conv::Mode::kCrossCorrelation, slices(a), 1);
  }

  static int check(const BoltConv& a) {
    const int64_t n = images(a);
    if (n < 1 || (SPLIT && (n < a.n || a.groups > 1))) return code(cutlass::Status::kErrorInvalidProblem);
    const cutlass::conv::Conv2dProblemSize size = problem(a, n);
    cutlass::Status status = Kernel::Mma::IteratorA::can_implement(size);
    if (status == cutlass::Status::kSuccess) status = Kernel::Mma::IteratorB::can_implement(size);
    if (status != cutlass::Status::kSuccess) return code(status);
    constexpr int BYTES = Kernel::Mma::IteratorA::AccessType::kElements * (int)sizeof(Element);
    uintptr_t bits = (uintptr_t)a.x | (uintptr_t)a.weights;
    for (int i = 0; i < 3; i++) bits |= (uintptr_t)a.x_strides[i] * sizeof(Element);
    if (bits % BYTES) return code(cutlass::Status::kErrorMisalignedOperand);
    bits = (uintptr_t)a.y;
    for (int i = 0; i < 3; i++) bits |= (uintptr_t)a.y_strides[i] * sizeof(typename Finish::Out);
    if (bits % (Finish::kVector * sizeof(typename Finish::Out)) || a.k / a.groups % Finish::kVector)
      return code(cutlass::Status::kErrorMisalignedOperand);
    return a.groups > 65535 ? code(cutlass::Status::kErrorInvalidProblem) : 0;
  }

  static Output<Finish> output(const BoltConv& a, int64_t first, int64_t n) {
    Output<Finish> o;
    o.tensors.y = (typename Finish::Out*)a.y + first * a.y_strides[0];
    for (int i = 0; i < 3; i++) o.tensors.y_strides[i] = a.y_strides[i];
    for (int i = 0; i < Finish::kExtras; i++) {
      o.tensors.extras[i] = a.extras[i];
      o.tensors.extras[i].data =
          (const char*)a.extras[i].data + first * a.extras[i].strides[0] * Finish::extra_bytes(i);
    }
    o.partial = (float*)a.workspace;
    o.rows = (int)(n * a.p * a.q);
    o.columns = (int)(a.k / a.groups);
    o.image = cutlass::FastDivmod((int)(a.p * a.q));
    o.line = cutlass::FastDivmod((int)a.q);
    return o;
  }

  static int launch(const BoltConv& a, int64_t first, int64_t n, cudaStream_t stream) {
    typedef typename Kernel::Tile Tile;
    typename Kernel::Swizzle swizzle;
    const cutlass::conv::Conv2dProblemSize size = problem(a, n);
    const cutlass::gemm::GemmCoord extent(size.N * size.P * size.Q, size.K, size.R * size.S * size.C);
    const cutlass::gemm::GemmCoord grid =
        swizzle.get_tiled_shape(extent, {Tile::kM, Tile::kN, Tile::kK}, SPLIT ? slices(a) : (int)a.groups);
    const int64_t* s = a.x_strides;
    const cutlass::layout::TensorNHWC x_layout({(int)s[2], (int)s[1], (int)s[0]});
    const cutlass::layout::TensorNHWC w_layout({size.C, size.S * size.C, size.R * size.S * size.C});
    constexpr auto FPROP = cutlass::conv::Operator::kFprop;
    typename Kernel::Params params = {
        size,
        grid,
        swizzle.get_log_tile(grid),
        cutlass::conv::implicit_gemm_k_iterations(FPROP, Tile::kK, size, Base::kIteratorAlgorithm),
        cutlass::conv::implicit_gemm_k_iterations_per_channel(FPROP, size, Base::kIteratorAlgorithm),
        Kernel::Mma::IteratorA::getParams(size, x_layout),
        (const Element*)a.x + first * s[0],
        typename Kernel::Mma::IteratorB::Params(size, w_layout),
        (const Element*)a.weights,
        (int64_t)size.K * size.R * size.S * size.C,
        output(a, first, n),
    };
    constexpr int SHARED = (int)sizeof(typename Kernel::SharedStorage);
    if (SHARED >= 48 << 10) {
      const cudaError_t error =
          cudaFuncSetAttribute(cutlass::Kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
      if (error != cudaSuccess) return error;
    }
    cutlass::Kernel<Kernel><<<swizzle.get_grid_shape(grid), Kernel::THREADS, SHARED, stream>>>(params);
    if constexpr (SPLIT) {
      const int64_t threads = params.output.rows * (int64_t)((size.K + Finish::kFragment - 1) / Finish::kFragment);
      add_slices<Finish><<<(unsigned)((threads + 127) / 128), 128, 0, stream>>>(params.output, slices(a));
    }
    return cudaGetLastError();
  }

  static int run(const BoltConv& a, cudaStream_t stream) { return run_images<Convolution>(a, stream); }
};

}  // namespace bolt
