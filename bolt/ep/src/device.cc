#include "device.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "status.h"

namespace bolt {
namespace {

cuda::Address AddressOf(const void* data) noexcept { return reinterpret_cast<uintptr_t>(data); }

std::string PciBusId(const cuda::Driver& driver, cuda::DeviceHandle handle) {
  char text[32] = "";
  cuda::Check(driver.DeviceGetPciBusId(text, sizeof(text), handle), "read the PCI address of a GPU");
  std::string id = text;
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return std::tolower(c); });
  return id;
}

int Capability(const cuda::Driver& driver, cuda::DeviceHandle handle) {
  int major = 0, minor = 0;
  cuda::Check(driver.DeviceGetAttribute(&major, cuda::kCapabilityMajor, handle), "read what a GPU is");
  cuda::Check(driver.DeviceGetAttribute(&minor, cuda::kCapabilityMinor, handle), "read what a GPU is");
  return 10 * major + minor;
}

std::unique_ptr<Device> MakeDevice(const cuda::Driver& driver, int ordinal) {
  cuda::DeviceHandle handle = 0;
  cuda::Check(driver.DeviceGet(&handle, ordinal), "find a GPU");
  char name[256] = "";
  cuda::Check(driver.DeviceGetName(name, sizeof(name), handle), "read the name of a GPU");
  return std::make_unique<Device>(ordinal, name, Capability(driver, handle), PciBusId(driver, handle));
}

void Enumerate(Devices* devices) {
  const cuda::Driver* driver = cuda::FindDriver(&devices->obstacle);
  if (driver == nullptr) return;
  int count = 0;
  cuda::Check(driver->DeviceGetCount(&count), "count the GPUs");
  for (int i = 0; i < count; ++i) devices->list.push_back(MakeDevice(*driver, i));
  if (count == 0) {
    devices->obstacle =
        "the NVIDIA driver shows no GPU; check nvidia-smi and the variable CUDA_VISIBLE_DEVICES";
  }
}

}  // namespace

const Devices& AllDevices() {
  static const Devices& devices = *[] {
    auto found = std::make_unique<Devices>();
    try {
      Enumerate(found.get());
    } catch (const Error& e) {
      found->list.clear();
      found->obstacle = e.what();
    }
    return found.release();
  }();
  return devices;
}

Device::Device(int ordinal, std::string name, int capability, std::string pci_bus_id)
    : ordinal_(ordinal),
      name_(std::move(name)),
      capability_(capability),
      pci_bus_id_(std::move(pci_bus_id)) {}

cuda::Context* Device::context() {
  if (cuda::Context* context = context_) return context;
  const std::lock_guard lock(context_mutex_);
  if (context_ == nullptr) {
    cuda::DeviceHandle handle = 0;
    cuda::Context* context = nullptr;
    cuda::Check(cuda::Get().DeviceGet(&handle, ordinal_), "find a GPU");
    cuda::Check(cuda::Get().PrimaryContextRetain(&context, handle), "start a GPU");
    context_ = context;
  }
  return context_;
}

void Device::Wait() {
  const std::lock_guard lock(streams_mutex_);  // keeps them alive
  for (StreamHandle* stream : streams_) stream->Wait();
}

bool Device::IsCapturing() noexcept {
  const std::lock_guard lock(streams_mutex_);
  return std::any_of(streams_.begin(), streams_.end(),
                     [](const StreamHandle* stream) { return stream->capturing.load(); });
}

bool Device::WaitForEverything() noexcept {
  if (context_ == nullptr) return true;
  try {
    if (IsCapturing()) {
      Wait();
      return false;
    }
    const DeviceScope scope(*this);
    cuda::Get().ContextSynchronize();  // a device that failed does no work any more
    return true;
  } catch (const Error&) {
    return false;
  }
}

void* Device::DeviceMemory::Allocate(size_t bytes) noexcept {
  try {
    const DeviceScope scope(*device_);
    cuda::Address address = 0;
    if (cuda::Get().MemAlloc(&address, bytes) != 0) return nullptr;
    return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
  } catch (const Error&) {
    return nullptr;
  }
}

