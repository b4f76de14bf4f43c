// SPDX-License-Identifier: MIT
// AMX-BF16: tdpbf16ps multiplies tiles of 16 x 32 and 32 x 16 bfloat16 numbers; rows by AVX-512.
#if (defined(__AMX_BF16__) || defined(__AMXBF16__)) &&                                                       \
    defined(__AVX512BF16__) // clang 14's name is the second
#include "kernels/cpu/lanes_avx512.h"

#include "kernels/cpu/micro_expand.h"
#include "kernels/cpu/micro_tiles.h"

MICRO_KERNELS_TILES(amxbf16)
#else
typedef int amxbf16_is_not_built_here;
#endif
