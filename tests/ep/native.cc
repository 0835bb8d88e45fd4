// Drives parts of the execution provider library without ONNX Runtime. One command per line on stdin, one
// answer per line on stdout; texts are hexadecimal.
//   sha <text>      both digests
//   json <text>     "ok", or the error
//   feature <text>  0, 1 or ?
//   judge <text> [<capability>]   what a compatibility text is judged to be, on the CPU or on a GPU
//   inside <folder> <path>   the resolved path, or the error
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>

#include "compatibility.h"
#include "cpu.h"
#include "device.h"
#include "file.h"
#include "json.h"
#include "sha256.h"
#include "status.h"

namespace {

std::string Unhex(const std::string& text) {
  std::string out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  }
  return out;
}

std::string Judge(const std::string& text, const std::string& capability) {
  const bolt::Device gpu(0, "some GPU", capability.empty() ? 0 : std::stoi(capability), "0000:00:00.0");
  const bolt::Place place{capability.empty() ? nullptr : &gpu, "there is none"};
  return std::to_string(bolt::JudgeCompatibility(text, {place}));
}

std::string Answer(const std::string& command, const std::string& text, const std::string& more) {
  if (command == "sha") {
    return bolt::Sha256(text.data(), text.size()) + " " + bolt::Sha256Portable(text.data(), text.size());
  }
  if (command == "json") {
    bolt::json::Parse(text);
    return "ok";
  }
  if (command == "feature") {
    const std::optional<bool> present = bolt::HasFeature(text);
    return present ? std::to_string(*present) : "?";
  }
  if (command == "judge") return Judge(text, more);
  if (command == "inside") return bolt::ResolveInside(text, more);
  return "unknown command";
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command, text, more;
    words >> command >> text >> more;
    try {
      std::cout << Answer(command, Unhex(text), Unhex(more)) << "\n";
    } catch (const bolt::Error& e) {
      std::cout << "error: " << e.what() << "\n";
    }
  }
}
