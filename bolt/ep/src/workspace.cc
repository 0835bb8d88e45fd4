#include "workspace.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace bolt {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

Buffer::Buffer(size_t bytes) noexcept {
  const size_t align = bytes >= kHugePageBytes ? kHugePageBytes : kPageBytes;
  if (bytes > SIZE_MAX - align) return;
  const size_t size = (bytes + align - 1) / align * align;
  void* data = ::operator new(size, std::align_val_t(align), std::nothrow);
  if (data == nullptr) return;
  // Only advice; where huge pages are off nothing changes.
  if (align == kHugePageBytes) madvise(data, size, MADV_HUGEPAGE);
  data_ = data;
  bytes_ = size;
}

Buffer::~Buffer() {
  const size_t align = bytes_ >= kHugePageBytes ? kHugePageBytes : kPageBytes;
  if (data_ != nullptr) ::operator delete(data_, std::align_val_t(align));
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer Workspaces::Take(size_t bytes) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!free_.empty()) {
      // The smallest that fits, or else the largest, which is then replaced.
      const auto fits =
          std::min_element(free_.begin(), free_.end(), [bytes](const Buffer& a, const Buffer& b) {
            const bool a_fits = a.bytes() >= bytes, b_fits = b.bytes() >= bytes;
            if (a_fits != b_fits) return a_fits;
            return a_fits ? a.bytes() < b.bytes() : a.bytes() > b.bytes();
          });
      Buffer buffer = std::move(*fits);
      *fits = std::move(free_.back());
      free_.pop_back();
      if (buffer.bytes() >= bytes) return buffer;
    }
  }
  return Buffer(bytes);
}

void Workspaces::Give(Buffer buffer) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    free_.push_back(std::move(buffer));
  } catch (const std::bad_alloc&) {
    // Without room to remember the buffer it is freed here.
  }
}

}  // namespace bolt
