#include "graph.h"

#include <string_view>

#include "ep.h"
#include "status.h"

namespace bolt {
namespace {

// The list behind a pair of (how many, fill) functions.
template <class Item, class Owner>
std::vector<const Item*> List(const ort::Api& api, const Owner* owner,
                              ort::OrtStatus* (*count)(const Owner*, size_t*),
                              ort::OrtStatus* (*fill)(const Owner*, const Item**, size_t)) {
  size_t n = 0;
  Check(api, count(owner, &n));
  std::vector<const Item*> items(n);
  if (n > 0) Check(api, fill(owner, items.data(), n));
  return items;
}

// Null when the node has no attribute of that name, which some versions report as an error.
const ort::OrtOpAttr* Attribute(const ort::Api& api, const ort::OrtNode* node, const char* name) {
  const ort::OrtOpAttr* attribute = nullptr;
  if (ort::OrtStatus* status = api.Node_GetAttributeByName(node, name, &attribute)) {
    api.ReleaseStatus(status);
    return nullptr;
  }
  return attribute;
}

}  // namespace

std::vector<const ort::OrtNode*> Nodes(const ort::Api& api, const ort::OrtGraph* graph) {
  return List<ort::OrtNode>(api, graph, api.Graph_GetNumNodes, api.Graph_GetNodes);
}

std::vector<const ort::OrtValueInfo*> Inputs(const ort::Api& api, const ort::OrtNode* node) {
  return List<ort::OrtValueInfo>(api, node, api.Node_GetNumInputs, api.Node_GetInputs);
}

std::vector<const ort::OrtValueInfo*> Outputs(const ort::Api& api, const ort::OrtNode* node) {
  return List<ort::OrtValueInfo>(api, node, api.Node_GetNumOutputs, api.Node_GetOutputs);
}

bool IsOurContext(const ort::Api& api, const ort::OrtNode* node) {
  const char* type = nullptr;
  const char* domain = nullptr;
  Check(api, api.Node_GetOperatorType(node, &type));
  Check(api, api.Node_GetDomain(node, &domain));
  return std::string_view(type) == "EPContext" && std::string_view(domain) == "com.microsoft" &&
         StringAttribute(api, node, "source") == kEpName;
}

std::optional<std::string> StringAttribute(const ort::Api& api, const ort::OrtNode* node, const char* name) {
  const ort::OrtOpAttr* attribute = Attribute(api, node, name);
  if (attribute == nullptr) return std::nullopt;
  size_t bytes = 0;
  // With no room for the text the call fails, but tells how much is needed.
  if (ort::OrtStatus* status = api.ReadOpAttr(attribute, ort::kAttributeString, nullptr, 0, &bytes)) {
    api.ReleaseStatus(status);
  }
  std::string text(bytes, '\0');
  if (bytes > 0) Check(api, api.ReadOpAttr(attribute, ort::kAttributeString, text.data(), bytes, &bytes));
  text.resize(bytes);
  return text;
}

std::optional<int64_t> IntAttribute(const ort::Api& api, const ort::OrtNode* node, const char* name) {
  const ort::OrtOpAttr* attribute = Attribute(api, node, name);
  if (attribute == nullptr) return std::nullopt;
  int64_t value = 0;
  size_t bytes = 0;
  Check(api, api.ReadOpAttr(attribute, ort::kAttributeInt, &value, sizeof(value), &bytes));
  return value;
}

std::string Name(const ort::Api& api, const ort::OrtValueInfo* value) {
  if (value == nullptr) return "";
  const char* name = nullptr;
  Check(api, api.GetValueInfoName(value, &name));
  return name == nullptr ? "" : name;
}

int32_t ElementType(const ort::Api& api, const ort::OrtValueInfo* value) {
  const ort::OrtTypeInfo* type = nullptr;
  if (value == nullptr) return 0;
  Check(api, api.GetValueInfoTypeInfo(value, &type));
  if (type == nullptr) return 0;
  const ort::OrtTensorTypeAndShapeInfo* tensor = nullptr;
  Check(api, api.CastTypeInfoToTensorInfo(type, &tensor));
  if (tensor == nullptr) return 0;
  ort::Enum dtype = 0;
  Check(api, api.GetTensorElementType(tensor, &dtype));
  return dtype;
}

}  // namespace bolt
