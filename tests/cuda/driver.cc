// A pretended CUDA driver, `libcuda.so.1`, for machines without a GPU.
//
// What it is strict about, because a program that is wrong there would only fail now and then on a real GPU:
//   * Device memory can't be touched: its pages are PROT_NONE except while work of a stream executes.
//   * Streams are lazy: work executes when somebody waits for it (or when memory is freed, which waits on a
//     real device too). A copy that forgot to wait for a kernel sees old bytes.
//   * A copy from pinned memory reads when it executes, one from pageable memory when it is asked for.
//   * Every call that needs a context fails without a current one, and with one of another device.
//   * A stream that is being captured records its work and refuses to be waited for.
// Work of one device executes in the calling thread under one lock.
//
// Environment: FAKE_CUDA_DEVICES, the compute capabilities of the devices ("80,90"; "" for none; default 80);
// FAKE_CUDA_MEMORY, bytes of memory per device (default 1 GiB); CUDA_VISIBLE_DEVICES, indices of devices.
//
// Besides the driver's functions: fake_cuda_launch, fake_cuda_counter, fake_cuda_reset (counters and the error of a
// failed kernel), fake_cuda_fail, fake_cuda_message.
#include "addresses.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = uintptr_t;

namespace {

enum : CUresult {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
};

struct ErrorRow {
  CUresult code;
  const char* name;
  const char* text;
};
constexpr ErrorRow kErrors[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {kCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
};

constexpr size_t kPage = 4096;
constexpr size_t kReservedBytes = size_t{16} << 30;  // of addresses per device
constexpr int kMaxDevices = emu::kDeviceArenaBytes / kReservedBytes;
constexpr size_t kGapBytes = 16 * kPage;             // between two allocations, never accessible

std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;
std::map<std::string, long> counters;

using Work = std::function<void()>;

struct Graph {
  std::vector<Work> work;
};

struct CUctx_st {
  int ordinal = 0;  // the CUDA ordinal of its device
};

// Where an address belongs.
struct Allocation {
  size_t bytes = 0;   // asked for
  size_t mapped = 0;  // in whole pages
};

// The memory of one device: a range of addresses, a few pages of which exist.
class Memory {
 public:
  Memory(int index, size_t capacity) : capacity_(capacity) {
    // A fixed place, so that kernels can tell device addresses from others by two constants.
    void* place = reinterpret_cast<void*>(emu::kDeviceArena + kReservedBytes * static_cast<size_t>(index));
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    base_ = static_cast<char*>(mmap(place, kReservedBytes, PROT_NONE, flags, -1, 0));
    if (base_ != place) abort();
  }

  char* Allocate(size_t bytes) {
    const size_t mapped = (bytes + kPage - 1) / kPage * kPage;
    if (used_ + mapped > capacity_) return nullptr;
    size_t at = 0;
    for (const auto& [address, allocation] : live_) {
      const size_t start = static_cast<size_t>(address - base_);
      if (start >= at + mapped + kGapBytes) break;
      at = start + allocation.mapped + kGapBytes;
    }
    if (at + mapped > kReservedBytes) return nullptr;
    live_[base_ + at] = {bytes, mapped};
    used_ += mapped;
    return base_ + at;
  }

  bool Free(char* address) {
    const auto it = live_.find(address);
    if (it == live_.end()) return false;
    used_ -= it->second.mapped;
    // The next owner finds neither zeros nor old data.
    mprotect(address, it->second.mapped, PROT_READ | PROT_WRITE);
    memset(address, 0xff, it->second.mapped);
    mprotect(address, it->second.mapped, PROT_NONE);
    live_.erase(it);
    return true;
  }

  void Protect(int protection) const {
    for (const auto& [address, allocation] : live_) mprotect(address, allocation.mapped, protection);
  }

  bool Owns(const char* address) const { return address >= base_ && address < base_ + kReservedBytes; }

  // Whether [address, address + bytes) lies in one live allocation.
  bool Holds(const char* address, size_t bytes) const {
    auto it = live_.upper_bound(const_cast<char*>(address));
    if (it == live_.begin()) return false;
    --it;
    return address + bytes <= it->first + it->second.bytes;
  }

  size_t used() const { return used_; }
  size_t capacity() const { return capacity_; }
  size_t count() const { return live_.size(); }

 private:
  const size_t capacity_;
  char* base_ = nullptr;
  size_t used_ = 0;
  std::map<char*, Allocation> live_;
};

struct Device {
  Device(int number, int capability, size_t capacity)
      : index(number), sm(capability), memory(number, capacity), context(std::make_unique<CUctx_st>()) {}
  int index;  // of the hardware: what CUDA_VISIBLE_DEVICES names
  int sm;
  int retained = 0;
  Memory memory;
  std::unique_ptr<CUctx_st> context;
};

struct CUstream_st {
  int ordinal = 0;
  std::deque<Work> work;
  uint64_t submitted = 0;
  uint64_t executed = 0;
  std::vector<double> spent_ms = {0.0};  // after each work that was executed, since the stream began
  bool capturing = false;
  bool broken = false;  // the capture was invalidated
  int mode = 0;
  std::unique_ptr<Graph> graph;
};

struct CUevent_st {
  CUstream_st* stream = nullptr;
  uint64_t position = 0;
};

thread_local CUctx_st* current = nullptr;
thread_local int strict_captures = 0;  // captures this thread began that forbid unsafe calls

struct State {
  bool initialized = false;
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::unique_ptr<CUstream_st>> null_streams;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::map<char*, size_t> pinned;
  int open = 0;  // nesting of executing work
  CUresult failed = kSuccess;  // since a kernel failed
  std::string message;
};

State& state() {
  static State& it = *new State;
  return it;
}

std::vector<int> Numbers(const char* text) {
  std::vector<int> numbers;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) numbers.push_back(std::atoi(word.c_str()));
  return numbers;
}

void Enumerate() {
  const char* listed = getenv("FAKE_CUDA_DEVICES");
  const char* capacity = getenv("FAKE_CUDA_MEMORY");
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  const std::vector<int> all = Numbers(listed == nullptr ? "80" : listed);
  std::vector<int> chosen;
  for (size_t i = 0; i < all.size(); ++i) chosen.push_back(static_cast<int>(i));
  if (visible != nullptr) chosen = Numbers(visible);
  for (const int index : chosen) {
    if (index < 0 || index >= std::min(kMaxDevices, static_cast<int>(all.size()))) break;  // as the driver does
    const size_t bytes = capacity == nullptr ? size_t{1} << 30 : std::strtoull(capacity, nullptr, 10);
    auto device = std::make_unique<Device>(index, all[static_cast<size_t>(index)], bytes);
    device->context->ordinal = static_cast<int>(state().devices.size());
    auto stream = std::make_unique<CUstream_st>();
    stream->ordinal = device->context->ordinal;
    state().streams.insert(stream.get());
    state().devices.push_back(std::move(device));
    state().null_streams.push_back(std::move(stream));
  }
}

Device* DeviceAt(int ordinal) {
  if (ordinal < 0 || ordinal >= static_cast<int>(state().devices.size())) return nullptr;
  return state().devices[static_cast<size_t>(ordinal)].get();
}

Device* OwnerOf(const void* address) {
  for (const auto& device : state().devices) {
    if (device->memory.Owns(static_cast<const char*>(address))) return device.get();
  }
  return nullptr;
}

bool IsPinned(const void* address) {
  auto& pinned = state().pinned;
  auto it = pinned.upper_bound(static_cast<char*>(const_cast<void*>(address)));
  if (it == pinned.begin()) return false;
  --it;
  return static_cast<const char*>(address) < it->first + it->second;
}

// Makes device memory accessible while it lives.
class Executing {
 public:
  Executing() {
    if (state().open++ == 0) Protect(PROT_READ | PROT_WRITE);
  }
  ~Executing() {
    if (--state().open == 0) Protect(PROT_NONE);
  }

