// SPDX-License-Identifier: MIT
// Any processor: four lanes by the compiler's vector extension.
#include "kernels/cpu/lanes_portable.h"

#include "kernels/cpu/micro_table.h"

MICRO_KERNELS_WIDE(portable)
