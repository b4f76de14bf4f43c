// SPDX-License-Identifier: MIT
// Shared body of a gated short convolution, compiled once a path: include lanes_*.h of the path first.
#ifndef STRATA_KERNELS_CPU_MICRO_CONVOLUTION_H
#define STRATA_KERNELS_CPU_MICRO_CONVOLUTION_H

#include "kernels/cpu/micro_rows.h"

// Weights of numbers [i, i + LANES), a vector a tap: they lie number by number.
MICRO_INLINE void load_taps(lanes out[DEVICE_TAPS_MOST], const struct device_short_convolution *shape,
                            size_t i, enum dtype dtype) {
    float mixed[DEVICE_TAPS_MOST * LANES];
    size_t taps = shape->taps;
    for (size_t k = 0; k < taps; k++) {
        size_t at = i * taps + k * LANES;
        lanes_store(mixed + k * LANES, at < shape->width * taps
                                           ? row_load(shape->weight, at, shape->width * taps, dtype)
                                           : lanes_set(0));
    }
    for (size_t k = 0; k < taps; k++) {
        float own[LANES];
        for (size_t l = 0; l < LANES; l++) {
            own[l] = mixed[l * taps + k];
        }
        out[k] = lanes_load(own);
    }
}

// in: rows of b | c | x, the token's own last; NULL: nothing is there.
MICRO_INLINE void short_convolution_row(void *out, const void *const *in,
                                        const struct device_short_convolution *shape, enum dtype dtype) {
    size_t n = shape->width;
    const void *gates = row_at(in[shape->taps - 1], n, dtype);
    for (size_t i = 0; i < n; i += LANES) {
        lanes weights[DEVICE_TAPS_MOST];
        lanes sum = lanes_set(0);
        load_taps(weights, shape, i, dtype);
        for (size_t k = 0; k < shape->taps; k++) {
            if (in[k] != NULL) {
                lanes x = row_load(row_at(in[k], 2 * n, dtype), i, n, dtype);
                sum = lanes_fma(weights[k], rounded(lanes_mul(row_load(in[k], i, n, dtype), x), dtype), sum);
            }
        }
        if (shape->bias != NULL) {
            sum = lanes_add(sum, row_load(shape->bias, i, n, dtype));
        }
        row_store(out, i, n, lanes_mul(row_load(gates, i, n, dtype), rounded(sum, dtype)), dtype);
    }
}

#endif
