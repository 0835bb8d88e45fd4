// The CUDA runtime API (of nvcc 13) for modules compiled with `-cudart none` and linked to this library.
// Kernels are found by their name among the translated ones of the same shared library.
#include "runtime.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "driver.h"
#include "fibers.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Of cuda_runtime_api.h and driver_types.h.
typedef int cudaError_t;
struct dim3 {
  unsigned x, y, z;
};
struct cudaLaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    struct {
      unsigned x, y, z;
    } clusterDim;
  } value;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  CUstream_st* stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
struct cudaFuncAttributes {
  size_t sharedSizeBytes, constSizeBytes, localSizeBytes;
  int maxThreadsPerBlock, numRegs, ptxVersion, binaryVersion, cacheModeCA, maxDynamicSharedSizeBytes,
      preferredShmemCarveout, clusterDimMustBeSet, requiredClusterWidth, requiredClusterHeight,
      requiredClusterDepth, clusterSchedulingPolicyPreference, nonPortableClusterSizeAllowed;
  int reserved[16];
};

namespace emu {
namespace {

enum {
  kSuccess = 0,
  kInvalidValue = 1,
  kInvalidConfiguration = 9,
  kInvalidSymbol = 13,
  kInvalidDeviceFunction = 98,
  kNoImage = 209,
  kMaxDynamicShared = 8,  // cudaFuncAttribute
  kNonPortableCluster = 14,
  kClusterDimension = 4,  // cudaLaunchAttributeID
  kPortableCluster = 8,
  kDefaultShared = 48 << 10,
};

struct Registered {
  std::string name;
  const void* library;
  const Module* module = nullptr;
  const Kernel* kernel = nullptr;
  int max_dynamic = -1;
  bool non_portable = false;
};

struct Call {
  dim3 grid, block;
  size_t shared;
  CUstream_st* stream;
};

struct Found {
  const void* library;
  const Module* module;
};

std::recursive_mutex mutex;
using Guard = std::lock_guard<std::recursive_mutex>;

struct State {
  std::vector<Found> modules;
  std::map<const void*, Registered> kernels;                           // by host function
  std::map<const void*, std::pair<std::string, const void*>> shadows;  // host variable: name, library
};

State& state() {
  static State& it = *new State;
  return it;
}

thread_local std::vector<Call> calls;
thread_local cudaError_t last_error = 0;

cudaError_t note(cudaError_t code) {
  if (!code) return code;
  last_error = code;
  const char* text = nullptr;
  cuGetErrorName(code, &text);
  if (getenv("FAKE_CUDA_TRACE")) fprintf(stderr, "fake CUDA runtime: error %d %s\n", code, text ? text : "");
  return code;
}

const void* library_of(const void* address) {
  Dl_info info = {};
  return dladdr(address, &info) ? info.dli_fbase : nullptr;
}

// The primary context of device 0, when the thread has none yet, as the runtime does.
cudaError_t ready(int* device = nullptr) {
  CUctx_st* context = nullptr;
  cuCtxGetCurrent(&context);
  if (!context) {
    if (int code = cuInit(0)) return code;
    if (int code = cuDevicePrimaryCtxRetain(&context, 0)) return code;
    cuCtxSetCurrent(context);
  }
  int current = 0;
  int code = cuCtxGetDevice(&current);
  if (device) *device = current;
  return code;
}

int attribute(int number) {
  int device = 0, value = 0;
  if (!ready(&device)) cuDeviceGetAttribute(&value, number, device);
  return value;
}

enum {
  kSharedPerSm = 81,
  kSharedOptin = 97,
  kThreadsPerSm = 39,
  kSmCount = 16,
  kMajor = 75,
  kMinor = 76,
  kBlocksPerSm = 106
};

// A cubin of sm_XY runs where the major number is the same and the minor one at least as large; one of sm_XYa
// only on that capability.
bool runs_on_device(const Module* module) {
  int major = attribute(kMajor), minor = attribute(kMinor);
  const char* text = module->target + 3;
  int number = atoi(text);
  if (text[strlen(text) - 1] == 'a') return number == 10 * major + minor;
  return number / 10 == major && number % 10 <= minor;
}

cudaError_t find(const void* host, Registered** out) {
  auto it = state().kernels.find(host);
  if (it == state().kernels.end()) return kInvalidDeviceFunction;
  Registered& r = it->second;
  for (size_t m = 0; !r.kernel && m < state().modules.size(); m++) {
    const Found& found = state().modules[m];
    if (found.library != r.library) continue;
    for (uint32_t i = 0; i < found.module->kernel_count; i++)
      if (r.name == found.module->kernels[i].name) {
        r.kernel = &found.module->kernels[i];
        r.module = found.module;
      }
  }
  if (!r.kernel) {
    fprintf(stderr, "fake CUDA: kernel %s was not translated\n", r.name.c_str());
    return kInvalidDeviceFunction;
  }
  *out = &r;
  return runs_on_device(r.module) ? kSuccess : kNoImage;
}

void* variable(const void* shadow, size_t* bytes) {
  auto it = state().shadows.find(shadow);
  if (it == state().shadows.end()) return nullptr;
  for (const Found& found : state().modules) {
    if (found.library != it->second.second) continue;
    for (uint32_t i = 0; i < found.module->global_count; i++)
      if (it->second.first == found.module->globals[i].name) {
        *bytes = found.module->globals[i].bytes;
        return found.module->globals[i].address;
      }
  }
  return nullptr;
}

struct Packed {
  const Kernel* kernel;
  Dim3 grid, block, cluster;
  uint32_t dynamic_bytes;
};

constexpr size_t kParamsAt = (sizeof(Packed) + 63) / 64 * 64;

void run_packed(void* arguments) {
  const Packed* p = static_cast<const Packed*>(arguments);
  std::vector<uint8_t> space(p->kernel->param_bytes + 128);
  uint8_t* params = space.data() + (64 - reinterpret_cast<uintptr_t>(space.data()) % 64);
  memcpy(params, static_cast<const uint8_t*>(arguments) + kParamsAt, p->kernel->param_bytes);
  std::string message;
  Launch launch = {p->kernel, p->grid, p->block, p->cluster, p->dynamic_bytes, params};
  if (int code = run_launch(launch, &message)) fake_cuda_fail(code, message.c_str());
}

// What the hardware would refuse (CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability").
cudaError_t check(const Registered& r, dim3 grid, dim3 block, Dim3 cluster, size_t dynamic) {
  uint64_t threads = uint64_t(block.x) * block.y * block.z,
           blocks = uint64_t(cluster.x) * cluster.y * cluster.z;
  if (!grid.x || !grid.y || !grid.z || !threads || !blocks) return kInvalidConfiguration;
  if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) return kInvalidConfiguration;
  if (threads > 1024 || block.z > 64) return kInvalidConfiguration;
  if (r.kernel->max_threads && threads > r.kernel->max_threads) return kInvalidValue;
  if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) return kInvalidConfiguration;
  if (blocks > (r.non_portable ? 16 : kPortableCluster) || (blocks > 1 && attribute(kMajor) < 9))
    return kInvalidConfiguration;
  size_t limit = r.max_dynamic >= 0
                     ? std::max(size_t(r.max_dynamic) + r.kernel->shared_bytes, size_t(kDefaultShared))
                     : size_t(kDefaultShared);
  return dynamic + r.kernel->shared_bytes > limit ? kInvalidValue : kSuccess;
}

