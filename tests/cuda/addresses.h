// Where the pretended device's memory is among the addresses of the host.
#pragma once
#include <stdint.h>

namespace emu {
constexpr uint64_t kSharedWindow = 0x200000000000;         // generic address of the shared address 0
constexpr uint64_t kDeviceArena = 0x300000000000;          // global memory of device 0; the others follow
constexpr uint64_t kDeviceArenaBytes = uint64_t(1) << 38;  // of all devices
}  // namespace emu
