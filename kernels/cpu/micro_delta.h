// SPDX-License-Identifier: MIT
// Shared bodies of a gated delta net and of gates of rows, compiled once a path: include lanes_*.h of the
// path first. NaN stays NaN in all of them.
#ifndef STRATA_KERNELS_CPU_MICRO_DELTA_H
#define STRATA_KERNELS_CPU_MICRO_DELTA_H

#include "kernels/cpu/micro_activations.h"
#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/micro_norms.h"

// ---- convolution ----

// The activation of numbers [i, i + LANES) of a convolution, both rounded. Products are added up from the
// oldest token on; one that is not there adds nothing.
MICRO_INLINE lanes convolved(const struct micro_convolution *from, size_t i, size_t n, enum dtype dtype) {
    size_t older = from->taps - from->near;
    lanes sum = lanes_set(0);
    for (size_t tap = from->before != NULL ? 0 : older; tap < from->taps; tap++) {
        const void *row = tap < older ? row_at(from->before, tap * from->before_stride, dtype)
                                      : row_at(from->first, (tap - older) * from->stride, dtype);
        lanes weight = row_load(from->weights + tap * from->weight_stride, i, n, DTYPE_F32);
        sum = lanes_fma(weight, row_load(row, i, n, dtype), sum);
    }
    if (from->biased) {
        sum = lanes_add(sum, row_load(from->weights + from->taps * from->weight_stride, i, n, DTYPE_F32));
    }
    return rounded(activated(rounded(sum, dtype), DEVICE_SILU), dtype);
}

MICRO_INLINE void convolve_row(void *out, const struct micro_convolution *from, size_t n, enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        row_store(out, i, n, convolved(from, i, n, dtype), dtype);
    }
}

MICRO_INLINE void convolve_wide_row(float *out, const struct micro_convolution *from, size_t n,
                                    enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        row_store(out, i, n, convolved(from, i, n, dtype), DTYPE_F32);
    }
}

MICRO_INLINE void convolve_normed_row(float *out, const struct micro_convolution *from, float scale, size_t n,
                                      enum dtype dtype) {
    convolve_wide_row(out, from, n, dtype);
    float length = sqrtf(row_sum(out, 0, n, ROW_SQUARES, DTYPE_F32) + 1e-6f);
    rescale_sums(out, scale / length, n);
}

// ---- gates ----

// log(1 + e^x) to about 2 ulp, without an overflow: of u = e^-|x|, log(1 + u) = 2 artanh(u / (2 + u)), whose
// series is good to 2e-9 where its argument is at most a third.
MICRO_INLINE lanes lanes_softplus(lanes x) {
    lanes zero = lanes_set(0);
    lanes u = lanes_exp(lanes_sub(zero, lanes_abs(x)));
    lanes a = lanes_div(u, lanes_add(u, lanes_set(2.0f)));
    lanes s = lanes_mul(a, a);
    lanes p = lanes_set(2.0f / 15);
    p = lanes_fma(p, s, lanes_set(2.0f / 13));
    p = lanes_fma(p, s, lanes_set(2.0f / 11));
    p = lanes_fma(p, s, lanes_set(2.0f / 9));
    p = lanes_fma(p, s, lanes_set(2.0f / 7));
    p = lanes_fma(p, s, lanes_set(2.0f / 5));
    p = lanes_fma(p, s, lanes_set(2.0f / 3));
    p = lanes_fma(p, s, lanes_set(2.0f));
    return lanes_fma(p, a, lanes_where_below(x, zero, zero, x));
}

MICRO_INLINE void delta_gates_row(float *beta, float *factor, const void *b, const void *a, const void *decay,
                                  const void *step_bias, size_t n, enum dtype dtype) {
    lanes zero = lanes_set(0);
    for (size_t i = 0; i < n; i += LANES) {
        lanes step = lanes_add(row_load(a, i, n, dtype), row_load(step_bias, i, n, dtype));
        lanes rate = lanes_exp(row_load(decay, i, n, dtype));
        lanes g = lanes_sub(zero, lanes_mul(rate, lanes_softplus(step)));
        row_store(beta, i, n, rounded(lanes_sigmoid(row_load(b, i, n, dtype)), dtype), DTYPE_F32);
        row_store(factor, i, n, lanes_exp(g), DTYPE_F32);
    }
}

// ---- scan ----

enum { SCAN_VECTORS = LANES == 16 ? 2 : 4 }; // as many sums as the registers hold

