// A program that serves an artifact through ONNX Runtime's C API, without Python and without ONNX Runtime's
// headers.
//   host <libonnxruntime.so> <libbolt_ep.so> <model.onnx> <compatibility text> <threads of a global pool, 0:
//   own pool>
// Prints how ONNX Runtime judges the compatibility text, then the outputs for x = 1 of dims [3, 37], five
// times.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

// Slots of OrtApi, as in onnxruntime_c_api.h since 1.23.
enum Slot {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSession = 7,
  kRun = 9,
  kCreateSessionOptions = 10,
  kCreateTensorWithData = 49,
  kGetTensorMutableData = 51,
  kCreateCpuMemoryInfo = 69,
  kReleaseEnv = 92,
  kReleaseMemoryInfo = 94,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
  kCreateEnvWithGlobalThreadPools = 119,
  kDisablePerSessionThreads = 120,
  kCreateThreadingOptions = 121,
  kReleaseThreadingOptions = 122,
  kSetGlobalIntraOpNumThreads = 147,
  kRegisterLibrary = 301,
  kUnregisterLibrary = 302,
  kGetEpDevices = 303,
  kAppendDevices = 304,
  kEpDeviceName = 312,
  kGetCompatibility = 388,
};

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

void* CreateEnvironment(int global_threads) {
  void* env = nullptr;
  if (global_threads == 0) {
    Call(kCreateEnv, 3, "host", &env);
    return env;
  }
  void* threading = nullptr;
  Call(kCreateThreadingOptions, &threading);
  Call(kSetGlobalIntraOpNumThreads, threading, global_threads);
  Call(kCreateEnvWithGlobalThreadPools, 3, "host", static_cast<const void*>(threading), &env);
  Raw<void>(kReleaseThreadingOptions, threading);
  return env;
}

const void* FindDevice(const void* env) {
  const void* const* devices = nullptr;
  size_t count = 0;
  Call(kGetEpDevices, env, &devices, &count);
  for (size_t i = 0; i < count; ++i) {
    if (std::strcmp(Raw<const char*>(kEpDeviceName, devices[i]), "BoltExecutionProvider") == 0)
      return devices[i];
  }
  std::printf("no device\n");
  std::exit(1);
}

void RunOnce(void* session, const void* memory) {
  float x[3 * 37];
  for (float& value : x) value = 1;
  const int64_t dims[] = {3, 37};
  void* input = nullptr;
  void* output = nullptr;
  Call(kCreateTensorWithData, memory, static_cast<void*>(x), sizeof(x), dims, size_t{2}, 1, &input);
  const char* const names[] = {"x", "y"};
  const void* const inputs[] = {input};
  Call(kRun, session, static_cast<const void*>(nullptr), names, inputs, size_t{1}, names + 1, size_t{1},
       &output);
  float* y = nullptr;
  Call(kGetTensorMutableData, output, &y);
  std::printf("%g %g %g\n", y[0], y[1], y[3 * 37 - 1]);
  Raw<void>(kReleaseValue, output);
  Raw<void>(kReleaseValue, input);
}

}  // namespace

int main(int, char** argv) {
  void* library = dlopen(argv[1], RTLD_NOW);
  if (library == nullptr) return 2;
  const auto base = reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"))();
  table = base->GetApi(23);
  const int global_threads = std::atoi(argv[5]);
  void* env = CreateEnvironment(global_threads);
  Call(kRegisterLibrary, env, "bolt", static_cast<const char*>(argv[2]));
  const void* device = FindDevice(env);
  int judged = -1;
  Call(kGetCompatibility, &device, size_t{1}, static_cast<const char*>(argv[4]), &judged);
  std::printf("judged %d\n", judged);
  void* options = nullptr;
  Call(kCreateSessionOptions, &options);
  if (global_threads > 0) Call(kDisablePerSessionThreads, options);
  const char* const* none = nullptr;
  Call(kAppendDevices, options, env, &device, size_t{1}, none, none, size_t{0});
  void* session = nullptr;
  Call(kCreateSession, static_cast<const void*>(env), static_cast<const char*>(argv[3]),
       static_cast<const void*>(options), &session);
  void* memory = nullptr;
  Call(kCreateCpuMemoryInfo, 0, 0, &memory);
  for (int i = 0; i < 5; ++i) RunOnce(session, memory);
  Raw<void>(kReleaseMemoryInfo, memory);
  Raw<void>(kReleaseSession, session);
  Raw<void>(kReleaseSessionOptions, options);
  Call(kUnregisterLibrary, env, "bolt");
  Raw<void>(kReleaseEnv, env);
  std::printf("done\n");
}
