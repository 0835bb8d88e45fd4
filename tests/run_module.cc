// Runs one compiled module: a small host of bolt/module_abi.h, for machines without ONNX Runtime and Python.
//   run_module <module> <request> <result>
// The request is int64 numbers: bytes of weights, threads, number of inputs; ONNX type, bytes, rank and dims of
// each. The weights and the inputs' contents follow. The result has the same numbers of the outputs (number; type,
// bytes, rank, dims), then their contents.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <thread>
#include <vector>

#include "bolt/module_abi.h"

namespace {

constexpr size_t kErrorBytes = 1024;

[[noreturn]] void Fail(const char* what, const char* detail) {
  fprintf(stderr, "%s: %s\n", what, detail);
  exit(2);
}

void* Allocate(size_t bytes) { return aligned_alloc(64, (bytes / 64 + 1) * 64); }

void Read(FILE* file, void* to, size_t bytes) {
  if (fread(to, 1, bytes, file) != bytes) Fail("request", "too short");
}

int64_t ReadInt(FILE* file) {
  int64_t value = 0;
  Read(file, &value, sizeof value);
  return value;
}

void* ReadBytes(FILE* file, int64_t bytes) {
  void* memory = Allocate(static_cast<size_t>(bytes));
  Read(file, memory, static_cast<size_t>(bytes));
  return memory;
}

struct Tensor {
  int64_t dtype = 0, bytes = 0;
  std::vector<int64_t> dims;
  void* data = nullptr;
};

Tensor ReadHead(FILE* file) {
  Tensor tensor;
  tensor.dtype = ReadInt(file);
  tensor.bytes = ReadInt(file);
  tensor.dims.resize(static_cast<size_t>(ReadInt(file)));
  Read(file, tensor.dims.data(), tensor.dims.size() * sizeof(int64_t));
  return tensor;
}

int64_t ElementBytes(int32_t dtype) {
  switch (dtype) {
    case 1:
    case 6:
      return 4;
    case 7:
      return 8;
    case 2:
    case 3:
    case 9:
      return 1;
  }
  Fail("output", "of a type this host does not know");
}

struct Host {
  const BoltModuleTable* table;
  uint64_t workspace_bytes;
  std::vector<Tensor> outputs;
};

void ParallelFor(void*, void (*fn)(void*, size_t), size_t count, void* arg) {
  std::vector<std::thread> threads;
  for (size_t i = 0; i < count; ++i) threads.emplace_back(fn, arg, i);
  for (std::thread& thread : threads) thread.join();
}

void* Workspace(void* host, size_t bytes) {
  if (bytes > static_cast<Host*>(host)->workspace_bytes) Fail("workspace", "larger than infer said");
  return Allocate(bytes);
}

void* Output(void* host, int32_t index, const int64_t* dims, int32_t rank) {
  Host& self = *static_cast<Host*>(host);
  Tensor& output = self.outputs[static_cast<size_t>(index)];
  output.dtype = self.table->outputs[index].dtype;
  output.dims.assign(dims, dims + rank);
  output.bytes = ElementBytes(self.table->outputs[index].dtype);
  for (int64_t dim : output.dims) output.bytes *= dim;
  return output.data = Allocate(static_cast<size_t>(output.bytes));
}

const BoltModuleTable* Open(const char* path) {
  void* library = dlopen(path, RTLD_NOW);
  if (library == nullptr) Fail("dlopen", dlerror());
  const auto entry = reinterpret_cast<BoltModuleEntry>(dlsym(library, "bolt_module"));
  if (entry == nullptr) Fail("dlsym", dlerror());
  const BoltModuleTable* table = entry();
  if (table->abi_version != BOLT_MODULE_ABI_VERSION) Fail("module", "has another ABI version");
  return table;
}

void Run(const BoltModuleTable* table, const void* weights, const std::vector<Tensor>& inputs, int32_t threads,
         Host* host) {
  char error[kErrorBytes] = "";
  BoltModule* module = nullptr;
  if (table->create(weights, &module, error, sizeof error) != 0) Fail("create", error);
  std::vector<BoltTensor> tensors;
  std::vector<const int64_t*> input_dims;
  for (const Tensor& input : inputs) {
    const int32_t rank = static_cast<int32_t>(input.dims.size()), dtype = static_cast<int32_t>(input.dtype);
    tensors.push_back({input.data, input.dims.data(), rank, dtype});
    input_dims.push_back(input.dims.data());
  }
  std::vector<std::vector<int64_t>> dims;
  for (int32_t i = 0; i < table->output_count; ++i) {
    dims.emplace_back(static_cast<size_t>(table->outputs[i].rank) + 1);
  }
  std::vector<int64_t*> output_dims;
  for (std::vector<int64_t>& one : dims) output_dims.push_back(one.data());
  if (table->infer(module, input_dims.data(), output_dims.data(), threads, &host->workspace_bytes, error,
                   sizeof error) != 0) {
    Fail("infer", error);
  }
  const BoltContext context = {host, threads, 0, ParallelFor, Workspace, Output, nullptr, nullptr};
  if (table->run(module, tensors.data(), &context, error, sizeof error) != 0) Fail("run", error);
  table->destroy(module);
}

void Write(const std::vector<Tensor>& outputs, const char* path) {
  FILE* file = fopen(path, "wb");
  if (file == nullptr) Fail("result", "can't be opened");
  std::vector<int64_t> head = {static_cast<int64_t>(outputs.size())};
  for (const Tensor& output : outputs) {
    head.insert(head.end(), {output.dtype, output.bytes, static_cast<int64_t>(output.dims.size())});
    head.insert(head.end(), output.dims.begin(), output.dims.end());
  }
  fwrite(head.data(), sizeof(int64_t), head.size(), file);
  for (const Tensor& output : outputs) fwrite(output.data, 1, static_cast<size_t>(output.bytes), file);
  if (fclose(file) != 0) Fail("result", "can't be written");
}

}  // namespace

int main(int count, char** argv) {
  if (count != 4) Fail("usage", "run_module <module> <request> <result>");
  FILE* request = fopen(argv[2], "rb");
  if (request == nullptr) Fail("request", "can't be opened");
  const int64_t weights_bytes = ReadInt(request), threads = ReadInt(request);
  std::vector<Tensor> inputs(static_cast<size_t>(ReadInt(request)));
  for (Tensor& input : inputs) input = ReadHead(request);
  const void* weights = ReadBytes(request, weights_bytes);
  for (Tensor& input : inputs) input.data = ReadBytes(request, input.bytes);
  const BoltModuleTable* table = Open(argv[1]);
  if (table->weights_bytes != static_cast<uint64_t>(weights_bytes)) Fail("module", "wants other weights");
  Host host{table, 0, std::vector<Tensor>(static_cast<size_t>(table->output_count))};
  Run(table, weights, inputs, static_cast<int32_t>(threads), &host);
  Write(host.outputs, argv[3]);
}
