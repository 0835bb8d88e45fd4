// Errors inside the library are exceptions; nothing but an OrtStatus leaves it.
#ifndef BOLT_EP_STATUS_H_
#define BOLT_EP_STATUS_H_

#include <exception>
#include <stdexcept>
#include <string>

#include "ort_abi.h"

namespace bolt {

// What went wrong, where, and what to do next, in one sentence.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws the message of a failed status.
inline void Check(const ort::Api& api, ort::OrtStatus* status) {
  if (status == nullptr) return;
  std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw Error(message);
}

// kFail, never EP_FAIL: on EP_FAIL, Python's `run` silently repeats the whole model on the CPU provider.
inline ort::OrtStatus* Fail(const ort::Api& api, const char* message) noexcept {
  return api.CreateStatus(ort::kFail, message);
}

// Runs `body` and turns whatever it throws into a status.
template <class Body>
ort::OrtStatus* Guard(const ort::Api& api, Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception& e) {
    return Fail(api, e.what());
  } catch (...) {
    return Fail(api, "bolt: unknown error");
  }
}

}  // namespace bolt

#endif  // BOLT_EP_STATUS_H_
