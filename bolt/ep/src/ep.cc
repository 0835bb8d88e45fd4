#include "ep.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>
#include <vector>

#include "file.h"
#include "graph.h"
#include "manifest.h"
#include "status.h"
#include "stream.h"

namespace bolt {
namespace {

constexpr std::string_view kOptionPrefix = "ep.boltexecutionprovider.";

// A number >= 0; `meaning` says what it is.
int32_t ParseNumber(const std::string& key, const std::string& value, const char* meaning) {
  int32_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0) {
    throw Error("option " + key + " is \"" + value + "\"; it must be " + meaning);
  }
  return number;
}

void SetThreads(const std::string& key, const std::string& value, Options* options) {
  options->threads = ParseNumber(key, value, "a number of threads, 0 for as many as ONNX Runtime uses");
}
void SetDeviceId(const std::string& key, const std::string& value, Options* options) {
  options->device_id = ParseNumber(key, value, "the number of a GPU, counted from 0");
}
void SetCudaGraph(const std::string& key, const std::string& value, Options* options) {
  if (value != "0" && value != "1") throw Error("option " + key + " is \"" + value + "\"; it must be 0 or 1");
  options->cuda_graph = value == "1";
}
void SetTarget(const std::string&, const std::string& value, Options* options) { options->target = value; }
void SetContextPath(const std::string&, const std::string& value, Options* options) {
  options->context_path = value;
}

void SetGenerate(const std::string&, const std::string& value, Options* options) {
  options->generate = value == "1";
}

struct OptionRow {
  std::string_view key;
  void (*set)(const std::string& key, const std::string& value, Options* options);
};
constexpr OptionRow kOptions[] = {
    {"ep.boltexecutionprovider.intra_op_num_threads", SetThreads},
    {"ep.boltexecutionprovider.target", SetTarget},
    {"ep.boltexecutionprovider.device_id", SetDeviceId},
    {"ep.boltexecutionprovider.cuda_graph", SetCudaGraph},
    {"ep.context_file_path", SetContextPath},
    {"ep.context_enable", SetGenerate},
};

void SetOption(const std::string& key, const std::string& value, Options* options) {
  for (const OptionRow& row : kOptions) {
    if (row.key == key) return row.set(key, value, options);
  }
  if (!key.starts_with(kOptionPrefix)) return;
  std::string known;
  for (const OptionRow& row : kOptions) known += " " + std::string(row.key);
  throw Error("there is no option " + key + "; known are:" + known);
}

// An attribute that every EPContext node of bolt has.
std::string Need(const ort::Api& api, const ort::OrtNode* node, const char* name) {
  std::optional<std::string> value = StringAttribute(api, node, name);
  if (!value) throw Error(std::string("the EPContext node has no attribute ") + name);
  return *std::move(value);
}

void CheckValues(const ort::Api& api, const char* what, const std::vector<const ort::OrtValueInfo*>& values,
                 const BoltValueInfo* infos, int32_t count) {
  if (values.size() != static_cast<size_t>(count)) {
    throw Error("the node has " + std::to_string(values.size()) + " " + what + "s, its module " +
                std::to_string(count) + "; model and modules do not belong together");
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const int32_t dtype = ElementType(api, values[i]);
    if (dtype != 0 && dtype != infos[i].dtype) {
      throw Error(std::string(what) + " " + std::to_string(i) + " (\"" + infos[i].name +
                  "\") has ONNX type " + std::to_string(dtype) + " in the model and " +
                  std::to_string(infos[i].dtype) +
                  " in the module; model and modules do not belong together");
    }
  }
}

// The index of each of the EPContext node's values among the values of the node made of it.
std::vector<size_t> Places(const ort::Api& api, const std::vector<const ort::OrtValueInfo*>& values,
                           const std::vector<const ort::OrtValueInfo*>& fused) {
  std::vector<size_t> places;
  for (const ort::OrtValueInfo* value : values) {
    const auto same = [&](const ort::OrtValueInfo* other) { return Name(api, other) == Name(api, value); };
    const auto it = std::find_if(fused.begin(), fused.end(), same);
    places.push_back(it == fused.end() ? Wiring::kDropped : static_cast<size_t>(it - fused.begin()));
  }
  return places;
}

Wiring Wire(const ort::Api& api, const ort::OrtNode* node, const ort::OrtNode* fused) {
  Wiring wiring{Places(api, Inputs(api, node), Inputs(api, fused)),
                Places(api, Outputs(api, node), Outputs(api, fused))};
  if (std::count(wiring.inputs.begin(), wiring.inputs.end(), Wiring::kDropped) > 0) {
    throw Error("ONNX Runtime gives it no value for one of its inputs");
  }
  return wiring;
}

}  // namespace

