// What the CPU we run on can do, in the words of bolt/target.py.
#ifndef BOLT_EP_CPU_H_
#define BOLT_EP_CPU_H_

#include <optional>
#include <string_view>

namespace bolt {

// The machine architecture as `uname -m` spells it.
std::string_view Architecture() noexcept;

// Whether the CPU (and the operating system) has a feature, named as /proc/cpuinfo names it; nothing for a
// feature this library does not know.
std::optional<bool> HasFeature(std::string_view feature) noexcept;

}  // namespace bolt

#endif  // BOLT_EP_CPU_H_
