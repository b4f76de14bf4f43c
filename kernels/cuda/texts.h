// SPDX-License-Identifier: MIT
// Which text a token of a packed batch is of, and where the tokens of one that goes on from others lie
// (private to kernels/cuda).
#ifndef STRATA_KERNELS_CUDA_TEXTS_H
#define STRATA_KERNELS_CUDA_TEXTS_H

#include <stdint.h>

#include "kernels/cuda/cuda_kernels.h"

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

static __device__ __forceinline__ bool text_goes_on(const struct text_beginning &beginning, unsigned text) {
    return beginning.from != NULL && (beginning.origins == NULL || beginning.origins[text].before > 0);
}

// Where a token of a text lies that goes on from others: the tokens from it on, before token `until` of the
// text, are rows `row`, row + 1 ...
struct text_place {
    int32_t text; // of the batch, whose rows they are; DEVICE_HEAD: of the head
    int32_t row;
    int32_t until;
};

static __device__ __forceinline__ text_place text_place_of(const struct device_origin *origins,
                                                           const int32_t *starts, int32_t text,
                                                           int32_t token) {
    int32_t until = INT32_MAX;
    struct device_origin origin = origins[text];
    while (token < origin.before) {
        until = min(until, origin.before);
        text = origin.parent;
        if (text == DEVICE_HEAD) {
            return {text, token, until};
        }
        origin = origins[text];
    }
    return {text, starts[text] + token - origin.before, until};
}

#endif
