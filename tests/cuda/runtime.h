// The pretended CUDA runtime: what nvcc's host code and CUTLASS call, on the driver of driver.cc and the
// machine.
#pragma once
#include <stddef.h>

namespace emu {
// Whether kernels may access these bytes: a variable of a module, or pinned memory.
bool is_host_memory(const void* address, size_t bytes);
}  // namespace emu
