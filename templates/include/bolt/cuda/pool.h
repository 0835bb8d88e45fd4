// Pooling windows.
#pragma once
#include "bolt/cuda/team.h"

// How many of `taps` rows start, start + dilation, ... lie before `end`.
BOLT_DEVICE int taps_before(int64_t start, int dilation, int taps, int64_t end) {
  const int64_t n = end <= start ? 0 : (end - start + dilation - 1) / dilation;
  return n < taps ? (int)n : taps;
}
