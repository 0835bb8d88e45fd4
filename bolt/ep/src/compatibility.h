// The compatibility text that a packaged model carries in its metadata for ONNX Runtime's checks.
#ifndef BOLT_EP_COMPATIBILITY_H_
#define BOLT_EP_COMPATIBILITY_H_

#include <string_view>
#include <vector>

#include "manifest.h"
#include "ort_abi.h"

namespace bolt {

// Judges "bolt;schema=1;module_abi=1;<target>:<arch>:<feature>,<feature>;...", the targets best first:
// optimal when the first target runs in one of the places, "prefer recompilation" when only a later one does,
// unsupported when none does or a version differs, not applicable when the text is not bolt's.
ort::Compatibility JudgeCompatibility(std::string_view info, const std::vector<Place>& places);

}  // namespace bolt

#endif  // BOLT_EP_COMPATIBILITY_H_
