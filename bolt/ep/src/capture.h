// CUDA graphs of a session: the work of a run is recorded once and then replayed with one call.
//
// ONNX Runtime repeats a run until the provider says that the graph is captured: the first run executes as
// always, which loads kernels and fills the arenas; the second is recorded and then replayed for its results.
#ifndef BOLT_EP_CAPTURE_H_
#define BOLT_EP_CAPTURE_H_

#include <map>
#include <memory>

#include "device.h"

namespace bolt {

class Capture {
 public:
  // All runs of the session go to one stream. Throws Error.
  explicit Capture(Device& device);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  const std::shared_ptr<StreamHandle>& stream() const noexcept { return stream_; }

  // Around each run that executes; `id` is the caller's number of the graph, negative for none. Throws Error.
  void RunStarts(int id);
  void RunEnds(int id);
  // During a run: a partition put its work on the stream, or something failed.
  void Executed() noexcept { ++executed_; }
  void Spoil() noexcept { spoiled_ = true; }

  // Whose run this thread captures at this moment; null: none.
  static Capture* Current() noexcept;

  bool Has(int id) const noexcept;
  void Replay(int id);
  void Release(int id);
  void Clear() noexcept;  // releases all

 private:
  struct Graph {
    int runs = 0;      // that went well
    int executed = 0;  // partitions in the last of them
    cuda::GraphExec* executable = nullptr;
  };

  void Begin(const Graph& graph);
  bool End(Graph* graph);
  void Free(Graph* graph) noexcept;

  const std::shared_ptr<StreamHandle> stream_;
  std::map<int, Graph> graphs_;  // their addresses are what the arenas know them by
  int executed_ = 0;             // partitions since the run started
  bool spoiled_ = false;
};

}  // namespace bolt

#endif  // BOLT_EP_CAPTURE_H_
