// The GPUs of this machine as the CUDA driver numbers them, their memory and their streams.
#ifndef BOLT_EP_DEVICE_H_
#define BOLT_EP_DEVICE_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "arena.h"
#include "cuda.h"

namespace bolt {

class StreamHandle;

// One GPU. Lives as long as the process: tensors may outlive every session.
class Device {
 public:
  Device(int ordinal, std::string name, int capability, std::string pci_bus_id);

  int ordinal() const noexcept { return ordinal_; }  // among those the driver shows
  const std::string& name() const noexcept { return name_; }
  int capability() const noexcept { return capability_; }                 // 10 * major + minor
  const std::string& pci_bus_id() const noexcept { return pci_bus_id_; }  // "0000:3b:00.0"

  Arena& memory() noexcept { return memory_; }
  Arena& pinned() noexcept { return pinned_; }

  // The primary context, which the CUDA runtime of modules uses too; made at the first call. Throws Error.
  cuda::Context* context();

  // Waits for all streams of ours. Throws Error.
  void Wait();
  // Waits for all work, also of others, before something it uses goes away. While a stream is captured, which
  // waiting for the device would spoil, it waits for our streams only and returns false.
  bool WaitForEverything() noexcept;

 private:
  friend class DeviceBuffer;
  friend class StreamHandle;

  bool IsCapturing() noexcept;

  class DeviceMemory : public MemorySource {
   public:
    explicit DeviceMemory(Device* device) noexcept : device_(device) {}
    void* Allocate(size_t bytes) noexcept override;
    void Free(void* data) noexcept override;
    bool Wait() noexcept override;

   private:
    Device* const device_;
  };
  class PinnedMemory : public DeviceMemory {
   public:
    explicit PinnedMemory(Device* device) noexcept : DeviceMemory(device), device_(device) {}
    void* Allocate(size_t bytes) noexcept override;
    void Free(void* data) noexcept override;

   private:
    Device* const device_;
  };

  const int ordinal_;
  const std::string name_;
  const int capability_;
  const std::string pci_bus_id_;
  std::mutex context_mutex_;
  std::atomic<cuda::Context*> context_ = nullptr;
  std::mutex streams_mutex_;
  std::set<StreamHandle*> streams_;
  DeviceMemory device_source_{this};
  PinnedMemory pinned_source_{this};
  Arena memory_{&device_source_};
  Arena pinned_{&pinned_source_};
};

struct Devices {
  std::vector<std::unique_ptr<Device>> list;  // by ordinal
  std::string obstacle;                       // why the list is empty, and what to do
};

// Asks the driver once per process.
const Devices& AllDevices();

// Makes a device's context current on this thread for as long as it lives. Throws Error.
class DeviceScope {
 public:
  explicit DeviceScope(Device& device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  cuda::Context* before_ = nullptr;
  bool changed_ = false;
};

// Memory of a device of exactly the asked size, 256-byte aligned. Throws Error.
class DeviceBuffer {
 public:
  DeviceBuffer(Device& device, size_t bytes);
  ~DeviceBuffer();
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const noexcept { return data_; }

 private:
  Device& device_;
  void* data_ = nullptr;
};

// Puts a copy between host and device, or between devices, on a stream; without one, waits until it is done.
// Throws Error.
void Copy(Device& device, void* to, const void* from, size_t bytes, cuda::Stream* stream);

// A stream of ours.
class StreamHandle {
 public:
  explicit StreamHandle(Device& device);
  ~StreamHandle();
  StreamHandle(const StreamHandle&) = delete;
  StreamHandle& operator=(const StreamHandle&) = delete;

  Device& device() const noexcept { return device_; }
  cuda::Stream* get() const noexcept { return stream_; }

  // Waits for its work; returns at once while the stream is captured. Throws Error.
  void Wait();

  std::atomic<bool> capturing{false};

 private:
  Device& device_;
  cuda::Stream* stream_ = nullptr;
};

}  // namespace bolt

#endif  // BOLT_EP_DEVICE_H_
