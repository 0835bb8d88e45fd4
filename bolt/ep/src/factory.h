// The factory: one per registration of the library.
#ifndef BOLT_EP_FACTORY_H_
#define BOLT_EP_FACTORY_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ep.h"
#include "manifest.h"
#include "offer.h"
#include "ort_abi.h"
#include "package.h"

namespace bolt {

// Offers the devices that the package beside the library is for, all of one kind; without a package, all
// there are.
class Factory : public ort::OrtEpFactory {
 public:
  Factory(const ort::Api& api, Kinds kinds);

 private:
  void FindGpus();
  void OfferGpuCallbacks();
  void AddDevices(const ort::OrtHardwareDevice* const* hardware, size_t count, ort::OrtEpDevice** devices,
                  size_t room, size_t* found);
  // The GPU a session is made for, null for the CPU: the first of the devices it is given, unless the option
  // device_id says another one. Throws Error.
  const Offer* Choose(const ort::OrtKeyValuePairs* const* metadata, size_t count,
                      const Options& options) const;
  std::vector<Place> PlacesOf(const ort::OrtHardwareDevice* const* hardware, size_t count) const;
  // The GPU that a memory of ours belongs to. Throws Error.
  const Offer& OwnerOf(const ort::OrtMemoryDevice* memory) const;

  const ort::Api api_;
  const Kinds kinds_;
  std::string no_gpu_;  // why a session is not for a GPU
  std::vector<std::unique_ptr<Offer>> gpus_;
};

}  // namespace bolt

#endif  // BOLT_EP_FACTORY_H_