 private:
  static void Protect(int protection) {
    for (const auto& device : state().devices) device->memory.Protect(protection);
  }
};

// Processor time of this thread: other processes of a busy machine have no share in it.
double ThreadMs() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

// Executes the work of a stream up to a position.
void Drain(CUstream_st* stream, uint64_t position = UINT64_MAX) {
  if (stream->work.empty() || stream->executed >= position) return;
  const Executing executing;
  while (!stream->work.empty() && stream->executed < position) {
    Work work = std::move(stream->work.front());
    stream->work.pop_front();
    ++stream->executed;
    const double start_ms = ThreadMs();
    work();
    stream->spent_ms.push_back(stream->spent_ms.back() + ThreadMs() - start_ms);
  }
}

void DrainAll(int ordinal) {
  for (CUstream_st* stream : std::set<CUstream_st*>(state().streams)) {
    if (stream->ordinal == ordinal) Drain(stream);
  }
}

void Submit(CUstream_st* stream, Work work) {
  if (stream->capturing) {
    stream->graph->work.push_back(std::move(work));
    return;
  }
  stream->work.push_back(std::move(work));
  ++stream->submitted;
}

CUresult Failed(CUresult code, const char* what) {
  ++counters["errors"];
  if (getenv("FAKE_CUDA_TRACE") != nullptr) std::fprintf(stderr, "fake CUDA: %s: error %d\n", what, code);
  return code;
}

// A call that must not happen while this thread captures strictly.
CUresult Unsafe(const char* what) {
  if (strict_captures == 0) return kSuccess;
  for (CUstream_st* stream : state().streams) stream->broken |= stream->capturing;
  return Failed(kCaptureUnsupported, what);
}

CUresult NeedContext(const char* what) {
  if (!state().initialized) return Failed(kNotInitialized, what);
  if (state().failed != kSuccess) return Failed(state().failed, what);
  return current == nullptr ? Failed(kInvalidContext, what) : kSuccess;
}

// The stream behind a handle; null (the legacy stream) is that of the current context.
CUresult FindStream(CUstream_st* handle, CUstream_st** stream, const char* what) {
  if (const CUresult failed = NeedContext(what)) return failed;
  *stream = handle != nullptr ? handle : state().null_streams[static_cast<size_t>(current->ordinal)].get();
  if (state().streams.count(*stream) == 0) return Failed(kInvalidHandle, what);
  return (*stream)->ordinal == current->ordinal ? kSuccess : Failed(kInvalidContext, what);
}

CUresult FindWaitable(CUstream_st* handle, CUstream_st** stream, const char* what) {
  if (const CUresult failed = FindStream(handle, stream, what)) return failed;
  if (!(*stream)->capturing) return kSuccess;
  (*stream)->broken = true;
  return Failed(kCaptureUnsupported, what);
}

bool InBounds(const void* address, size_t bytes) {
  const Device* owner = OwnerOf(address);
  return owner == nullptr || owner->memory.Holds(static_cast<const char*>(address), bytes);
}

const char* Direction(const void* to, const void* from) {
  if (OwnerOf(to) == nullptr) return OwnerOf(from) == nullptr ? "h2h" : "d2h";
  return OwnerOf(from) == nullptr ? "h2d" : "d2d";
}

CUresult Copy(void* to, const void* from, size_t bytes, CUstream_st* stream) {
  if (!InBounds(to, bytes) || !InBounds(from, bytes)) return Failed(kInvalidValue, "copy out of bounds");
  ++counters[Direction(to, from)];
  counters["copied_bytes"] += static_cast<long>(bytes);
  const bool from_pageable = OwnerOf(from) == nullptr && !IsPinned(from);
  const bool to_pageable = OwnerOf(to) == nullptr && !IsPinned(to);
  if (stream->capturing && (from_pageable || to_pageable)) {
    stream->broken = true;
    return Failed(kCaptureUnsupported, "copy of pageable memory");
  }
  if (from_pageable) {
    const auto* bytes_of = static_cast<const char*>(from);
    Submit(stream, [to, staged = std::vector<char>(bytes_of, bytes_of + bytes)] {
      memcpy(to, staged.data(), staged.size());
    });
  } else {
    Submit(stream, [to, from, bytes] { memcpy(to, from, bytes); });
  }
  if (to_pageable) Drain(stream);
  return kSuccess;
}

struct Launch {
  void (*body)(void*);
  std::vector<char> arguments;
};

}  // namespace

