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

// What all texts of a batch begin from. Kernels that carry a state along are built for this, and apart for
// texts some of which go on from the head (text_beginning with origins), which takes more registers.
struct same_beginning {
    const void *from;
    bool goes_on; // from it; else `from` is NULL, and they begin from nothing
};

static __device__ __forceinline__ bool text_goes_on(const same_beginning &beginning, unsigned) {
    return beginning.goes_on;
}

static __device__ __forceinline__ bool text_goes_on(const text_beginning &beginning, unsigned text) {
    return beginning.origins[text].before > 0;
}

// Whether what all texts of a batch begin from is at `state`, as kernels of a scan have it.
static inline bool begins_in_place(const text_beginning &beginning, const void *state) {
    return beginning.origins != NULL || beginning.from == NULL || beginning.from == state;
}

// Calls launch with the one or the other.
template <typename F> static inline cudaError_t with_beginning(const text_beginning &beginning, F launch) {
    return beginning.origins != NULL ? launch(beginning)
                                     : launch(same_beginning{beginning.from, beginning.from != NULL});
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
