// SPDX-License-Identifier: MIT
// AVX-512 in float32; halves are widened when they are packed.
#if defined(__AVX512F__)
#include "kernels/cpu/lanes_avx512.h"

#include "kernels/cpu/micro_expand.h"
#include "kernels/cpu/micro_table.h"

MICRO_KERNELS_WIDE(avx512)
#else
typedef int avx512_is_not_built_here;
#endif
