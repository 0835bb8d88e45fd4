// Scratch memory for runs, kept between them: a fresh allocation per run costs a page fault per 4 KiB.
#ifndef BOLT_EP_WORKSPACE_H_
#define BOLT_EP_WORKSPACE_H_

#include <cstddef>
#include <mutex>
#include <vector>

namespace bolt {

// Anonymous memory, page-aligned, on huge pages where the system gives them.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t bytes) noexcept;  // data() is null when there is no memory
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  void* data() const noexcept { return data_; }
  size_t bytes() const noexcept { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// The buffers of one session. All its partitions share them: they run one after the other, so the next one
// finds the memory warm. Concurrent runs get a buffer each.
class Workspaces {
 public:
  // A buffer of at least `bytes`; data() is null when there is no memory.
  Buffer Take(size_t bytes) noexcept;
  void Give(Buffer buffer) noexcept;

 private:
  std::mutex mutex_;
  std::vector<Buffer> free_;
};

}  // namespace bolt

#endif  // BOLT_EP_WORKSPACE_H_
