// Calls one kernel in a process of its own: on an emulated machine, or where it may crash.
//   call_kernel <library> <function> <request> <result>
// The request is int64 numbers: count of memories, operands and ints, bytes of scratch, parts; the bytes of each
// memory; (memory, byte offset) of each operand; the ints. The memories' contents follow, and are the result.
// Every memory ends where a page that can't be touched begins.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

namespace {

typedef void (*Kernel)(void* const* p, const int64_t* d, void* scratch, int64_t part, int64_t parts);

constexpr size_t kGuardBytes = 64;

[[noreturn]] void Fail(const char* what, const char* detail) {
  fprintf(stderr, "%s: %s\n", what, detail);
  exit(2);
}

std::vector<int64_t> ReadInts(FILE* file, int64_t count) {
  std::vector<int64_t> ints(static_cast<size_t>(count));
  if (fread(ints.data(), sizeof(int64_t), ints.size(), file) != ints.size()) Fail("request", "too short");
  return ints;
}

char* MapBeforeHole(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), whole = (bytes + page - 1) / page * page;
  void* start = mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) Fail("mmap", "no memory");
  char* end = static_cast<char*>(start) + whole;
  if (mprotect(end, page, PROT_NONE) != 0) Fail("mprotect", "refused");
  return end - bytes;
}

Kernel Find(const char* library, const char* function) {
  void* handle = dlopen(library, RTLD_NOW);
  if (handle == nullptr) Fail("dlopen", dlerror());
  void* symbol = dlsym(handle, function);
  if (symbol == nullptr) Fail("dlsym", dlerror());
  return reinterpret_cast<Kernel>(symbol);
}

bool IsUntouched(const char* bytes) {
  for (size_t i = 0; i < kGuardBytes; ++i) {
    if (bytes[i] != '\xff') return false;
  }
  return true;
}

// Last part first: no part may wait for what an earlier one did.
void CallAllParts(Kernel kernel, void* const* p, const int64_t* d, size_t scratch_bytes, int64_t parts) {
  const size_t whole = (scratch_bytes + 63) / 64 * 64;
  char* const memory = static_cast<char*>(aligned_alloc(64, whole + 2 * kGuardBytes));
  for (int64_t part = parts; part-- > 0;) {
    memset(memory, 0xff, whole + 2 * kGuardBytes);  // floats in it read as NaN
    kernel(p, d, memory + kGuardBytes, part, parts);
    if (!IsUntouched(memory) || !IsUntouched(memory + kGuardBytes + scratch_bytes)) {
      Fail("scratch", "a part wrote outside its scratch");
    }
  }
  free(memory);
}

}  // namespace

int main(int count, char** argv) {
  if (count != 5) Fail("usage", "call_kernel <library> <function> <request> <result>");
  FILE* request = fopen(argv[3], "rb");
  if (request == nullptr) Fail("request", "can't be opened");
  const std::vector<int64_t> head = ReadInts(request, 5);
  const std::vector<int64_t> bytes = ReadInts(request, head[0]);
  const std::vector<int64_t> operands = ReadInts(request, 2 * head[1]);
  std::vector<int64_t> ints = ReadInts(request, head[2]);
  ints.push_back(0);
  std::vector<char*> memories;
  for (int64_t size : bytes) {
    memories.push_back(MapBeforeHole(static_cast<size_t>(size)));
    const size_t wanted = static_cast<size_t>(size);
    if (fread(memories.back(), 1, wanted, request) != wanted) Fail("request", "too short");
  }
  std::vector<void*> pointers;
  for (size_t i = 0; i < operands.size(); i += 2) {
    pointers.push_back(memories[static_cast<size_t>(operands[i])] + operands[i + 1]);
  }
  CallAllParts(Find(argv[1], argv[2]), pointers.data(), ints.data(), static_cast<size_t>(head[3]), head[4]);
  FILE* result = fopen(argv[4], "wb");
  if (result == nullptr) Fail("result", "can't be opened");
  for (size_t i = 0; i < memories.size(); ++i) fwrite(memories[i], 1, static_cast<size_t>(bytes[i]), result);
  return fclose(result) == 0 ? 0 : 2;
}
