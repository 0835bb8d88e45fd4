#include "capture.h"

#include <string>

#include "status.h"

namespace bolt {
namespace {

// Runs that execute before one is recorded.
constexpr int kWarmRuns = 1;

thread_local Capture* current = nullptr;

}  // namespace

Capture* Capture::Current() noexcept { return current; }

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
  executed_ = 0;
  spoiled_ = false;
  if (id >= 0 && !Has(id) && graphs_[id].runs >= kWarmRuns) Begin(graphs_[id]);
}

void Capture::RunEnds(int id) {
  if (id < 0) return;
  Graph& graph = graphs_[id];
  if (stream_->capturing) {
    if (End(&graph)) Replay(id);
  } else if (!spoiled_ && executed_ > 0) {
    graph.executed = executed_;
    ++graph.runs;
  }
}

void Capture::Begin(const Graph& graph) {
  const DeviceScope scope(stream_->device());
  stream_->device().memory().Hold(&graph);
  stream_->device().pinned().Hold(&graph);
  // Relaxed: an arena may have to ask the driver for memory meanwhile.
  cuda::Check(cuda::Get().StreamBeginCapture(stream_->get(), cuda::kRelaxed), "start to capture a graph");
  stream_->capturing = true;
  current = this;
  Arena::SetGraph(&graph);
}

// Whether there is a graph now. There is none after a run that failed or was ended before all its partitions
// were executed: ONNX Runtime tells the caller then, or repeats the run.
bool Capture::End(Graph* graph) {
  const cuda::Driver& driver = cuda::Get();
  const DeviceScope scope(stream_->device());
  Arena::SetGraph(nullptr);
  current = nullptr;
  stream_->capturing = false;
  cuda::Graph* captured = nullptr;
  cuda::Result result = driver.StreamEndCapture(stream_->get(), &captured);
  const bool is_whole = !spoiled_ && executed_ == graph->executed;
  if (result == 0 && is_whole) result = driver.GraphInstantiate(&graph->executable, captured, 0);
  if (captured != nullptr) driver.GraphDestroy(captured);
  if (graph->executable != nullptr) return true;
  Free(graph);
  graph->runs = 0;
  if (is_whole) cuda::Check(result, "capture the run as a CUDA graph");
  return false;
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
