// SPDX-License-Identifier: MIT
// What the kernels of a gated delta net share (private to kernels/cuda): its sizes as they take them, and
// what lies where in scratch.
#ifndef STRATA_KERNELS_CUDA_DELTA_NET_H
#define STRATA_KERNELS_CUDA_DELTA_NET_H

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/launch.h"

struct delta_net_sizes {
    unsigned key_heads;
    unsigned value_heads;
    unsigned key_dim;
    unsigned value_dim;
    unsigned taps;
    size_t mixed; // columns of q, k and v
    size_t out;   // columns of z
    size_t width; // of a row
};

static inline struct delta_net_sizes delta_net_sizes_of(const struct device_delta_net *net) {
    const struct delta_net_sizes sizes = {
        (unsigned)net->key_heads,  (unsigned)net->value_heads,  (unsigned)net->key_dim,
        (unsigned)net->value_dim,  (unsigned)net->taps,         device_delta_net_mixed(net),
        device_delta_net_out(net), device_delta_net_width(net),
    };
    return sizes;
}

struct delta_net_scratch {
    float *queries; // [tokens, key_heads, key_dim], normalised and scaled
    float *keys;    // the same, normalised
    float *gates;   // [tokens, value_heads, DELTA_NET_GATES]
};

// Every part is a multiple of 16 bytes: dimensions are multiples of DELTA_NET_STEP.
static inline struct delta_net_scratch delta_net_scratch_at(void *scratch, const struct device_delta_net *net,
                                                            size_t tokens) {
    const size_t count = tokens * net->key_heads * net->key_dim;
    float *numbers = (float *)scratch;
    float *keys = numbers + count;
    const struct delta_net_scratch at = {numbers, keys, keys + count};
    return at;
}

#endif
