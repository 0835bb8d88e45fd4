// cuTensorMapEncode*: what the driver refuses, after the "CUDA Driver API", section "Tensor Map Object
// Management".
#include "tensormap.h"

#include <string.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emu {
namespace {

constexpr int kInvalidValue = 1;
constexpr uint8_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};  // by CUtensorMapDataType

// What both modes share; false when the driver would refuse it.
bool start(TensorMap* map, int type, uint32_t rank, void* address, const uint64_t* dims,
           const uint64_t* strides, const uint32_t* steps, int interleave, int swizzle, int fill) {
  memset(map, 0, 128);
  if (type < 0 || type >= int(sizeof kElementBytes) || rank < 1 || rank > 5 || interleave || swizzle < 0 ||
      swizzle > 3)
    return false;
  uint64_t at = reinterpret_cast<uint64_t>(address);
  if (at % 16 || !at) return false;
  *map = {};
  map->magic = kTensorMapMagic;
  map->address = at;
  map->rank = uint8_t(rank);
  map->type = uint8_t(type);
  map->element_bytes = kElementBytes[type];
  map->swizzle = uint8_t(swizzle);
  map->fills_nan = uint8_t(fill);
  for (uint32_t i = 0; i < rank; i++) {
    if (dims[i] < 1 || dims[i] > (uint64_t(1) << 32) || steps[i] < 1 || steps[i] > 8) return false;
    map->dims[i] = uint32_t(dims[i] - 1);
    map->steps[i] = uint8_t(steps[i]);
  }
  for (uint32_t i = 0; i + 1 < rank; i++) {
    if (strides[i] % 16 || strides[i] >= (uint64_t(1) << 40)) return false;
    map->strides[i] = strides[i];
  }
  return true;
}

bool fits_swizzle(int swizzle, uint32_t inner_bytes) {
  return inner_bytes % 16 == 0 && (swizzle == 0 || inner_bytes <= 16u << swizzle);
}

}  // namespace
}  // namespace emu

using namespace emu;

EXPORT int cuTensorMapEncodeTiled(void* out, int type, uint32_t rank, void* address, const uint64_t* dims,
                                  const uint64_t* strides, const uint32_t* box, const uint32_t* steps,
                                  int interleave, int swizzle, int, int fill) {
  TensorMap map;
  alignas(64) unsigned char space[128];
  if (reinterpret_cast<uint64_t>(out) % 64) return kInvalidValue;
  if (!start(reinterpret_cast<TensorMap*>(space), type, rank, address, dims, strides, steps, interleave,
             swizzle, fill))
    return kInvalidValue;
  memcpy(&map, space, sizeof map);
  for (uint32_t i = 0; i < rank; i++) {
    if (box[i] < 1 || box[i] > 256) return kInvalidValue;
    map.box[i] = uint16_t(box[i]);
  }
  if (!fits_swizzle(swizzle, box[0] * map.element_bytes)) return kInvalidValue;
  memset(out, 0, 128);
  memcpy(out, &map, sizeof map);
  return 0;
}

EXPORT int cuTensorMapEncodeIm2col(void* out, int type, uint32_t rank, void* address, const uint64_t* dims,
                                   const uint64_t* strides, const int* lower, const int* upper,
                                   uint32_t channels, uint32_t pixels, const uint32_t* steps, int interleave,
                                   int swizzle, int, int fill) {
  TensorMap map;
  alignas(64) unsigned char space[128];
  if (reinterpret_cast<uint64_t>(out) % 64 || rank < 3) return kInvalidValue;
  if (!start(reinterpret_cast<TensorMap*>(space), type, rank, address, dims, strides, steps, interleave,
             swizzle, fill))
    return kInvalidValue;
  memcpy(&map, space, sizeof map);
  const int limit = rank == 3 ? 1 << 15 : rank == 4 ? 1 << 7 : 1 << 4;  // corners have 16, 8 or 5 bits
  for (uint32_t i = 0; i + 2 < rank; i++) {
    if (lower[i] < -limit || lower[i] >= limit || upper[i] < -limit || upper[i] >= limit)
      return kInvalidValue;
    map.lower[i] = int16_t(lower[i]);
    map.upper[i] = int16_t(upper[i]);
  }
  if (channels < 1 || channels > 256 || pixels < 1 || pixels > 1024) return kInvalidValue;
  if (!fits_swizzle(swizzle, channels * map.element_bytes)) return kInvalidValue;
  map.is_im2col = 1;
  map.channels = uint16_t(channels);
  map.pixels = uint16_t(pixels);
  memset(out, 0, 128);
  memcpy(out, &map, sizeof map);
  return 0;
}