cudaError_t launch(const Registered& r, dim3 grid, dim3 block, void** args, size_t dynamic,
                   CUstream_st* stream, Dim3 cluster) {
  const Kernel& k = *r.kernel;
  if (k.cluster.x) cluster = {k.cluster.x, std::max(1u, k.cluster.y), std::max(1u, k.cluster.z)};
  if (int code = check(r, grid, block, cluster, dynamic)) return note(code);
  std::vector<uint8_t> packed(kParamsAt + k.param_bytes);
  Packed head = {&k, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, cluster, uint32_t(dynamic)};
  memcpy(packed.data(), &head, sizeof head);
  for (uint32_t i = 0; i < k.param_count; i++)
    memcpy(packed.data() + kParamsAt + k.params[i].offset, args[i], k.params[i].bytes);
  return note(fake_cuda_launch(stream, &run_packed, packed.data(), packed.size()));
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** args, size_t dynamic,
                   CUstream_st* stream, Dim3 cluster) {
  Guard guard(mutex);
  if (int code = ready()) return note(code);
  Registered* r = nullptr;
  if (int code = find(function, &r)) return note(code);
  return launch(*r, grid, block, args, dynamic, stream, cluster);
}

}  // namespace

void add_module(const Module* module) {
  Guard guard(mutex);
  state().modules.push_back({library_of(module), module});
}

