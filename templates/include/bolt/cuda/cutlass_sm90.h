// What all units of CUTLASS 3.x collectives share: from BoltGemm and BoltConv to the kernel's arguments and its launch.
// A unit describes its kernel by a struct (see templates/cutlass_gemm_sm90.cu.jinja).
#pragma once
#include "bolt/cuda/launch.h"
#include "bolt/cuda/tma.h"
#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/kernel_hardware_info.hpp"

namespace bolt_sm90 {

// The multiprocessors of the current device; a CUDA error when there is none.
inline cudaError_t hardware(cutlass::KernelHardwareInfo* info) {
  cudaError_t error = cudaGetDevice(&info->device_id);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&info->sm_count, cudaDevAttrMultiProcessorCount, info->device_id);
  }
  return error;
}

// A stride of CUTLASS 3.x (rows, columns, batch), one of the first two being the constant 1; a constant batch stride
// (0, of an operand all batches share) takes no value.
template <class Stride>
Stride stride(int64_t leading, int64_t batch) {
  Stride out{};
  if constexpr (cute::is_static_v<cute::tuple_element_t<0, Stride>>) {
    cute::get<1>(out) = leading;
  } else {
    cute::get<0>(out) = leading;
  }
  if constexpr (!cute::is_static_v<cute::tuple_element_t<2, Stride>>) cute::get<2>(out) = batch;
  return out;
}

template <class Unit>
struct Gemm {
  using Adapter = typename Unit::Adapter;
  using Kernel = typename Adapter::GemmKernel;
  using Arguments = typename Adapter::Arguments;
  using ElementA = typename Unit::ElementA;
  using ElementB = typename Unit::ElementB;
  using ElementD = typename Unit::ElementD;

  static bool is_aligned(const BoltGemm& g) {
    const int64_t a[] = {g.lda, g.a_batch}, b[] = {g.ldb, g.b_batch}, d[] = {g.ldd, g.d_batch};
    const int batched = g.batch > 1 ? 2 : 1;
    bool aligned = tma_can_read(g.a, sizeof(ElementA), a, Unit::A_SHARED ? 1 : batched) &&
                   tma_can_read(g.b, sizeof(ElementB), b, Unit::B_SHARED ? 1 : batched) &&
                   tma_can_read(g.d, sizeof(ElementD), d, batched);
    if constexpr (Unit::SOURCE >= 0) {
      const BoltExtra& c = g.extras[Unit::SOURCE];
      const int64_t steps[] = {c.strides[1], c.strides[0]};
      aligned = aligned && tma_can_read(c.data, sizeof(typename Unit::ElementC), steps, Unit::C_SHARED ? 1 : batched);
    }
    return aligned;
  }

  static Arguments arguments(const BoltGemm& g, const cutlass::KernelHardwareInfo& info) {
    const int64_t many = g.batch > 1;  // the step of a single batch may be anything, also what TMA refuses
    Arguments out{};
    out.mode = cutlass::gemm::GemmUniversalMode::kGemm;
    out.problem_shape = {int(g.m), int(g.n), int(g.k), int(g.batch)};
    out.mainloop.ptr_A = static_cast<const ElementA*>(g.a);
    out.mainloop.dA = stride<typename Kernel::StrideA>(g.lda, many * g.a_batch);
    out.mainloop.ptr_B = static_cast<const ElementB*>(g.b);
    out.mainloop.dB = stride<typename Kernel::StrideB>(g.ldb, many * g.b_batch);
    out.epilogue.thread = Unit::fusion(g);
    out.epilogue.ptr_D = static_cast<ElementD*>(g.d);
    out.epilogue.dD = stride<typename Kernel::StrideD>(g.ldd, many * g.d_batch);
    if constexpr (Unit::SOURCE >= 0) {
      const BoltExtra& c = g.extras[Unit::SOURCE];
      out.epilogue.ptr_C = static_cast<const typename Unit::ElementC*>(c.data);
      out.epilogue.dC = stride<typename Kernel::StrideC>(c.strides[1], many * c.strides[0]);
    }
    out.hw_info = info;
    out.scheduler.max_swizzle_size = g.swizzle > 0 ? int(g.swizzle) : 1;
    if constexpr (Unit::SPLITS) out.scheduler.splits = g.split_k > 0 ? int(g.split_k) : 1;
    return out;
  }

  static int check(const BoltGemm& g) {
    if (!is_extent(g.batch) || !is_extent(g.m) || !is_extent(g.n) || !is_extent(g.k)) {
      return code(cutlass::Status::kErrorInvalidProblem);
    }
    if (!is_aligned(g)) return code(cutlass::Status::kErrorMisalignedOperand);
    return code(Adapter::can_implement(arguments(g, {0, Unit::MULTIPROCESSORS})));
  }

  // Without a device: for the one the unit was made for.
  static int64_t workspace(const BoltGemm& g) {
    cutlass::KernelHardwareInfo info;
    if (hardware(&info) != cudaSuccess) info.sm_count = Unit::MULTIPROCESSORS;
    return int64_t(Adapter::get_workspace_size(arguments(g, info)));
  }

  static int run(const BoltGemm& g, cudaStream_t stream) {
    if (const int refused = check(g)) return refused;
    cutlass::KernelHardwareInfo info;
    if (const cudaError_t error = hardware(&info)) return error;
    Adapter adapter;
    cutlass::Status status = adapter.initialize(arguments(g, info), g.workspace, stream);
    if (status == cutlass::Status::kSuccess) status = adapter.run(stream);
    return code(status);
  }
};

