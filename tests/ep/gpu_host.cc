// A program that serves an artifact for a GPU through ONNX Runtime's C API, with its own stream, pinned
// memory and nothing that waits, on the pretended driver (tests/cuda/driver.cc), whose work executes when it
// is waited for.
//   gpu_host <libonnxruntime.so> <libbolt_ep.so> <model.onnx>
// Prints "done", or what went wrong.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace {

// Slots of OrtApi, as in onnxruntime_c_api.h since 1.24.
enum Slot {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kCreateRunOptions = 39,
  kCreateTensor = 48,
  kGetTensorMutableData = 51,
  kReleaseEnv = 92,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseRunOptions = 97,
  kReleaseSessionOptions = 100,
  kAddRunConfigEntry = 165,
  kRegisterLibrary = 301,
  kUnregisterLibrary = 302,
  kGetEpDevices = 303,
  kAppendDevices = 304,
  kHardwareType = 307,
  kEpDeviceName = 312,
  kEpDeviceHardware = 316,
  kEpDeviceMemoryInfo = 374,
  kGetSharedAllocator = 376,
  kCreateStream = 383,
  kStreamHandle = 384,
  kReleaseStream = 385,
  kCopyTensors = 386,
  kSetSyncStream = 413,
};

constexpr int kGpu = 1, kDefaultMemory = 0, kHostAccessible = 5, kFloat = 1;
constexpr int64_t kRows = 3, kColumns = 37;
constexpr int64_t kCount = kRows * kColumns;

struct ApiBase {
  void* const* (*GetApi)(uint32_t);
  const char* (*GetVersionString)();
};

void* const* table;

template <class Result, class... Args>
Result Raw(Slot slot, Args... args) {
  return reinterpret_cast<Result (*)(Args...)>(table[slot])(args...);
}

template <class... Args>
void Call(Slot slot, Args... args) {
  if (void* status = Raw<void*>(slot, args...)) {
    std::printf("slot %d: %s\n", slot, Raw<const char*>(kGetErrorMessage, static_cast<const void*>(status)));
    std::exit(1);
  }
}

void Expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("not so: %s\n", what);
  std::exit(1);
}

template <class F>
F* Driver(const char* name) {
  return reinterpret_cast<F*>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), name));
}

long Counter(const char* name) { return Driver<long(const char*)>("fake_cuda_counter")(name); }

void Synchronize(void* stream) {
  void* context = nullptr;
  Driver<int(void**, int)>("cuDevicePrimaryCtxRetain")(&context, 0);
  Driver<int(void*)>("cuCtxSetCurrent")(context);
  Expect(Driver<int(void*)>("cuStreamSynchronize")(stream) == 0, "the stream can be waited for");
  Driver<int(void*)>("cuCtxSetCurrent")(nullptr);
}

const void* FindGpu(const void* env) {
  const void* const* devices = nullptr;
  size_t count = 0;
  Call(kGetEpDevices, env, &devices, &count);
  for (size_t i = 0; i < count; ++i) {
    const auto* hardware = Raw<const void*>(kEpDeviceHardware, devices[i]);
    const bool ours = std::strcmp(Raw<const char*>(kEpDeviceName, devices[i]), "BoltExecutionProvider") == 0;
    if (ours && Raw<int>(kHardwareType, hardware) == kGpu) return devices[i];
  }
  Expect(false, "there is a GPU");
  return nullptr;
}

void* Tensor(void* env, const void* device, int memory) {
  const auto* info = Raw<const void*>(kEpDeviceMemoryInfo, device, memory);
  Expect(info != nullptr, "the device has that memory");
  void* allocator = nullptr;
  Call(kGetSharedAllocator, env, info, &allocator);
  Expect(allocator != nullptr, "that memory has an allocator");
  const int64_t dims[] = {kRows, kColumns};
  void* value = nullptr;
  Call(kCreateTensor, allocator, dims, size_t{2}, kFloat, &value);
  return value;
}

float* Data(void* value) {
  float* data = nullptr;
  Call(kGetTensorMutableData, value, &data);
  return data;
}

void Fill(void* value, float number) {
  for (int64_t i = 0; i < kCount; ++i) Data(value)[i] = number;
}

bool HoldsResultOf(float x, const float* y) {
  for (int64_t i = 0; i < kCount; ++i) {
    if (y[i] != x * 2 + static_cast<float>(i % kColumns)) return false;
  }
  return true;
}

