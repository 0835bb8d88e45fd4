// What units of CUTLASS 2.x kernels share: launching a kernel with parameters built on the host, and a thread layout
// for visitor trees behind any epilogue. cutlass::gemm::device adapters are not used because they ask the device for
// its properties before they tell a workspace's size, and plans are made on machines without one.
#pragma once
#include <cuda_runtime_api.h>
#include <stdint.h>

#include <atomic>

#include "bolt/cuda/launch.h"
#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"
#include "cutlass/gemm_coord.h"
#include "cutlass/matrix_coord.h"

namespace bolt {

// The layout of a visitor tree behind any epilogue whose threads share an output tile by `ThreadMap` (an
// OutputTileOptimalThreadMap). CUTLASS's own, OutputTileThreadLayout, takes the rows a thread iterates over for other
// threads' rows, which they are not behind CUDA cores.
template <class ThreadMap>
struct Layout : ThreadMap {
  using Shape = typename ThreadMap::Shape;
  using Count = typename ThreadMap::Count;
  using Delta = typename ThreadMap::Delta;
  using Iterations = typename ThreadMap::Iterations;

  static int const Stages = 1;
  static int const kElementsPerAccess = ThreadMap::kElementsPerAccess;

  static int const GROUP = Shape::kRow * Count::kRow;
  static int const CLUSTER = GROUP * Shape::kGroup * Count::kGroup;
  static int const ROWS = CLUSTER * Shape::kCluster * Count::kCluster;
  static int const COLUMNS = Shape::kColumn * Count::kColumn;

  // Of one iteration, a thread's rows are evenly spaced.
  static int const FRAGMENTS = Iterations::kRow * Iterations::kGroup * Iterations::kCluster;
  static int const STEP = Iterations::kRow > 1 ? Delta::kRow : Iterations::kGroup > 1 ? Delta::kGroup : Delta::kCluster;
  static_assert(FRAGMENTS == Iterations::kRow || FRAGMENTS == Iterations::kGroup || FRAGMENTS == Iterations::kCluster,
                "rows, groups or clusters");

  // What a thread has of its block's tile: (vector, column, row, iteration over rows, groups and clusters).
  template <class Tensor>
  CUTLASS_DEVICE static auto partition(Tensor&& all, int thread, cutlass::gemm::GemmCoord block) {
    using namespace cute;
    const auto tile = local_tile(all, make_shape(Int<ROWS>{}, Int<COLUMNS>{}, _1{}),
                                 make_coord(block.m(), block.n(), block.k()))(_, _, _0{});
    const cutlass::MatrixCoord first = ThreadMap::initial_offset(thread);
    const auto mine = domain_offset(make_coord(first.row(), first.column()), tile);
    const auto by_column = make_tensor(mine.data(), make_layout(get<1>(mine.layout()), get<0>(mine.layout())));
    return by_column.compose(make_layout(
        make_shape(Int<kElementsPerAccess>{}, Int<Iterations::kColumn>{}, Int<FRAGMENTS>{}, Int<Count::kRow>{},
                   Int<Count::kGroup>{}, Int<Count::kCluster>{}),
        make_stride(_1{}, Int<Delta::kColumn>{}, Int<COLUMNS * STEP>{}, Int<COLUMNS * Shape::kRow>{},
                    Int<COLUMNS * GROUP * Shape::kGroup>{}, Int<COLUMNS * CLUSTER * Shape::kCluster>{})));
  }
};

// The layout of a visitor tree that runs in (the epilogue of) a default kernel.
template <class Epilogue>
using LayoutOf = Layout<typename Epilogue::OutputTileIterator::ThreadMap>;

inline int failed(cutlass::Status status) { return -(int)status; }

inline bool is_aligned(const void* address, int64_t bytes) { return (uintptr_t)address % bytes == 0; }

// Shared memory beyond 48 KB has to be asked for, once for each kernel and device. Internal linkage: another module of
// the process may hold the same kernel, for which it has to be asked again.
template <auto KERNEL>
static int allow_shared_memory(int bytes) {
  static std::atomic<uint64_t> allowed{0};
  if (bytes < (48 << 10)) return 0;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  const uint64_t bit = 1ull << (device & 63);
  if (device < 64 && allowed.load(std::memory_order_relaxed) & bit) return 0;
  const cudaError_t error =
      cudaFuncSetAttribute((const void*)KERNEL, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error) return error;
  if (device < 64) allowed.fetch_or(bit, std::memory_order_relaxed);
  return 0;
}

// Enqueues a kernel with the grid its parameters ask for.
template <class Kernel>
static int launch(typename Kernel::Params& params, dim3 grid, CUstream_st* stream) {
  constexpr int BYTES = (int)sizeof(typename Kernel::SharedStorage);
  constexpr auto KERNEL = &cutlass::Kernel2<Kernel>;
  if (const int error = allow_shared_memory<KERNEL>(BYTES)) return error;
  void* arguments[] = {&params};
  return cudaLaunchKernel((const void*)KERNEL, grid, dim3(Kernel::kThreadCount), arguments, BYTES, stream);
}

}  // namespace bolt