Options Options::Read(const ort::Api& api, const ort::OrtSessionOptions* session) {
  ort::OrtKeyValuePairs* pairs = nullptr;
  Check(api, api.GetSessionOptionsConfigEntries(session, &pairs));
  const std::unique_ptr<ort::OrtKeyValuePairs, ort::ReleaseKeyValuePairsFn> owner(pairs,
                                                                                  api.ReleaseKeyValuePairs);
  const char* const* keys = nullptr;
  const char* const* values = nullptr;
  size_t count = 0;
  api.GetKeyValuePairs(pairs, &keys, &values, &count);
  Options options;
  for (size_t i = 0; i < count; ++i) SetOption(keys[i], values[i], &options);
  return options;
}

Ep::Ep(const ort::Api& api, const ort::OrtLogger* logger, Options options, const Offer* gpu,
       std::string no_gpu)
    : ort::OrtEp{},
      api_(api),
      logger_(logger),
      options_(std::move(options)),
      gpu_(gpu),
      place_{gpu == nullptr ? nullptr : &gpu->device(), std::move(no_gpu)},
      state_(std::make_shared<SessionState>(options_.threads, gpu == nullptr ? nullptr : &gpu->device())) {
  ort_version_supported = api.struct_version;
  GetName = [](const ort::OrtEp*) noexcept { return static_cast<const char*>(kEpName); };
  GetCapability = [](ort::OrtEp* self, const ort::OrtGraph* graph,
                     ort::OrtEpGraphSupportInfo* support) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.Claim(graph, support); });
  };
  Compile = [](ort::OrtEp* self, const ort::OrtGraph** graphs, const ort::OrtNode** fused, size_t count,
               ort::OrtNodeComputeInfo** infos, ort::OrtNode**) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] {
      std::vector<std::unique_ptr<Kernel>> kernels;
      for (size_t i = 0; i < count; ++i) kernels.push_back(ep.Load(graphs[i], fused[i]));
      for (size_t i = 0; i < count; ++i) infos[i] = kernels[i].release();
    });
  };
  ReleaseNodeComputeInfos = [](ort::OrtEp* self, ort::OrtNodeComputeInfo** infos, size_t count) noexcept {
    // Graphs hold kernels of the modules that go now.
    if (const auto& capture = static_cast<Ep*>(self)->state_->capture) capture->Clear();
    for (size_t i = 0; i < count; ++i) delete static_cast<Kernel*>(infos[i]);
  };
  IsConcurrentRunSupported = [](ort::OrtEp* self, bool* supported) noexcept {
    *supported = static_cast<Ep*>(self)->state_->capture == nullptr;
    return static_cast<ort::OrtStatus*>(nullptr);
  };
  if (gpu != nullptr) OfferGpuCallbacks();
  if (options_.cuda_graph) OfferCapture();
}

void Ep::OfferGpuCallbacks() {
  memcpy_ = std::make_unique<MemcpyKernels>(api_, &gpu_->device(), kEpName);
  GetKernelRegistry = [](ort::OrtEp* self, const ort::OrtKernelRegistry** registry) noexcept {
    *registry = static_cast<Ep*>(self)->memcpy_->registry();
    return static_cast<ort::OrtStatus*>(nullptr);
  };
  // Where a session is given several devices, ONNX Runtime before 1.31 asks for a stream of the first.
  CreateSyncStreamForDevice = [](ort::OrtEp* self, const ort::OrtMemoryDevice*,
                                 ort::OrtSyncStreamImpl** stream) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] {
      const auto& capture = ep.state_->capture;
      auto handle = capture ? capture->stream() : std::make_shared<StreamHandle>(ep.gpu_->device());
      *stream = std::make_unique<Stream>(ep.api_, std::move(handle)).release();
    });
  };
  Sync = [](ort::OrtEp* self) noexcept {
    auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.gpu_->device().Wait(); });
  };
  GetDefaultMemoryDevice = [](const ort::OrtEp* self, const ort::OrtMemoryDevice** memory) noexcept {
    const auto& ep = *static_cast<const Ep*>(self);
    *memory = ep.api_.MemoryInfo_GetMemoryDevice(ep.gpu_->memory());
    return static_cast<ort::OrtStatus*>(nullptr);
  };
}

