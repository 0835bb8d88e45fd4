// Files of an artifact: paths that must stay inside it, and read-only mappings of them.
#ifndef BOLT_EP_FILE_H_
#define BOLT_EP_FILE_H_

#include <cstdint>
#include <string>

namespace bolt {

// The absolute real path of `relative` inside the folder `folder` (absolute and real). A path out of a model
// is untrusted: throws Error when it is empty, absolute, has a ".." part, does not exist, or leads out of the
// folder through a symbolic link.
std::string ResolveInside(const std::string& folder, const std::string& relative);

// The absolute real path of the folder that `path` lies in. Throws Error when there is no such folder.
std::string FolderOf(const std::string& path);

// The whole content of a file of at most `limit` bytes. Throws Error.
std::string ReadFile(const std::string& path, uint64_t limit);

// Identifies the content of a file well enough to share a mapping of it: device, inode, size, time of change.
std::string FileIdentity(const std::string& path);

// A read-only shared mapping of a range of a file. Any offset is fine; the data is as aligned as the offset
// is, up to a page.
class Mapping {
 public:
  // Throws Error when the file can't be mapped or is shorter than offset + bytes.
  Mapping(const std::string& path, uint64_t offset, uint64_t bytes);
  // The whole file.
  explicit Mapping(const std::string& path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const void* data() const noexcept { return data_; }
  uint64_t bytes() const noexcept { return bytes_; }

 private:
  void Map(const std::string& path, int fd, uint64_t offset);

  void* base_ = nullptr;
  size_t base_bytes_ = 0;
  const void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace bolt

#endif  // BOLT_EP_FILE_H_
