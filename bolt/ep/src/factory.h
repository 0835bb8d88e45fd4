// The factory: one per registration of the library.
#ifndef BOLT_EP_FACTORY_H_
#define BOLT_EP_FACTORY_H_

#include "ort_abi.h"

namespace bolt {

class Factory : public ort::OrtEpFactory {
 public:
  explicit Factory(const ort::Api& api);

 private:
  ort::OrtStatus* AddDevice(const ort::OrtHardwareDevice* hardware, ort::OrtEpDevice** device) noexcept;

  const ort::Api api_;
};

}  // namespace bolt

#endif  // BOLT_EP_FACTORY_H_
