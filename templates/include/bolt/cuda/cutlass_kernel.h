// What units of CUTLASS 2.x kernels share: launching a kernel with parameters built on the host, and a thread layout
// for visitor trees behind any epilogue. cutlass::gemm::device adapters are not used because they ask the device for
// its properties before they tell a workspace's size, and plans are made on machines without one.
#pragma once
#include <cuda_runtime_api.h>
#include <stdint.h>

#include <atomic>

#include "bolt/cuda/launch.h"
#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"
#include "cutlass/epilogue/threadblock/default_thread_map_tensor_op.h"
#include "cutlass/numeric_conversion.h"  // visitor_2x.hpp needs it and does not include it
// clang-format off
#include "cutlass/epilogue/threadblock/fusion/visitor_2x.hpp"
// clang-format on

namespace bolt {

// Stands for a warp shape in OutputTileThreadLayout, which then takes a given thread map instead of deriving that of
// tensor cores.
template <class ThreadblockShape, class ThreadMap>
struct Mapped {
  static int const kK = ThreadblockShape::kK;
};

}  // namespace bolt

namespace cutlass::epilogue::threadblock {

template <class ThreadblockShape, class ThreadMap, int PARTITIONS, class Element, int ACCESS>
struct DefaultThreadMapTensorOp<ThreadblockShape, bolt::Mapped<ThreadblockShape, ThreadMap>, PARTITIONS, Element,
                                ACCESS> {
  using Type = ThreadMap;
};

}  // namespace cutlass::epilogue::threadblock

namespace bolt {

// The layout of a visitor tree that runs in (the epilogue of) a default kernel.
template <class ThreadblockShape, class Epilogue>
using LayoutOf = cutlass::epilogue::threadblock::OutputTileThreadLayout<
    ThreadblockShape, Mapped<ThreadblockShape, typename Epilogue::OutputTileIterator::ThreadMap>,
    typename Epilogue::OutputTileIterator::Element, Epilogue::OutputTileIterator::kElementsPerAccess>;

inline int failed(cutlass::Status status) { return -(int)status; }

inline bool is_aligned(const void* address, int64_t bytes) { return (uintptr_t)address % bytes == 0; }

// Shared memory beyond 48 KB has to be asked for, once for each kernel and device.
template <class Kernel>
int allow_shared_memory(int bytes) {
  static std::atomic<uint64_t> allowed{0};
  if (bytes < (48 << 10)) return 0;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return error;
  const uint64_t bit = 1ull << (device & 63);
  if (device < 64 && allowed.load(std::memory_order_relaxed) & bit) return 0;
  const cudaError_t error =
      cudaFuncSetAttribute((const void*)cutlass::Kernel2<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error) return error;
  if (device < 64) allowed.fetch_or(bit, std::memory_order_relaxed);
  return 0;
}

// Enqueues a kernel with the grid its parameters ask for.
template <class Kernel>
int launch(typename Kernel::Params& params, dim3 grid, CUstream_st* stream) {
  constexpr int BYTES = (int)sizeof(typename Kernel::SharedStorage);
  if (const int error = allow_shared_memory<Kernel>(BYTES)) return error;
  void* arguments[] = {&params};
  return cudaLaunchKernel((const void*)cutlass::Kernel2<Kernel>, grid, dim3(Kernel::kThreadCount), arguments, BYTES,
                          stream);
}

}  // namespace bolt
