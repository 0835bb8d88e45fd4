// The 128-byte descriptor of a tensor copy, in our own encoding (CUDA's is not public).
#pragma once
#include <stdint.h>

namespace emu {

struct TensorMap {
  uint64_t magic;
  uint64_t address;
  uint64_t strides[4];  // bytes, of dims 1 ...
  uint32_t dims[5];
  uint16_t box[5];   // tile mode
  uint8_t steps[5];  // element strides
  uint8_t rank, element_bytes, type, swizzle, is_im2col, fills_nan;
  int16_t lower[3], upper[3];  // im2col: corners of the pixel box, of dims 1 ...
  uint16_t channels, pixels;   // im2col
};
static_assert(sizeof(TensorMap) <= 128, "CUtensorMap has 128 bytes");
constexpr uint64_t kTensorMapMagic = 0x50414D524F534E45;

}  // namespace emu