void remove_module(const Module* module) {
  Guard guard(mutex);
  auto& all = state().modules;
  const void* library = library_of(module);
  all.erase(std::remove_if(all.begin(), all.end(), [&](const Found& f) { return f.module == module; }),
            all.end());
  auto& kernels = state().kernels;
  for (auto it = kernels.begin(); it != kernels.end();)
    it = it->second.library == library ? kernels.erase(it) : ++it;
}

bool is_host_memory(const void* address, size_t bytes) {
  Guard guard(mutex);
  const auto* at = static_cast<const uint8_t*>(address);
  for (const Found& found : state().modules)
    for (uint32_t i = 0; i < found.module->global_count; i++) {
      const auto* start = static_cast<const uint8_t*>(found.module->globals[i].address);
      if (at >= start && at + bytes <= start + found.module->globals[i].bytes) return true;
    }
  return is_pinned(address, bytes);
}

}  // namespace emu

using namespace emu;

// What nvcc's host code calls (crt/host_runtime.h).
EXPORT void** __cudaRegisterFatBinary(void* binary) { return static_cast<void**>(binary); }
EXPORT void __cudaRegisterFatBinaryEnd(void**) {}
EXPORT void __cudaUnregisterFatBinary(void**) {}
EXPORT char __cudaInitModule(void**) { return 1; }

EXPORT void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, void*, void*,
                                   void*, void*, int*) {
  Guard guard(mutex);
  Registered r;
  r.name = name;
  r.library = library_of(host);
  state().kernels[host] = r;
}

EXPORT void __cudaRegisterVar(void**, char* host, char*, const char* name, int, size_t, int, int) {
  Guard guard(mutex);
  state().shadows[host] = {name, library_of(host)};
}

EXPORT unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  calls.push_back({grid, block, shared, stream});
  return 0;
}

EXPORT cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  Call c = calls.back();
  calls.pop_back();
  *grid = c.grid;
  *block = c.block;
  *shared = c.shared;
  *static_cast<CUstream_st**>(stream) = c.stream;
  return 0;
}

EXPORT cudaError_t __cudaGetKernel(const void** kernel, const void* host) {
  *kernel = host;
  return 0;
}

EXPORT cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** args, size_t shared,
                                    CUstream_st* stream) {
  return launch(function, grid, block, args, shared, stream, {1, 1, 1});
}

EXPORT cudaError_t __cudaLaunchKernel(const void* kernel, dim3 grid, dim3 block, void** args, size_t shared,
                                      CUstream_st* stream) {
  return launch(kernel, grid, block, args, shared, stream, {1, 1, 1});
}

EXPORT cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** args) {
  Dim3 cluster = {1, 1, 1};
  for (unsigned i = 0; i < config->numAttrs; i++)
    if (config->attrs[i].id == kClusterDimension) {
      const auto& d = config->attrs[i].value.clusterDim;
      cluster = {d.x, d.y, d.z};
    }
  return launch(function, config->gridDim, config->blockDim, args, config->dynamicSmemBytes, config->stream,
                cluster);
}

// Launches a translated kernel that no host code registered, by its name.
EXPORT cudaError_t fake_cuda_kernel(const char* name, const dim3* grid, const dim3* block, void** args,
                                    size_t shared, CUstream_st* stream) {
  Guard guard(mutex);
  if (int code = ready()) return note(code);
  Registered r;
  r.name = name;
  r.max_dynamic = attribute(kSharedOptin);
  for (const Found& found : state().modules)
    for (uint32_t i = 0; i < found.module->kernel_count; i++)
      if (r.name == found.module->kernels[i].name) {
        r.kernel = &found.module->kernels[i];
        r.module = found.module;
      }
  if (!r.kernel) return note(kInvalidDeviceFunction);
  return launch(r, *grid, *block, args, shared, stream, {1, 1, 1});
}

EXPORT void fake_cuda_order(int is_reversed) { set_order(is_reversed != 0); }