void Copy(void* env, void* from, void* to, void* stream) {
  const void* const sources[] = {from};
  void* const targets[] = {to};
  Call(kCopyTensors, static_cast<const void*>(env), sources, targets, stream, size_t{1});
}

void Release(void* value) { Raw<void>(kReleaseValue, value); }

// Copy in, run, copy out, all on one stream; nothing executes before the end.
void RunOnOwnStream(void* env, const void* device, void* session) {
  void* stream = nullptr;
  Call(kCreateStream, device, static_cast<const void*>(nullptr), &stream);
  void* options = nullptr;
  Call(kCreateRunOptions, &options);
  Raw<void>(kSetSyncStream, options, stream);
  Call(kAddRunConfigEntry, options, "disable_synchronize_execution_providers", "1");
  void* const x = Tensor(env, device, kDefaultMemory);
  void* y = Tensor(env, device, kDefaultMemory);
  void* const in = Tensor(env, device, kHostAccessible);
  void* const out = Tensor(env, device, kHostAccessible);
  Fill(in, 5);
  Fill(out, -1);
  const long before = Counter("stream_waits") + Counter("event_waits") + Counter("device_waits");
  Copy(env, in, x, stream);
  const char* const names[] = {"x", "y"};
  const void* const inputs[] = {x};
  Call(kRun, session, static_cast<const void*>(options), names, inputs, size_t{1}, names + 1, size_t{1}, &y);
  Copy(env, y, out, stream);
  const long after = Counter("stream_waits") + Counter("event_waits") + Counter("device_waits");
  Expect(after == before, "nothing waited");
  Expect(Data(out)[0] == -1, "nothing executed");
  Synchronize(Raw<void*>(kStreamHandle, stream));
  Expect(HoldsResultOf(5, Data(out)), "the results are right");
  for (void* value : {x, y, in, out}) Release(value);
  Raw<void>(kReleaseRunOptions, options);
  Raw<void>(kReleaseStream, stream);
}

// Pinned memory that a copy still reads is not handed to the next who asks.
void ReusePinnedMemory(void* env, const void* device) {
  void* stream = nullptr;
  Call(kCreateStream, device, static_cast<const void*>(nullptr), &stream);
  void* const target = Tensor(env, device, kDefaultMemory);
  void* const first = Tensor(env, device, kHostAccessible);
  Fill(first, 1);
  Copy(env, first, target, stream);
  Release(first);
  void* others[16];  // more than are free already
  for (void*& other : others) {
    other = Tensor(env, device, kHostAccessible);
    Fill(other, 2);
  }
  void* const out = Tensor(env, device, kHostAccessible);
  Copy(env, target, out, stream);
  Synchronize(Raw<void*>(kStreamHandle, stream));
  Expect(Data(out)[0] == 1, "the copy read what was there when it was asked for");
  for (void* other : others) Release(other);
  for (void* value : {target, out}) Release(value);
  Raw<void>(kReleaseStream, stream);
}

}  // namespace

int main(int, char** argv) {
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == nullptr) return 2;
  const auto base = reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
  table = base->GetApi(24);
  void* env = nullptr;
  Call(kCreateEnv, 3, "host", &env);
  Call(kRegisterLibrary, env, "bolt", static_cast<const char*>(argv[2]));
  const void* device = FindGpu(env);
  void* options = nullptr;
  Call(kCreateSessionOptions, &options);
  const char* const* none = nullptr;
  Call(kAppendDevices, options, env, &device, size_t{1}, none, none, size_t{0});
  void* session = nullptr;
  Call(kCreateSession, static_cast<const void*>(env), static_cast<const char*>(argv[3]),
       static_cast<const void*>(options), &session);
  for (int i = 0; i < 3; ++i) RunOnOwnStream(env, device, session);
  ReusePinnedMemory(env, device);
  Expect(Counter("errors") == 0, "the driver saw no error");
  Raw<void>(kReleaseSession, session);
  Raw<void>(kReleaseSessionOptions, options);
  Call(kUnregisterLibrary, env, "bolt");
  Expect(Counter("live_bytes") == 0 && Counter("live_host") == 0, "all memory went back to the driver");
  Expect(Counter("live_streams") == 0 && Counter("live_events") == 0, "all streams and events did, too");
  Raw<void>(kReleaseEnv, env);
  std::printf("done\n");
}