// Runs body(copy of the arguments) as work of a stream, with device memory accessible.
EXPORT CUresult fake_cuda_launch(CUstream_st* handle, void (*body)(void*), const void* arguments,
                                 size_t bytes) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "launch")) return failed;
  ++counters["launches"];
  const auto* first = static_cast<const char*>(arguments);
  const auto launch = std::make_shared<Launch>(Launch{body, {first, first + bytes}});
  Submit(stream, [launch] {
    Launch copy = *launch;
    copy.body(copy.arguments.data());
  });
  return kSuccess;
}

// How often something happened: h2d, d2h, d2d, copied_bytes, launches, allocations, host_allocations,
// streams, events, stream_waits, event_waits, device_waits, graph_launches, graphs, errors; live_bytes and
// live_host tell what is allocated at this moment.
EXPORT long fake_cuda_counter(const char* name) {
  const Guard guard(lock);
  if (strcmp(name, "live_bytes") == 0) {
    size_t bytes = 0;
    for (const auto& device : state().devices) bytes += device->memory.used();
    return static_cast<long>(bytes);
  }
  if (strcmp(name, "live_host") == 0) return static_cast<long>(state().pinned.size());
  if (strcmp(name, "live_streams") == 0) {
    return static_cast<long>(state().streams.size() - state().null_streams.size());
  }
  if (strcmp(name, "live_events") == 0) return static_cast<long>(state().events.size());
  return counters[name];
}