EXPORT cudaError_t cudaFuncSetAttribute(const void* function, int which, int value) {
  Guard guard(mutex);
  if (int code = ready()) return note(code);
  Registered* r = nullptr;
  if (int code = find(function, &r)) return note(code);
  if (which == kMaxDynamicShared) {
    if (value < 0 || value + int(r->kernel->shared_bytes) > attribute(kSharedOptin))
      return note(kInvalidValue);
    r->max_dynamic = value;
  }
  if (which == kNonPortableCluster) r->non_portable = value != 0;
  return kSuccess;
}

EXPORT cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* function) {
  Guard guard(mutex);
  Registered* r = nullptr;
  if (int code = find(function, &r)) return note(code);
  *out = {};
  out->sharedSizeBytes = r->kernel->shared_bytes;
  out->maxThreadsPerBlock = r->kernel->max_threads ? int(r->kernel->max_threads) : 1024;
  out->numRegs = 64;
  out->ptxVersion = out->binaryVersion = atoi(r->module->target + 3);
  out->maxDynamicSharedSizeBytes =
      r->max_dynamic >= 0 ? r->max_dynamic : kDefaultShared - int(r->kernel->shared_bytes);
  return kSuccess;
}

EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function,
                                                                          int threads, size_t dynamic,
                                                                          unsigned) {
  Guard guard(mutex);
  if (int code = ready()) return note(code);
  Registered* r = nullptr;
  if (int code = find(function, &r)) return note(code);
  if (threads <= 0) return note(kInvalidValue);
  int by_threads = attribute(kThreadsPerSm) / ((threads + 31) / 32 * 32);
  size_t reserved = attribute(kMajor) >= 8 ? kSharedReserved : 0;
  int by_shared = int(size_t(attribute(kSharedPerSm)) /
                      std::max<size_t>(1, dynamic + r->kernel->shared_bytes + reserved));
  *blocks = std::max(0, std::min({by_threads, by_shared, 32}));
  return kSuccess;
}

EXPORT cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                                 int threads, size_t dynamic) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, dynamic, 0);
}

EXPORT cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* function,
                                                  const cudaLaunchConfig_t* config) {
  uint64_t blocks = 1;
  for (unsigned i = 0; i < config->numAttrs; i++)
    if (config->attrs[i].id == kClusterDimension)
      blocks = uint64_t(config->attrs[i].value.clusterDim.x) * config->attrs[i].value.clusterDim.y *
               config->attrs[i].value.clusterDim.z;
  int per_sm = 0;
  const dim3& b = config->blockDim;
  if (int code = cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
          &per_sm, function, int(b.x * b.y * b.z), config->dynamicSmemBytes, 0))
    return code;
  *clusters = int(uint64_t(per_sm) * uint64_t(attribute(kSmCount)) / blocks);
  return kSuccess;
}

EXPORT cudaError_t cudaGetDevice(int* device) { return note(ready(device)); }

EXPORT cudaError_t cudaSetDevice(int device) {
  if (int code = cuInit(0)) return note(code);
  CUctx_st* context = nullptr;
  if (int code = cuDevicePrimaryCtxRetain(&context, device)) return note(code);
  return note(cuCtxSetCurrent(context));
}

EXPORT cudaError_t cudaGetDeviceCount(int* count) {
  if (int code = cuInit(0)) return note(code);
  return note(cuDeviceGetCount(count));
}

EXPORT cudaError_t cudaDeviceGetAttribute(int* value, int which, int device) {
  if (int code = cuInit(0)) return note(code);
  return note(cuDeviceGetAttribute(value, which, device));
}

EXPORT cudaError_t cudaDeviceSynchronize() {
  if (int code = ready()) return note(code);
  return note(cuCtxSynchronize());
}

EXPORT cudaError_t cudaGetLastError() {
  cudaError_t code = last_error;
  last_error = 0;
  return code;
}

EXPORT cudaError_t cudaPeekAtLastError() { return last_error; }

EXPORT const char* cudaGetErrorString(cudaError_t code) {
  const char* text = nullptr;
  cuGetErrorString(code, &text);
  return text ? text : "unrecognized error code";
}

EXPORT const char* cudaGetErrorName(cudaError_t code) {
  const char* text = nullptr;
  cuGetErrorName(code, &text);
  return text ? text : "unrecognized error code";
}

EXPORT cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return 0;
}

