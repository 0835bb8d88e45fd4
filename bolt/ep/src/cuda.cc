#include "cuda.h"

#include <dlfcn.h>

#include "status.h"

namespace bolt::cuda {
namespace {

struct Found {
  Driver driver;
  bool usable = false;
  std::string obstacle;

  Found() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      obstacle = "there is no NVIDIA driver (" + std::string(reason == nullptr ? "libcuda.so.1" : reason) +
                 "); install it, or start the container with its GPUs (docker run --gpus all)";
      return;
    }
    usable = Resolve(library) && Start();
  }

 private:
  bool Resolve(void* library) {
#define BOLT_CUDA_RESOLVE(name, symbol, params)                                                    \
  driver.name = reinterpret_cast<Result(*) params>(dlsym(library, #symbol));                       \
  if (driver.name == nullptr) {                                                                    \
    obstacle = "the NVIDIA driver is too old (it has no " #symbol "); upgrade it to 525 or newer"; \
    return false;                                                                                  \
  }
    BOLT_CUDA(BOLT_CUDA_RESOLVE)
#undef BOLT_CUDA_RESOLVE
    return true;
  }

  bool Start() {
    const Result result = driver.Init(0);
    if (result == 0) return true;
    obstacle = "the NVIDIA driver does not start: " + Explain(driver, result) +
               "; check nvidia-smi and the variable CUDA_VISIBLE_DEVICES";
    return false;
  }
};

// Never destroyed: sessions may end after the static destructors ran.
const Found& TheDriver() {
  static const Found& found = *new Found;
  return found;
}

}  // namespace

const Driver* FindDriver(std::string* obstacle) noexcept {
  const Found& found = TheDriver();
  if (!found.usable) *obstacle = found.obstacle;
  return found.usable ? &found.driver : nullptr;
}

const Driver& Get() noexcept { return TheDriver().driver; }

std::string Explain(const Driver& driver, Result result) {
  const char* name = nullptr;
  const char* text = nullptr;
  driver.GetErrorName(result, &name);
  driver.GetErrorString(result, &text);
  if (name == nullptr || text == nullptr) return "CUDA error " + std::to_string(result);
  return std::string(text) + " (" + name + ")";
}

void Check(Result result, const char* what) {
  if (result == 0) return;
  throw Error("bolt: can't " + std::string(what) + ": " + Explain(Get(), result));
}

}  // namespace bolt::cuda