EXPORT void fake_cuda_reset() {
  const Guard guard(lock);
  counters.clear();
  state().failed = kSuccess;
  state().message.clear();
}

EXPORT void fake_cuda_fail(int code, const char* message) {
  const Guard guard(lock);
  if (state().failed != kSuccess) return;
  state().failed = code;
  state().message = message;
  std::fprintf(stderr, "fake CUDA: %s\n", message);
}

EXPORT const char* fake_cuda_message() { return state().message.c_str(); }

namespace emu {
bool is_pinned(const void* address, size_t bytes);
bool is_pinned(const void* address, size_t bytes) {
  const Guard guard(lock);
  return IsPinned(address) && IsPinned(static_cast<const char*>(address) + bytes - 1);
}
}  // namespace emu

EXPORT CUresult cuInit(unsigned) {
  const Guard guard(lock);
  if (!state().initialized) Enumerate();
  state().initialized = true;
  return state().devices.empty() ? Failed(kNoDevice, "cuInit") : kSuccess;
}

EXPORT CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}

EXPORT CUresult cuGetErrorName(CUresult code, const char** text) {
  for (const ErrorRow& row : kErrors) {
    if (row.code != code) continue;
    *text = row.name;
    return kSuccess;
  }
  *text = nullptr;
  return kInvalidValue;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** text) {
  for (const ErrorRow& row : kErrors) {
    if (row.code != code) continue;
    *text = row.text;
    return kSuccess;
  }
  *text = nullptr;
  return kInvalidValue;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
  if (!state().initialized) return Failed(kNotInitialized, "cuDeviceGetCount");
  *count = static_cast<int>(state().devices.size());
  return kSuccess;
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (!state().initialized) return Failed(kNotInitialized, "cuDeviceGet");
  if (DeviceAt(ordinal) == nullptr) return Failed(kInvalidDevice, "cuDeviceGet");
  *device = ordinal;
  return kSuccess;
}

