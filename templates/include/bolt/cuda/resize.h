// Resizing images.
#pragma once
#include "bolt/cuda/access.h"
#include "bolt/sampling.h"

BOLT_DEVICE vf vlerp(vf a, vf b, vf weight) { return a + (b - a) * weight; }
