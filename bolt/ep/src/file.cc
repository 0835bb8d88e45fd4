#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "status.h"

namespace bolt {
namespace {

[[noreturn]] void ThrowErrno(const std::string& what, const std::string& path) {
  throw Error(what + " " + path + ": " + std::strerror(errno));
}

// An open file descriptor.
class Descriptor {
 public:
  explicit Descriptor(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) ThrowErrno("can't open", path);
  }
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

uint64_t SizeOf(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) ThrowErrno("can't stat", path);
  if (!S_ISREG(info.st_mode)) throw Error(path + " is not a regular file");
  return static_cast<uint64_t>(info.st_size);
}

std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
  if (!real) ThrowErrno("can't find", path);
  return real.get();
}

bool HasParentPart(std::string_view path) {
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    if (path.substr(start, end - start) == "..") return true;
    start = end + 1;
  }
  return false;
}

}  // namespace

std::string ResolveInside(const std::string& folder, const std::string& relative) {
  const std::string quoted = "path \"" + relative + "\"";
  if (relative.empty()) throw Error("an empty path in the artifact");
  if (relative.find('\0') != std::string::npos) throw Error("a path in the artifact has a NUL byte");
  if (relative.front() == '/')
    throw Error(quoted + " is absolute; paths of an artifact are relative to its folder");
  if (HasParentPart(relative)) throw Error(quoted + " has a \"..\" part; it must stay inside the artifact");
  const std::string prefix = folder == "/" ? folder : folder + "/";
  const std::string real = RealPath(prefix + relative);
  if (!real.starts_with(prefix)) throw Error(quoted + " leads out of the artifact's folder " + folder);
  return real;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return RealPath(".");
  return RealPath(slash == 0 ? "/" : path.substr(0, slash));
}

std::string ReadFile(const std::string& path, uint64_t limit) {
  const Descriptor file(path);
  const uint64_t size = SizeOf(file.get(), path);
  if (size > limit) {
    throw Error(path + " is " + std::to_string(size) + " bytes; at most " + std::to_string(limit) +
                " are allowed");
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = read(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) ThrowErrno("can't read", path);
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

std::string FileIdentity(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) ThrowErrno("can't stat", path);
  std::string text;
  for (const uint64_t part :
       {uint64_t{info.st_dev}, uint64_t{info.st_ino}, static_cast<uint64_t>(info.st_size),
        static_cast<uint64_t>(info.st_ctim.tv_sec), static_cast<uint64_t>(info.st_ctim.tv_nsec)}) {
    text += std::to_string(part) + ":";
  }
  return text;
}

Mapping::Mapping(const std::string& path, uint64_t offset, uint64_t bytes) : bytes_(bytes) {
  const Descriptor file(path);
  const uint64_t size = SizeOf(file.get(), path);
  // Pages of a mapping beyond the end of the file kill the process with SIGBUS, so check first.
  if (offset > size || bytes > size - offset) {
    throw Error(path + " is truncated: it has " + std::to_string(size) + " bytes, but bytes " +
                std::to_string(offset) + " to " + std::to_string(offset + bytes) + " are needed");
  }
  Map(path, file.get(), offset);
}

Mapping::Mapping(const std::string& path) {
  const Descriptor file(path);
  bytes_ = SizeOf(file.get(), path);
  Map(path, file.get(), 0);
}

void Mapping::Map(const std::string& path, int fd, uint64_t offset) {
  if (bytes_ == 0) return;
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t before = offset % page;
  base_bytes_ = bytes_ + before;
  base_ = mmap(nullptr, base_bytes_, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset - before));
  if (base_ == MAP_FAILED) ThrowErrno("can't map", path);
  data_ = static_cast<const char*>(base_) + before;
}

Mapping::~Mapping() {
  if (base_ != nullptr) munmap(base_, base_bytes_);
}

}  // namespace bolt
