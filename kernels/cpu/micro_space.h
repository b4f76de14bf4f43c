// SPDX-License-Identifier: MIT
// Shared bodies of a state space, compiled once a path: include lanes_*.h of the path first. NaN stays NaN in
// all of them.
#ifndef STRATA_KERNELS_CPU_MICRO_SPACE_H
#define STRATA_KERNELS_CPU_MICRO_SPACE_H

#include "kernels/cpu/micro_delta.h"

// ---- gates ----

MICRO_INLINE void space_gates_row(float *step, float *factor, const void *dt,
                                  const struct device_state_space *space, float least, float most, size_t n,
                                  enum dtype dtype) {
    lanes zero = lanes_set(0);
    for (size_t i = 0; i < n; i += LANES) {
        lanes wanted = lanes_add(row_load(dt, i, n, dtype), row_load(space->step_bias, i, n, dtype));
        wanted = rounded(lanes_softplus(rounded(wanted, dtype)), dtype);
        wanted = lanes_min(lanes_set(most), lanes_max(lanes_set(least), wanted));
        lanes rate = lanes_exp(row_load(space->decay, i, n, dtype));
        row_store(step, i, n, wanted, DTYPE_F32);
        row_store(factor, i, n, lanes_exp(lanes_sub(zero, lanes_mul(rate, wanted))), DTYPE_F32);
    }
}

// ---- scan ----

enum {
    SPACE_VECTORS = 2, // of columns side by side
    SPACE_TOKENS = 2,  // that one pass over the state takes: as many sums as hide the latency of adding
};

// `count` tokens from t on, a constant: each takes the state from the one before it in registers, with the
// operations of a pass of its own, so that how tokens are paired concerns no bit. Sums over a state's numbers
// ascend.
MICRO_INLINE void space_scan_tokens(const struct micro_scan *scan, size_t column, size_t t, size_t count,
                                    enum dtype dtype) {
    float *state = scan->state + column;
    size_t key_dim = scan->key_dim;
    const float *keys = scan->keys + t * 2 * key_dim;
    lanes values[SPACE_TOKENS][SPACE_VECTORS];
    lanes steps[SPACE_TOKENS][SPACE_VECTORS]; // step * x
    lanes sums[SPACE_TOKENS][SPACE_VECTORS];
    lanes factors[SPACE_TOKENS];
    for (size_t k = 0; k < count; k++) {
        const void *row = row_at(scan->values, (t + k) * scan->value_stride, dtype);
        lanes step = lanes_set(scan->beta[(t + k) * scan->gate_stride]);
        factors[k] = lanes_set(scan->factor[(t + k) * scan->gate_stride]);
        for (size_t v = 0; v < SPACE_VECTORS; v++) {
            size_t at = column + v * LANES;
            values[k][v] = at < scan->columns ? row_load(row, at, scan->columns, dtype) : lanes_set(0);
            steps[k][v] = lanes_mul(step, values[k][v]);
            sums[k][v] = lanes_set(0);
        }
    }
    for (size_t i = 0; i < key_dim; i++) {
        lanes h[SPACE_VECTORS];
#pragma GCC unroll 2
        for (size_t v = 0; v < SPACE_VECTORS; v++) {
            h[v] = lanes_load(state + i * MICRO_SCAN_COLUMNS + v * LANES);
        }
#pragma GCC unroll 2
        for (size_t k = 0; k < count; k++) {
            lanes b = lanes_set(keys[k * 2 * key_dim + i]);
            lanes c = lanes_set(keys[(k * 2 + 1) * key_dim + i]);
#pragma GCC unroll 2
            for (size_t v = 0; v < SPACE_VECTORS; v++) {
                h[v] = lanes_fma(b, steps[k][v], lanes_mul(factors[k], h[v]));
                sums[k][v] = lanes_fma(h[v], c, sums[k][v]);
            }
        }
#pragma GCC unroll 2
        for (size_t v = 0; v < SPACE_VECTORS; v++) {
            lanes_store(state + i * MICRO_SCAN_COLUMNS + v * LANES, h[v]);
        }
    }
    for (size_t k = 0; k < count; k++) {
        float *out = (float *)scan->out + (t + k) * scan->out_stride;
        for (size_t v = 0; v < SPACE_VECTORS && column + v * LANES < scan->columns; v++) {
            lanes y = lanes_fma(lanes_set(scan->skip), values[k][v], sums[k][v]);
            row_store(out, column + v * LANES, scan->columns, y, DTYPE_F32);
        }
    }
}

// Columns of a state go their own ways, so that the width of a block concerns no bit.
MICRO_INLINE void space_scan_columns(const struct micro_scan *scan, enum dtype dtype) {
    for (size_t column = 0; column < scan->columns; column += SPACE_VECTORS * LANES) {
        size_t t = 0;
        for (; t + SPACE_TOKENS <= scan->tokens; t += SPACE_TOKENS) {
            space_scan_tokens(scan, column, t, SPACE_TOKENS, dtype);
        }
        for (; t < scan->tokens; t++) {
            space_scan_tokens(scan, column, t, 1, dtype);
        }
    }
}

// ---- what comes out ----

MICRO_INLINE void space_norm_row(void *out, float *y, const void *z, const void *weight, float epsilon,
                                 size_t n, enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        lanes gate = activated(row_load(z, i, n, dtype), DEVICE_SILU);
        row_store(y, i, n, lanes_mul(row_load(y, i, n, DTYPE_F32), gate), DTYPE_F32);
    }
    lanes inverse = lanes_set(row_inverse_rms(y, epsilon, n, DTYPE_F32));
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = lanes_mul(row_load(y, i, n, DTYPE_F32), inverse);
        row_store(out, i, n, lanes_mul(value, row_load(weight, i, n, dtype)), dtype);
    }
}

#endif
