// SPDX-License-Identifier: MIT
// What the kernels of a state space share (private to kernels/cuda): its sizes as they take them, and what
// lies where in scratch. There rows of head_dim and of state numbers are padded with zeros to whole 16 bytes,
// which is what an asynchronous copy brings.
#ifndef STRATA_KERNELS_CUDA_STATE_SPACE_H
#define STRATA_KERNELS_CUDA_STATE_SPACE_H

#include "kernels/cuda/cuda_kernels.h"

enum {
    SPACE_QUAD = DEVICE_STATE_SPACE_QUAD,
    SPACE_GATES = DEVICE_STATE_SPACE_GATES,
    STATE_SPACE_CHUNK = DEVICE_STATE_SPACE_CHUNK,
};

struct state_space_sizes {
    unsigned heads;
    unsigned head_dim;
    unsigned groups;
    unsigned state;
    unsigned padded_dim;
    unsigned padded_state;
    size_t out;   // columns of z, and of x
    size_t mixed; // columns of x, B and C
    size_t width; // of a row
};

static inline struct state_space_sizes state_space_sizes_of(const struct device_state_space *space) {
    const struct state_space_sizes sizes = {
        (unsigned)space->heads,
        (unsigned)space->head_dim,
        (unsigned)space->groups,
        (unsigned)space->state,
        (unsigned)((space->head_dim + SPACE_QUAD - 1) / SPACE_QUAD * SPACE_QUAD),
        (unsigned)((space->state + SPACE_QUAD - 1) / SPACE_QUAD * SPACE_QUAD),
        device_state_space_out(space),
        device_state_space_mixed(space),
        device_state_space_width(space),
    };
    return sizes;
}

// Of device_state_space_gpu_scratch bytes.
struct state_space_scratch {
    float *keys;  // [tokens, groups, 2, padded_state]: B | C
    float *gates; // [tokens, heads, SPACE_GATES]: what the state is multiplied by, the step, D, and 0
    float *x;     // [tokens, heads, padded_dim]
    float *y;     // the same; where a state is one chunk, in the place of x
};

// Of tokens for which there is a scratch.
static inline struct state_space_scratch
state_space_scratch_at(void *scratch, const struct device_state_space *space, size_t tokens) {
    const struct state_space_sizes sizes = state_space_sizes_of(space);
    float *keys = (float *)scratch;
    float *gates = keys + tokens * sizes.groups * 2 * sizes.padded_state;
    float *x = gates + tokens * sizes.heads * SPACE_GATES;
    float *y = space->state > STATE_SPACE_CHUNK ? x + tokens * sizes.heads * sizes.padded_dim : x;
    const struct state_space_scratch at = {keys, gates, x, y};
    return at;
}

#endif