void Ep::OfferCapture() {
  if (gpu_ == nullptr) {
    throw Error("bolt: the option cuda_graph is for sessions on a GPU, this one is not: " + place_.no_gpu);
  }
  if (api_.minor < ort::kOldestGraphMinor) {
    throw Error(
        "bolt: the option cuda_graph needs ONNX Runtime 1.26 or newer; upgrade with: "
        "pip install -U 'onnxruntime>=1.26'");
  }
  state_->capture = std::make_unique<Capture>(gpu_->device());
  OnRunStart = [](ort::OrtEp* self, const ort::OrtRunOptions* run) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.state_->capture->RunStarts(ep.GraphId(run)); });
  };
  OnRunEnd = [](ort::OrtEp* self, const ort::OrtRunOptions* run, bool) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.state_->capture->RunEnds(ep.GraphId(run)); });
  };
  IsGraphCaptureEnabled = [](const ort::OrtEp*) noexcept { return true; };
  IsGraphCaptured = [](const ort::OrtEp* self, int id) noexcept {
    return static_cast<const Ep*>(self)->state_->capture->Has(id);
  };
  ReplayGraph = [](ort::OrtEp* self, int id) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.state_->capture->Replay(id); });
  };
  ReleaseCapturedGraph = [](ort::OrtEp* self, int id) noexcept {
    const auto& ep = *static_cast<Ep*>(self);
    return Guard(ep.api_, [&] { ep.state_->capture->Release(id); });
  };
}

// The caller's number of the graph that a run is; negative: it is not to be captured.
int Ep::GraphId(const ort::OrtRunOptions* run) const noexcept {
  const char* const text = run == nullptr ? nullptr : api_.GetRunConfigEntry(run, "gpu_graph_id");
  return text == nullptr ? 0 : std::atoi(text);
}

void Ep::Claim(const ort::OrtGraph* graph, ort::OrtEpGraphSupportInfo* support) const {
  // Constants stay inputs: the module was told about every input of its node.
  const ort::OrtNodeFusionOptions fusion{api_.struct_version, false};
  for (const ort::OrtNode* node : Nodes(api_, graph)) {
    if (!IsOurContext(api_, node)) continue;
    Check(api_, api_.EpGraphSupportInfo_AddNodesToFuse(support, &node, 1, &fusion));
  }
}

std::unique_ptr<Kernel> Ep::Load(const ort::OrtGraph* graph, const ort::OrtNode* fused) const {
  const std::vector<const ort::OrtNode*> nodes = Nodes(api_, graph);
  if (nodes.size() != 1 || !IsOurContext(api_, nodes[0]))
    throw Error("bolt: asked to compile a node it did not claim");
  const ort::OrtNode* node = nodes[0];
  if (options_.generate) {
    throw Error(
        "bolt: the model is compiled already; use it as it is, without ModelCompiler or ep.context_enable");
  }
  const char* node_name = "";
  Check(api_, api_.Node_GetName(node, &node_name));
  try {
    if (IntAttribute(api_, node, "embed_mode").value_or(1) != 0) {
      throw Error("its embed_mode is not 0; bolt keeps its modules in files next to the model");
    }
    const std::string partition = Need(api_, node, "partition_name");
    const std::string folder = ArtifactFolder(graph);
    const Manifest manifest = ReadManifest(ResolveInside(folder, Need(api_, node, "ep_cache_context")));
    const Variant& variant = ChooseVariant(manifest, partition, options_.target, place_);
    auto module = std::make_unique<const Module>(folder, variant, state_->device);
    const BoltModuleTable& table = module->table();
    CheckValues(api_, "input", Inputs(api_, node), table.inputs, table.input_count);
    CheckValues(api_, "output", Outputs(api_, node), table.outputs, table.output_count);
    Log("partition " + partition + ": " + variant.target + ", " + variant.module.path);
    return std::make_unique<Kernel>(api_, partition, std::move(module), Wire(api_, node, fused), state_);
  } catch (const Error& e) {
    throw Error("bolt: can't load node \"" + std::string(node_name) + "\": " + e.what());
  }
}

std::string Ep::ArtifactFolder(const ort::OrtGraph* graph) const {
  const char* path = nullptr;
  Check(api_, api_.Graph_GetModelPath(graph, &path));
  const std::string model = path == nullptr || *path == '\0' ? options_.context_path : path;
  if (model.empty()) {
    throw Error(
        "the model was loaded from memory, so its artifact can't be found; load it from its file, or set the "
        "session option ep.context_file_path to the path of model.onnx");
  }
  return FolderOf(model);
}

void Ep::Log(const std::string& message) const noexcept {
  ort::OrtStatus* status = api_.Logger_LogMessage(logger_, ort::kLogInfo, ("bolt: " + message).c_str(),
                                                  __FILE__, __LINE__, __func__);
  if (status != nullptr) api_.ReleaseStatus(status);
}

}  // namespace bolt
