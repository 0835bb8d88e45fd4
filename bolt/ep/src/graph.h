// What bolt reads from ONNX Runtime's graphs. All pointers are valid inside the callback only.
#ifndef BOLT_EP_GRAPH_H_
#define BOLT_EP_GRAPH_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ort_abi.h"

namespace bolt {

std::vector<const ort::OrtNode*> Nodes(const ort::Api& api, const ort::OrtGraph* graph);
std::vector<const ort::OrtValueInfo*> Inputs(const ort::Api& api, const ort::OrtNode* node);
std::vector<const ort::OrtValueInfo*> Outputs(const ort::Api& api, const ort::OrtNode* node);

// Whether a node is an EPContext node (domain com.microsoft) made by bolt.
bool IsOurContext(const ort::Api& api, const ort::OrtNode* node);

// A string attribute; nothing when the node has none of that name.
std::optional<std::string> StringAttribute(const ort::Api& api, const ort::OrtNode* node, const char* name);
std::optional<int64_t> IntAttribute(const ort::Api& api, const ort::OrtNode* node, const char* name);

// The name of a value; empty for an input or output that was left out.
std::string Name(const ort::Api& api, const ort::OrtValueInfo* value);

// The ONNX element type of a value; 0 when the model does not say.
int32_t ElementType(const ort::Api& api, const ort::OrtValueInfo* value);

}  // namespace bolt

#endif  // BOLT_EP_GRAPH_H_
