// Reductions: what is done to each element before it is joined.
#pragma once
#include "bolt/cuda/team.h"

struct AsIs {
  BOLT_DEVICE vf map(vf x) { return x; }
};
struct Square {
  BOLT_DEVICE vf map(vf x) { return x * x; }
};
struct Magnitude {
  BOLT_DEVICE vf map(vf x) { return vabs(x); }
};
