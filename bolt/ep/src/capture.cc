#include "capture.h"

#include <string>

#include "status.h"

namespace bolt {
namespace {

// Runs that execute before one is recorded.
constexpr int kWarmRuns = 1;

}  // namespace

Capture::Capture(Device& device) : stream_(std::make_shared<StreamHandle>(device)) {}

Capture::~Capture() { Clear(); }

void Capture::Clear() noexcept {
  if (graphs_.empty()) return;
  stream_->device().WaitForEverything();
  for (auto& [id, graph] : graphs_) Free(&graph);
  graphs_.clear();
}

bool Capture::Has(int id) const noexcept {
  const auto it = graphs_.find(id);
  return it != graphs_.end() && it->second.executable != nullptr;
}

void Capture::RunStarts(int id) {
  if (id >= 0 && !Has(id) && graphs_[id].runs >= kWarmRuns) Begin(graphs_[id]);
}

void Capture::RunEnds(int id) {
  if (id < 0) return;
  Graph& graph = graphs_[id];
  if (!stream_->capturing) {
    ++graph.runs;
    return;
  }
  End(&graph);
  Replay(id);
}

void Capture::Begin(const Graph& graph) {
  const DeviceScope scope(stream_->device());
  stream_->device().memory().Hold(&graph);
  stream_->device().pinned().Hold(&graph);
  // Relaxed: an arena may have to ask the driver for memory meanwhile.
  cuda::Check(cuda::Get().StreamBeginCapture(stream_->get(), cuda::kRelaxed), "start to capture a graph");
  spoiled_ = false;
  stream_->capturing = true;
  Arena::SetGraph(&graph);
}

void Capture::End(Graph* graph) {
  const cuda::Driver& driver = cuda::Get();
  const DeviceScope scope(stream_->device());
  Arena::SetGraph(nullptr);
  stream_->capturing = false;
  cuda::Graph* captured = nullptr;
  cuda::Result result = driver.StreamEndCapture(stream_->get(), &captured);
  if (result == 0 && !spoiled_) {
    result = driver.GraphInstantiate(&graph->executable, captured, 0);
  }
  if (captured != nullptr) driver.GraphDestroy(captured);
  if (graph->executable != nullptr) return;
  Free(graph);
  cuda::Check(result, "capture the run as a CUDA graph");
  throw Error("bolt: the run failed while it was captured as a CUDA graph");
}

void Capture::Replay(int id) {
  if (!Has(id)) throw Error("bolt: there is no captured graph " + std::to_string(id));
  const DeviceScope scope(stream_->device());
  cuda::Check(cuda::Get().GraphLaunch(graphs_.at(id).executable, stream_->get()), "replay a CUDA graph");
  // Nobody else waits: ONNX Runtime flushes no stream after a replay.
  stream_->Wait();
}

void Capture::Release(int id) {
  const auto it = graphs_.find(id);
  if (it == graphs_.end()) return;
  stream_->Wait();
  Free(&it->second);
  graphs_.erase(it);
}

void Capture::Free(Graph* graph) noexcept {
  if (graph->executable != nullptr) cuda::Get().GraphExecDestroy(graph->executable);
  graph->executable = nullptr;
  stream_->device().memory().Ended(graph);
  stream_->device().pinned().Ended(graph);
}

}  // namespace bolt
