// CUTLASS's attention kernel names the random state of its dropout even where dropout is compiled out. Declaring it is
// enough, and spares users the cuRAND package.
#pragma once

struct curandStatePhilox4_32_10_t {};
static inline __device__ void curand_init(unsigned long long, unsigned long long, unsigned long long,
                                          curandStatePhilox4_32_10_t*) {}
static inline __device__ float4 curand_uniform4(curandStatePhilox4_32_10_t*) { return float4{}; }