template <class Unit>
struct Conv {
  using Adapter = typename Unit::Adapter;
  using Kernel = typename Adapter::ConvKernel;
  using Arguments = typename Adapter::Arguments;
  using Problem = typename Unit::Problem;
  using Element = typename Unit::Element;
  using ElementD = typename Unit::ElementD;

  static bool has_extents(const BoltConv& g) {
    bool valid = true;
    for (int64_t n : {g.n, g.h, g.w, g.c, g.k, g.p, g.q, g.r, g.s}) valid = valid && is_extent(n);
    for (int i = 0; i < 2; i++) {
      valid = valid && g.pad[i] >= 0 && is_extent(g.stride[i]) && is_extent(g.dilation[i]) && g.pad[i] < INT_MAX;
      valid = valid && g.stride[i] <= 8;  // elementStrides of cuTensorMapEncodeIm2col
    }
    return valid && g.groups == 1;
  }

  static bool is_aligned(const BoltConv& g) {
    bool aligned = tma_can_read(g.x, sizeof(Element), g.x_strides, 3) && tma_can_read(g.weights, 1, nullptr, 0) &&
                   tma_can_read(g.y, sizeof(ElementD), g.y_strides, 3);
    if constexpr (Unit::SOURCE >= 0) {
      const BoltExtra& c = g.extras[Unit::SOURCE];
      aligned = aligned && tma_can_read(c.data, sizeof(typename Unit::ElementC), c.strides, 3);
    }
    return aligned;
  }

  // Zeros after the last row or column that the taps of the last output reach.
  static int padding_after(int64_t in, int64_t out, int64_t taps, int64_t pad, int64_t stride, int64_t dilation) {
    const int64_t reached = (out - 1) * stride + (taps - 1) * dilation + 1 - pad;
    return reached > in ? int(reached - in) : 0;
  }

  static Problem problem(const BoltConv& g) {
    using Extent = typename Problem::TensorExtent;
    using Steps = typename Problem::TensorStride;
    using Spatial = typename Problem::SpatialExtent;
    const int k = int(g.k), r = int(g.r), s = int(g.s), c = int(g.c);
    const Spatial after = {padding_after(g.h, g.p, g.r, g.pad[0], g.stride[0], g.dilation[0]),
                           padding_after(g.w, g.q, g.s, g.pad[1], g.stride[1], g.dilation[1])};
    return Problem(cutlass::conv::Mode::kCrossCorrelation, Extent{int(g.n), int(g.h), int(g.w), c},
                   Steps{g.x_strides[0], g.x_strides[1], g.x_strides[2], 1}, Extent{k, r, s, c},
                   Steps{g.r * g.s * g.c, g.s * g.c, g.c, 1}, Spatial{int(g.pad[0]), int(g.pad[1])}, after,
                   Spatial{int(g.stride[0]), int(g.stride[1])}, Spatial{int(g.dilation[0]), int(g.dilation[1])}, 1);
  }

  // Strides over ((q, p, n), channels).
  template <class Stride>
  static Stride pixels(const int64_t* steps) {
    Stride out{};
    cute::get<0, 0>(out) = steps[2];
    cute::get<0, 1>(out) = steps[1];
    cute::get<0, 2>(out) = steps[0];
    return out;
  }

  static Arguments arguments(const BoltConv& g) {
    Arguments out{};
    out.problem_shape = problem(g);
    out.mainloop.ptr_A = static_cast<const Element*>(g.x);
    out.mainloop.ptr_B = static_cast<const Element*>(g.weights);
    out.epilogue.thread = Unit::fusion(g);
    out.epilogue.ptr_D = static_cast<ElementD*>(g.y);
    out.epilogue.dD = pixels<typename Kernel::StrideD>(g.y_strides);
    if constexpr (Unit::SOURCE >= 0) {
      const BoltExtra& c = g.extras[Unit::SOURCE];
      out.epilogue.ptr_C = static_cast<const typename Unit::ElementC*>(c.data);
      out.epilogue.dC = pixels<typename Kernel::StrideC>(c.strides);
    }
    return out;
  }

  static int check(const BoltConv& g) {
    if (!has_extents(g)) return code(cutlass::Status::kErrorInvalidProblem);
    const Problem whole = problem(g);
    if (whole.shape_C[1] != g.p || whole.shape_C[2] != g.q) return code(cutlass::Status::kErrorInvalidProblem);
    if (!is_aligned(g)) return code(cutlass::Status::kErrorMisalignedOperand);
    return code(Adapter::can_implement(arguments(g)));
  }

  static int64_t workspace(const BoltConv& g) { return int64_t(Adapter::get_workspace_size(arguments(g))); }

  static int run(const BoltConv& g, cudaStream_t stream) {
    if (const int refused = check(g)) return refused;
    cutlass::KernelHardwareInfo info;
    if (const cudaError_t error = hardware(&info)) return error;
    Adapter adapter;
    cutlass::Status status = adapter.initialize(arguments(g), g.workspace, stream);
    if (status == cutlass::Status::kSuccess) status = adapter.run(stream);
    return code(status);
  }
};

}  // namespace bolt_sm90