EXPORT CUresult cuDeviceGetName(char* name, int room, CUdevice device) {
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDeviceGetName");
  std::snprintf(name, static_cast<size_t>(room), "Pretended GPU sm_%d", DeviceAt(device)->sm);
  return kSuccess;
}

EXPORT CUresult cuDeviceGetPCIBusId(char* text, int room, CUdevice device) {
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDeviceGetPCIBusId");
  std::snprintf(text, static_cast<size_t>(room), "0000:%02X:00.0", 0x0A + DeviceAt(device)->index);
  return kSuccess;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDeviceTotalMem");
  *bytes = DeviceAt(device)->memory.capacity();
  return kSuccess;
}

// What differs between architectures (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
struct Architecture {
  int sm, multiprocessors, threads, shared_sm_kb, shared_block_kb;
};
constexpr Architecture kArchitectures[] = {
    {75, 40, 1024, 64, 64},     {80, 108, 2048, 164, 163},  {86, 72, 1536, 100, 99},   {89, 58, 1536, 100, 99},
    {90, 132, 2048, 228, 227},  {100, 148, 2048, 228, 227}, {120, 170, 1536, 100, 99},
};

const Architecture& ArchitectureOf(int sm) {
  for (const Architecture& row : kArchitectures) {
    if (row.sm == sm) return row;
  }
  return kArchitectures[1];
}

// The attributes that differ between devices, or that programs ask for (cuda.h, CUdevice_attribute).
EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDeviceGetAttribute");
  const int sm = DeviceAt(device)->sm;
  static const std::map<int, int> kValues = {
      {1, 1024},        // MAX_THREADS_PER_BLOCK
      {2, 1024},        // MAX_BLOCK_DIM_X
      {3, 1024},        // MAX_BLOCK_DIM_Y
      {4, 64},          // MAX_BLOCK_DIM_Z
      {5, 2147483647},  // MAX_GRID_DIM_X
      {6, 65535},       // MAX_GRID_DIM_Y
      {7, 65535},       // MAX_GRID_DIM_Z
      {8, 48 << 10},    // MAX_SHARED_MEMORY_PER_BLOCK
      {10, 32},         // WARP_SIZE
      {12, 65536},      // MAX_REGISTERS_PER_BLOCK
      {13, 1410000},    // CLOCK_RATE
      {33, 0x0A},       // PCI_BUS_ID
      {36, 1215000},    // MEMORY_CLOCK_RATE
      {37, 5120},       // GLOBAL_MEMORY_BUS_WIDTH
      {38, 40 << 20},   // L2_CACHE_SIZE
      {41, 1},          // UNIFIED_ADDRESSING
  };
  if (attribute == 75) return *value = sm / 10, kSuccess;  // COMPUTE_CAPABILITY_MAJOR
  if (attribute == 76) return *value = sm % 10, kSuccess;  // COMPUTE_CAPABILITY_MINOR
  const Architecture& architecture = ArchitectureOf(sm);
  if (attribute == 16) return *value = architecture.multiprocessors, kSuccess;  // MULTIPROCESSOR_COUNT
  if (attribute == 39) return *value = architecture.threads, kSuccess;  // MAX_THREADS_PER_MULTIPROCESSOR
  if (attribute == 81) return *value = architecture.shared_sm_kb << 10, kSuccess;  // ..._PER_MULTIPROCESSOR
  if (attribute == 97) return *value = architecture.shared_block_kb << 10, kSuccess;  // ..._PER_BLOCK_OPTIN
  const auto it = kValues.find(attribute);
  *value = it == kValues.end() ? 0 : it->second;
  return kSuccess;
}

EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDeviceComputeCapability");
  *major = DeviceAt(device)->sm / 10;
  *minor = DeviceAt(device)->sm % 10;
  return kSuccess;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUctx_st** context, CUdevice device) {
  const Guard guard(lock);
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDevicePrimaryCtxRetain");
  ++DeviceAt(device)->retained;
  ++counters["contexts"];
  *context = DeviceAt(device)->context.get();
  return kSuccess;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  const Guard guard(lock);
  if (DeviceAt(device) == nullptr) return Failed(kInvalidDevice, "cuDevicePrimaryCtxRelease");
  return --DeviceAt(device)->retained < 0 ? Failed(kInvalidContext, "cuDevicePrimaryCtxRelease") : kSuccess;
}

EXPORT CUresult cuCtxGetCurrent(CUctx_st** context) {
  *context = current;
  return kSuccess;
}

EXPORT CUresult cuCtxSetCurrent(CUctx_st* context) {
  current = context;
  return kSuccess;
}

EXPORT CUresult cuCtxPushCurrent_v2(CUctx_st* context) {
  current = context;
  return kSuccess;
}

EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
  if (const CUresult failed = NeedContext("cuCtxGetDevice")) return failed;
  *device = current->ordinal;
  return kSuccess;
}

EXPORT CUresult cuCtxSynchronize() {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuCtxSynchronize")) return failed;
  ++counters["device_waits"];
  for (CUstream_st* stream : state().streams) {
    if (stream->ordinal == current->ordinal && stream->capturing) {
      stream->broken = true;
      return Failed(kCaptureUnsupported, "cuCtxSynchronize");
    }
  }
  DrainAll(current->ordinal);
  return state().failed;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuMemAlloc")) return failed;
  if (const CUresult failed = Unsafe("cuMemAlloc")) return failed;
  if (bytes == 0) return Failed(kInvalidValue, "cuMemAlloc");
  char* data = DeviceAt(current->ordinal)->memory.Allocate(bytes);
  if (data == nullptr) return Failed(kOutOfMemory, "cuMemAlloc");
  ++counters["allocations"];
  *address = reinterpret_cast<CUdeviceptr>(data);
  return kSuccess;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuMemFree")) return failed;
  if (const CUresult failed = Unsafe("cuMemFree")) return failed;
  if (address == 0) return kSuccess;
  Device* owner = OwnerOf(reinterpret_cast<void*>(address));
  if (owner == nullptr) return Failed(kInvalidValue, "cuMemFree");
  DrainAll(owner->context->ordinal);
  return owner->memory.Free(reinterpret_cast<char*>(address)) ? kSuccess : Failed(kInvalidValue, "cuMemFree");
}

EXPORT CUresult cuMemGetInfo_v2(size_t* unused, size_t* total) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuMemGetInfo")) return failed;
  const Memory& memory = DeviceAt(current->ordinal)->memory;
  *total = memory.capacity();
  *unused = memory.capacity() - memory.used();
  return kSuccess;
}

EXPORT CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuMemHostAlloc")) return failed;
  if (const CUresult failed = Unsafe("cuMemHostAlloc")) return failed;
  *address = aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  if (*address == nullptr) return Failed(kOutOfMemory, "cuMemHostAlloc");
  state().pinned[static_cast<char*>(*address)] = bytes;
  ++counters["host_allocations"];
  return kSuccess;
}

EXPORT CUresult cuMemFreeHost(void* address) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuMemFreeHost")) return failed;
  DrainAll(current->ordinal);
  if (state().pinned.erase(static_cast<char*>(address)) == 0) return Failed(kInvalidValue, "cuMemFreeHost");
  free(address);
  return kSuccess;
}

EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuMemcpyAsync")) return failed;
  return Copy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes, stream);
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream_st* stream) {
  return cuMemcpyAsync(to, reinterpret_cast<CUdeviceptr>(from), bytes, stream);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream_st* stream) {
  return cuMemcpyAsync(reinterpret_cast<CUdeviceptr>(to), from, bytes, stream);
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream_st* stream) {
  return cuMemcpyAsync(to, from, bytes, stream);
}