void Device::DeviceMemory::Free(void* data) noexcept {
  try {
    const DeviceScope scope(*device_);
    cuda::Get().MemFree(AddressOf(data));
  } catch (const Error&) {
    return;  // the device is gone, and its memory with it
  }
}

bool Device::DeviceMemory::Wait() noexcept { return device_->WaitForEverything(); }

void* Device::PinnedMemory::Allocate(size_t bytes) noexcept {
  try {
    const DeviceScope scope(*device_);
    void* data = nullptr;
    return cuda::Get().MemHostAlloc(&data, bytes, cuda::kPortable) == 0 ? data : nullptr;
  } catch (const Error&) {
    return nullptr;
  }
}

void Device::PinnedMemory::Free(void* data) noexcept {
  try {
    const DeviceScope scope(*device_);
    cuda::Get().MemFreeHost(data);
  } catch (const Error&) {
    return;
  }
}

DeviceScope::DeviceScope(Device& device) {
  cuda::Context* const wanted = device.context();
  cuda::Check(cuda::Get().ContextGetCurrent(&before_), "ask which GPU is current");
  if (before_ == wanted) return;
  cuda::Check(cuda::Get().ContextSetCurrent(wanted), "make a GPU current");
  changed_ = true;
}

DeviceScope::~DeviceScope() {
  if (changed_) cuda::Get().ContextSetCurrent(before_);
}

DeviceBuffer::DeviceBuffer(Device& device, size_t bytes) : device_(device) {
  if (bytes == 0) return;
  data_ = device.device_source_.Allocate(bytes);
  if (data_ == nullptr) {
    device.memory().Trim();
    data_ = device.device_source_.Allocate(bytes);
  }
  if (data_ == nullptr) {
    throw Error("GPU " + std::to_string(device.ordinal()) + " (" + device.name() + ") has no " +
                std::to_string(bytes) + " bytes of memory left");
  }
}

DeviceBuffer::~DeviceBuffer() {
  if (data_ != nullptr) device_.device_source_.Free(data_);
}

// Without a stream the legacy one is used, and waited for even after a copy from pageable memory: such a copy
// returns before it has arrived, and our streams do not wait for the legacy one.
void Copy(Device& device, void* to, const void* from, size_t bytes, cuda::Stream* stream) {
  if (bytes == 0) return;
  const DeviceScope scope(device);
  const cuda::Driver& driver = cuda::Get();
  cuda::Check(driver.MemcpyAsync(AddressOf(to), AddressOf(from), bytes, stream), "copy memory");
  if (stream == nullptr) return cuda::Check(driver.StreamSynchronize(nullptr), "copy memory");
  device.pinned().UsedBy(from, stream);
  device.pinned().UsedBy(to, stream);
}

StreamHandle::StreamHandle(Device& device) : device_(device) {
  const DeviceScope scope(device);
  cuda::Check(cuda::Get().StreamCreate(&stream_, cuda::kNonBlocking), "create a stream");
  const std::lock_guard lock(device.streams_mutex_);
  device.streams_.insert(this);
}

StreamHandle::~StreamHandle() {
  {
    const std::lock_guard lock(device_.streams_mutex_);
    device_.streams_.erase(this);
  }
  try {
    const DeviceScope scope(device_);
    cuda::Get().StreamSynchronize(stream_);
    cuda::Get().StreamDestroy(stream_);
  } catch (const Error&) {
    // The device is gone, and the stream with it.
  }
  device_.memory().Ended(stream_);
  device_.pinned().Ended(stream_);
}

void StreamHandle::Wait() {
  if (capturing) return;
  const DeviceScope scope(device_);
  const uint64_t memory = device_.memory().Now(), pinned = device_.pinned().Now();
  cuda::Check(cuda::Get().StreamSynchronize(stream_), "wait for a GPU");
  device_.memory().Finished(stream_, memory);
  device_.pinned().Finished(stream_, pinned);
}

}  // namespace bolt
