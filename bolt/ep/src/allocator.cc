#include "allocator.h"

#include <string>
#include <utility>

#include "status.h"

namespace bolt {

Allocator::Allocator(const ort::Api& api, Device* device, bool pinned, const ort::OrtMemoryInfo* info)
    : ort::OrtAllocator{}, api_(api), arena_(pinned ? device->pinned() : device->memory()), info_(info) {
  version = api.struct_version;
  Alloc = [](ort::OrtAllocator* self, size_t bytes) noexcept {
    return static_cast<Allocator*>(self)->arena_.Take(bytes, nullptr);
  };
  Reserve = Alloc;
  Free = [](ort::OrtAllocator* self, void* data) noexcept {
    static_cast<Allocator*>(self)->arena_.Give(data);
  };
  Info = [](const ort::OrtAllocator* self) noexcept { return static_cast<const Allocator*>(self)->info_; };
  AllocOnStream = [](ort::OrtAllocator* self, size_t bytes, ort::OrtSyncStream* stream) noexcept {
    auto& allocator = *static_cast<Allocator*>(self);
    const void* user = stream == nullptr ? nullptr : allocator.api_.SyncStream_GetHandle(stream);
    return allocator.arena_.Take(bytes, user);
  };
  GetStats = [](const ort::OrtAllocator* self, ort::OrtKeyValuePairs** out) noexcept {
    return static_cast<const Allocator*>(self)->Statistics(out);
  };
  Shrink = [](ort::OrtAllocator* self) noexcept {
    static_cast<Allocator*>(self)->arena_.Trim();
    return static_cast<ort::OrtStatus*>(nullptr);
  };
}

ort::OrtStatus* Allocator::Statistics(ort::OrtKeyValuePairs** out) const noexcept {
  return Guard(api_, [&] {
    const Arena::Statistics found = arena_.statistics();
    api_.CreateKeyValuePairs(out);
    const std::pair<const char*, size_t> rows[] = {
        {"InUse", found.in_use},
        {"MaxInUse", found.most_in_use},
        {"TotalAllocated", found.total},
        {"NumAllocs", found.takes},
        {"NumArenaExtensions", found.allocations},
    };
    for (const auto& [key, value] : rows) {
      api_.AddKeyValuePair(*out, key, std::to_string(value).c_str());
    }
  });
}

}  // namespace bolt