EXPORT CUresult cuStreamSynchronize(CUstream_st* handle);

EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  if (const CUresult failed = cuMemcpyAsync(to, from, bytes, nullptr)) return failed;
  return cuStreamSynchronize(nullptr);
}

EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return cuMemcpy(to, reinterpret_cast<CUdeviceptr>(from), bytes);
}

EXPORT CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return cuMemcpy(reinterpret_cast<CUdeviceptr>(to), from, bytes);
}

EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return cuMemcpy(to, from, bytes);
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuMemsetD8Async")) return failed;
  void* data = reinterpret_cast<void*>(to);
  if (!InBounds(data, bytes)) return Failed(kInvalidValue, "memset out of bounds");
  Submit(stream, [data, value, bytes] { memset(data, value, bytes); });
  return kSuccess;
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(to, value, bytes, nullptr);
}

EXPORT CUresult cuStreamCreate(CUstream_st** stream, unsigned) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuStreamCreate")) return failed;
  *stream = new CUstream_st;
  (*stream)->ordinal = current->ordinal;
  state().streams.insert(*stream);
  ++counters["streams"];
  return kSuccess;
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream_st** stream, unsigned flags, int) {
  return cuStreamCreate(stream, flags);
}

EXPORT CUresult cuStreamDestroy_v2(CUstream_st* handle) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuStreamDestroy")) return failed;
  if (handle == nullptr || state().streams.count(handle) == 0)
    return Failed(kInvalidHandle, "cuStreamDestroy");
  Drain(handle);
  for (CUevent_st* event : state().events) {
    if (event->stream == handle) event->stream = nullptr;
  }
  state().streams.erase(handle);
  delete handle;
  return kSuccess;
}

EXPORT CUresult cuStreamSynchronize(CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindWaitable(handle, &stream, "cuStreamSynchronize")) return failed;
  ++counters["stream_waits"];
  Drain(stream);
  return state().failed;
}

EXPORT CUresult cuStreamQuery(CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindWaitable(handle, &stream, "cuStreamQuery")) return failed;
  if (stream->work.empty()) return kSuccess;
  Drain(stream, stream->executed + 1);  // so that polling ends
  return kNotReady;
}

EXPORT CUresult cuStreamWaitEvent(CUstream_st* handle, CUevent_st* event, unsigned) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuStreamWaitEvent")) return failed;
  if (state().events.count(event) == 0) return Failed(kInvalidHandle, "cuStreamWaitEvent");
  CUstream_st* source = event->stream;
  if (source == nullptr || source == stream) return kSuccess;
  const uint64_t position = event->position;
  Submit(stream, [source, position] {
    if (state().streams.count(source) != 0) Drain(source, position);
  });
  return kSuccess;
}

EXPORT CUresult cuEventCreate(CUevent_st** event, unsigned) {
  const Guard guard(lock);
  if (const CUresult failed = NeedContext("cuEventCreate")) return failed;
  *event = new CUevent_st;
  state().events.insert(*event);
  ++counters["events"];
  return kSuccess;
}

EXPORT CUresult cuEventDestroy_v2(CUevent_st* event) {
  const Guard guard(lock);
  if (state().events.erase(event) == 0) return Failed(kInvalidHandle, "cuEventDestroy");
  delete event;
  return kSuccess;
}

EXPORT CUresult cuEventRecord(CUevent_st* event, CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuEventRecord")) return failed;
  if (state().events.count(event) == 0) return Failed(kInvalidHandle, "cuEventRecord");
  event->stream = stream;
  event->position = stream->submitted;
  return kSuccess;
}

EXPORT CUresult cuEventSynchronize(CUevent_st* event) {
  const Guard guard(lock);
  if (state().events.count(event) == 0) return Failed(kInvalidHandle, "cuEventSynchronize");
  ++counters["event_waits"];
  if (event->stream == nullptr) return kSuccess;
  if (event->stream->capturing) return Failed(kCaptureUnsupported, "cuEventSynchronize");
  Drain(event->stream, event->position);
  return state().failed;
}

