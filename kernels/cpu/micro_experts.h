// SPDX-License-Identifier: MIT
// Shared bodies of what mixtures of experts need beside matmuls, compiled once a path: include lanes_*.h of
// the path first.
#ifndef STRATA_KERNELS_CPU_MICRO_EXPERTS_H
#define STRATA_KERNELS_CPU_MICRO_EXPERTS_H

#include "kernels/cpu/micro_activations.h"

// gpt-oss: rounded wherever its eager code rounds. NaN stays.
MICRO_INLINE void activate_limited_row(void *out, const void *in, const void *up, float limit, size_t n,
                                       enum dtype dtype) {
    lanes one = lanes_set(1.0f);
    lanes most = lanes_set(limit);
    lanes least = lanes_set(-limit);
    for (size_t i = 0; i < n; i += LANES) {
        lanes gate = lanes_min(most, row_load(in, i, n, dtype));
        lanes value = lanes_max(least, lanes_min(most, row_load(up, i, n, dtype)));
        lanes steeper = rounded(lanes_mul(gate, lanes_set(1.702f)), dtype);
        lanes glu = rounded(lanes_mul(gate, rounded(lanes_sigmoid(steeper), dtype)), dtype);
        row_store(out, i, n, lanes_mul(rounded(lanes_add(value, one), dtype), glu), dtype);
    }
}

static inline void exponents_row(float *numbers, float shift, size_t n) {
    lanes by = lanes_set(shift);
    for (size_t i = 0; i < n; i += LANES) {
        row_store(numbers, i, n, lanes_exp(lanes_sub(row_load(numbers, i, n, DTYPE_F32), by)), DTYPE_F32);
    }
}

MICRO_INLINE void add_scaled_row(float *sums, const void *row, float factor, size_t n, enum dtype dtype) {
    lanes by = lanes_set(factor);
    for (size_t i = 0; i < n; i += LANES) {
        lanes sum = lanes_fma(by, row_load(row, i, n, dtype), row_load(sums, i, n, DTYPE_F32));
        row_store(sums, i, n, sum, DTYPE_F32);
    }
}

#endif
