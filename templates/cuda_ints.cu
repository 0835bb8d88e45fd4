// Writes integers that the host knows (a shape, a range). They travel as parameters of the kernel: a copy from
// host memory could not be captured into a CUDA graph and replayed with the values of that run.
#include <stdint.h>

namespace bolt_ints {

enum { kMost = 128 };

struct Values {
  int64_t at[kMost];
};

template <class T>
__global__ void write(T* out, const __grid_constant__ Values values, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) out[i] = static_cast<T>(values.at[i]);
}

template <class T>
int put(void* out, const Values& values, int count, cudaStream_t stream) {
  write<<<1, kMost, 0, stream>>>(static_cast<T*>(out), values, count);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace bolt_ints

extern "C" int bolt_write_ints(void* out, int size, const int64_t* values, int count, cudaStream_t stream) {
  using namespace bolt_ints;
  for (int first = 0; first < count; first += kMost) {
    Values chunk = {};
    const int length = count - first < kMost ? count - first : kMost;
    for (int i = 0; i < length; i++) chunk.at[i] = values[first + i];
    char* const at = static_cast<char*>(out) + static_cast<int64_t>(first) * size;
    const int code = size == 8 ? put<int64_t>(at, chunk, length, stream) : put<int32_t>(at, chunk, length, stream);
    if (code != 0) return code;
  }
  return 0;
}
