// What TMA can move, and the codes by which units refuse what it can't.
#pragma once
#include <limits.h>
#include <stdint.h>

#include "cutlass/cutlass.h"

namespace bolt_sm90 {

inline int code(cutlass::Status status) { return -static_cast<int>(status); }

// TMA moves boxes whose start and strides are multiples of 16 bytes (CUDA driver API, cuTensorMapEncodeTiled).
inline bool tma_can_read(const void* data, int element_bytes, const int64_t* strides, int count) {
  bool fits = reinterpret_cast<uintptr_t>(data) % 16 == 0;
  for (int i = 0; i < count; i++) {
    fits = fits && strides[i] >= 0 && strides[i] * element_bytes % 16 == 0 && strides[i] * element_bytes < (1ll << 40);
  }
  return fits;
}

inline bool is_extent(int64_t n) { return 0 < n && n <= INT_MAX; }

}  // namespace bolt_sm90
