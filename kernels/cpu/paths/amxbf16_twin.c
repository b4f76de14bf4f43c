// SPDX-License-Identifier: MIT
// The AMX path through the portable twin of its instructions: for tests on any processor, far too slow for
// work.
#include "kernels/cpu/lanes_portable.h"

#include "kernels/cpu/micro_tiles.h"

MICRO_KERNELS_TILES(amxbf16_twin)