EXPORT cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

EXPORT cudaError_t cudaMalloc(void** address, size_t bytes) {
  if (int code = ready()) return note(code);
  return note(cuMemAlloc_v2(reinterpret_cast<uintptr_t*>(address), bytes));
}

EXPORT cudaError_t cudaFree(void* address) {
  if (int code = ready()) return note(code);
  return note(cuMemFree_v2(reinterpret_cast<uintptr_t>(address)));
}

EXPORT cudaError_t cudaMallocHost(void** address, size_t bytes) {
  if (int code = ready()) return note(code);
  return note(cuMemHostAlloc(address, bytes, 0));
}

EXPORT cudaError_t cudaFreeHost(void* address) { return note(cuMemFreeHost(address)); }

EXPORT cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, CUstream_st* stream) {
  if (int code = ready()) return note(code);
  return note(
      cuMemcpyAsync(reinterpret_cast<uintptr_t>(to), reinterpret_cast<uintptr_t>(from), bytes, stream));
}

EXPORT cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, int) {
  if (int code = ready()) return note(code);
  return note(cuMemcpy(reinterpret_cast<uintptr_t>(to), reinterpret_cast<uintptr_t>(from), bytes));
}

EXPORT cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, CUstream_st* stream) {
  if (int code = ready()) return note(code);
  return note(
      cuMemsetD8Async(reinterpret_cast<uintptr_t>(to), static_cast<unsigned char>(value), bytes, stream));
}

EXPORT cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  if (int code = cudaMemsetAsync(to, value, bytes, nullptr)) return code;
  return note(cuStreamSynchronize(nullptr));
}

EXPORT cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
  Guard guard(mutex);
  size_t bytes = 0;
  *address = variable(symbol, &bytes);
  return note(*address ? kSuccess : kInvalidSymbol);
}

EXPORT cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t bytes, size_t offset,
                                      int) {
  Guard guard(mutex);
  size_t have = 0;
  void* to = variable(symbol, &have);
  if (!to || offset + bytes > have) return note(kInvalidSymbol);
  memcpy(static_cast<char*>(to) + offset, from, bytes);
  return kSuccess;
}

EXPORT cudaError_t cudaStreamCreate(CUstream_st** stream) {
  if (int code = ready()) return note(code);
  return note(cuStreamCreate(stream, 0));
}

EXPORT cudaError_t cudaStreamCreateWithFlags(CUstream_st** stream, unsigned) {
  return cudaStreamCreate(stream);
}
EXPORT cudaError_t cudaStreamDestroy(CUstream_st* stream) { return note(cuStreamDestroy_v2(stream)); }
EXPORT cudaError_t cudaStreamSynchronize(CUstream_st* stream) { return note(cuStreamSynchronize(stream)); }
EXPORT cudaError_t cudaStreamIsCapturing(CUstream_st* stream, int* status) {
  return note(cuStreamIsCapturing(stream, status));
}
EXPORT cudaError_t cudaStreamWaitEvent(CUstream_st* stream, CUevent_st* event, unsigned flags) {
  return note(cuStreamWaitEvent(stream, event, flags));
}
EXPORT cudaError_t cudaEventCreate(CUevent_st** event) {
  if (int code = ready()) return note(code);
  return note(cuEventCreate(event, 0));
}
EXPORT cudaError_t cudaEventCreateWithFlags(CUevent_st** event, unsigned) { return cudaEventCreate(event); }
EXPORT cudaError_t cudaEventDestroy(CUevent_st* event) { return note(cuEventDestroy_v2(event)); }
EXPORT cudaError_t cudaEventRecord(CUevent_st* event, CUstream_st* stream) {
  return note(cuEventRecord(event, stream));
}
EXPORT cudaError_t cudaEventSynchronize(CUevent_st* event) { return note(cuEventSynchronize(event)); }

EXPORT cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                                    unsigned long long flags, int* found) {
  int status = 0;
  int code = cuGetProcAddress_v2(symbol, function, int(version), flags, &status);
  if (found) *found = code ? 1 : 0;  // cudaDriverEntryPointSymbolNotFound
  return kSuccess;
}

EXPORT cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function, unsigned long long flags,
                                           int* found) {
  return cudaGetDriverEntryPointByVersion(symbol, function, 13000, flags, found);
}
