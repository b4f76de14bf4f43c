// SPDX-License-Identifier: MIT
// AVX2, FMA and F16C; halves are widened when they are packed.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/lanes_avx2.h"

#include "kernels/cpu/micro_expand.h"
#include "kernels/cpu/micro_table.h"

MICRO_KERNELS_WIDE(avx2)
#else
typedef int avx2_is_not_built_here;
#endif
