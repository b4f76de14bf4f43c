// SPDX-License-Identifier: MIT
// Which text a token of a packed batch is of (private to kernels/cuda).
#ifndef STRATA_KERNELS_CUDA_TEXTS_H
#define STRATA_KERNELS_CUDA_TEXTS_H

#include <stdint.h>

// starts [texts + 1], ascending from 0.
static __device__ __forceinline__ unsigned text_of(const int32_t *starts, unsigned texts, int32_t token) {
    unsigned low = 0;
    unsigned high = texts;
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (starts[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

#endif