// Columns of a state go their own ways, so that the width of a block concerns no bit. Sums over a key's
// numbers ascend. One pass a token brings the state up to date, reads it with the query, and with the next
// token's key: what comes of that only its decay is missing from.
MICRO_INLINE void delta_scan_block(const struct micro_scan *scan, size_t column, enum dtype dtype) {
    float *state = scan->state + column;
    size_t key_dim = scan->key_dim;
    lanes seen[SCAN_VECTORS];
    for (size_t v = 0; v < SCAN_VECTORS; v++) {
        seen[v] = lanes_set(0);
    }
    for (size_t i = 0; i < key_dim; i++) {
        lanes k = lanes_set(scan->keys[i]);
#pragma GCC unroll 4
        for (size_t v = 0; v < SCAN_VECTORS; v++) {
            seen[v] = lanes_fma(lanes_load(state + i * MICRO_SCAN_COLUMNS + v * LANES), k, seen[v]);
        }
    }
    for (size_t t = 0; t < scan->tokens; t++) {
        const float *key = scan->keys + t * 2 * key_dim;
        const float *query = key + key_dim;
        const float *next = t + 1 < scan->tokens ? query + key_dim : key; // the last one's is not used
        const void *values = row_at(scan->values, t * scan->value_stride, dtype);
        void *out = row_at_out(scan->out, t * scan->out_stride, dtype);
        lanes beta = lanes_set(scan->beta[t * scan->gate_stride]);
        lanes factor = lanes_set(scan->factor[t * scan->gate_stride]);
        lanes delta[SCAN_VECTORS];
        lanes sums[SCAN_VECTORS];
        for (size_t v = 0; v < SCAN_VECTORS; v++) {
            size_t at = column + v * LANES;
            lanes value = at < scan->columns ? row_load(values, at, scan->columns, dtype) : lanes_set(0);
            delta[v] = lanes_mul(beta, lanes_sub(value, lanes_mul(factor, seen[v])));
            sums[v] = lanes_set(0);
            seen[v] = lanes_set(0);
        }
#pragma GCC unroll 2
        for (size_t i = 0; i < key_dim; i++) {
            lanes k = lanes_set(key[i]);
            lanes q = lanes_set(query[i]);
            lanes k_next = lanes_set(next[i]);
#pragma GCC unroll 4
            for (size_t v = 0; v < SCAN_VECTORS; v++) {
                float *part = state + i * MICRO_SCAN_COLUMNS + v * LANES;
                lanes now = lanes_fma(k, delta[v], lanes_mul(factor, lanes_load(part)));
                lanes_store(part, now);
                sums[v] = lanes_fma(now, q, sums[v]);
                seen[v] = lanes_fma(now, k_next, seen[v]);
            }
        }
        for (size_t v = 0; v < SCAN_VECTORS && column + v * LANES < scan->columns; v++) {
            row_store(out, column + v * LANES, scan->columns, sums[v], dtype);
        }
    }
}

MICRO_INLINE void delta_scan_columns(const struct micro_scan *scan, enum dtype dtype) {
    for (size_t column = 0; column < scan->columns; column += SCAN_VECTORS * LANES) {
        delta_scan_block(scan, column, dtype);
    }
}

// ---- what comes out ----

MICRO_INLINE void delta_norm_row(void *x, const void *z, const void *weight, float epsilon, size_t n,
                                 enum dtype dtype) {
    lanes inverse = lanes_set(row_inverse_rms(x, epsilon, n, dtype));
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = rounded(lanes_mul(row_load(x, i, n, dtype), inverse), dtype);
        value = rounded(lanes_mul(value, row_load(weight, i, n, dtype)), dtype);
        row_store(x, i, n, lanes_mul(value, activated(row_load(z, i, n, dtype), DEVICE_SILU)), dtype);
    }
}

// ---- gates of rows ----

MICRO_INLINE void gate_whole_row(void *x, const void *in, const void *weight, size_t n, size_t hidden,
                                 enum dtype dtype) {
    lanes sums[4] = {lanes_set(0), lanes_set(0), lanes_set(0), lanes_set(0)};
    size_t i = 0;
    for (; i + 4 * LANES <= hidden; i += 4 * LANES) {
        for (size_t s = 0; s < 4; s++) {
            sums[s] = lanes_fma(full_load(row_at(in, i + s * LANES, dtype), dtype),
                                full_load(row_at(weight, i + s * LANES, dtype), dtype), sums[s]);
        }
    }
    for (size_t s = 0; i < hidden; i += LANES, s++) {
        sums[s] = lanes_fma(row_load(in, i, hidden, dtype), row_load(weight, i, hidden, dtype), sums[s]);
    }
    float sum = lanes_sum(lanes_add(lanes_add(sums[0], sums[1]), lanes_add(sums[2], sums[3])));
    lanes factor = rounded(lanes_sigmoid(rounded(lanes_set(sum), dtype)), dtype);
    for (i = 0; i < n; i += LANES) {
        row_store(x, i, n, lanes_mul(row_load(x, i, n, dtype), factor), dtype);
    }
}

#endif