EXPORT CUresult cuEventQuery(CUevent_st* event) {
  const Guard guard(lock);
  if (state().events.count(event) == 0) return Failed(kInvalidHandle, "cuEventQuery");
  const bool done = event->stream == nullptr || event->stream->executed >= event->position;
  if (!done) Drain(event->stream, event->stream->executed + 1);
  return done ? kSuccess : kNotReady;
}

// Processor time of the work between two events of one stream; at least 1 us.
EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent_st* start, CUevent_st* end) {
  const Guard guard(lock);
  for (CUevent_st* event : {start, end}) {
    if (state().events.count(event) == 0 || event->stream == nullptr || event->stream != end->stream)
      return Failed(kInvalidHandle, "cuEventElapsedTime");
    if (event->stream->executed < event->position) return Failed(kNotReady, "cuEventElapsedTime");
  }
  const std::vector<double>& spent = end->stream->spent_ms;
  *milliseconds = std::max(0.001f, static_cast<float>(spent[end->position] - spent[start->position]));
  return kSuccess;
}

EXPORT CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent_st* start, CUevent_st* end) {
  return cuEventElapsedTime(milliseconds, start, end);
}

constexpr int kCaptureRelaxed = 2;

EXPORT CUresult cuStreamBeginCapture_v2(CUstream_st* handle, int mode) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindWaitable(handle, &stream, "cuStreamBeginCapture")) return failed;
  if (handle == nullptr) return Failed(kCaptureUnsupported, "cuStreamBeginCapture");
  stream->capturing = true;
  stream->broken = false;
  stream->mode = mode;
  stream->graph = std::make_unique<Graph>();
  if (mode != kCaptureRelaxed) ++strict_captures;
  return kSuccess;
}

EXPORT CUresult cuStreamEndCapture(CUstream_st* handle, Graph** graph) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  *graph = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuStreamEndCapture")) return failed;
  if (!stream->capturing) return Failed(kInvalidValue, "cuStreamEndCapture");
  stream->capturing = false;
  if (stream->mode != kCaptureRelaxed) --strict_captures;
  if (stream->broken) return Failed(kCaptureInvalidated, "cuStreamEndCapture");
  *graph = stream->graph.release();
  ++counters["graphs"];
  return kSuccess;
}

EXPORT CUresult cuStreamIsCapturing(CUstream_st* handle, int* status) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuStreamIsCapturing")) return failed;
  *status = !stream->capturing ? 0 : stream->broken ? 2 : 1;
  return kSuccess;
}

EXPORT CUresult cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
  const Guard guard(lock);
  *executable = new Graph(*graph);
  return kSuccess;
}

EXPORT CUresult cuGraphLaunch(Graph* executable, CUstream_st* handle) {
  const Guard guard(lock);
  CUstream_st* stream = nullptr;
  if (const CUresult failed = FindStream(handle, &stream, "cuGraphLaunch")) return failed;
  ++counters["graph_launches"];
  for (const Work& work : executable->work) Submit(stream, work);
  return kSuccess;
}

EXPORT CUresult cuGraphDestroy(Graph* graph) {
  delete graph;
  return kSuccess;
}

EXPORT CUresult cuGraphExecDestroy(Graph* executable) {
  delete executable;
  return kSuccess;
}

EXPORT CUresult cuGetProcAddress_v2(const char* symbol, void** function, int, uint64_t, int* status) {
  for (const char* suffix : {"_v2", "_v3", "WithFlags", ""}) {
    *function = dlsym(RTLD_DEFAULT, (std::string(symbol) + suffix).c_str());
    if (*function != nullptr) break;
  }
  if (status != nullptr) *status = *function == nullptr ? 1 : 0;
  return *function == nullptr ? kNotFound : kSuccess;
}
