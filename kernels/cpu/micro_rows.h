// SPDX-License-Identifier: MIT
// Shared bodies of the row micro-kernels (stores, softmax; micro_norms.h and micro_activations.h have the
// others), compiled once a path: include lanes_*.h of the path first. Each takes the dtype as a constant and
// is inlined into one function a dtype.
//
// A row's end that does not fill a vector goes through a small zeroed buffer, so that every length has the
// one order of sums: element i belongs to lane i % LANES.
#ifndef STRATA_KERNELS_CPU_MICRO_ROWS_H
#define STRATA_KERNELS_CPU_MICRO_ROWS_H

#include <math.h>

#include "kernels/device.h"
#include "kernels/shapes.h"

#define MICRO_INLINE static inline __attribute__((always_inline))

MICRO_INLINE const void *row_at(const void *row, size_t i, enum dtype dtype) {
    return dtype == DTYPE_F32 ? (const void *)((const float *)row + i)
                              : (const void *)((const uint16_t *)row + i);
}

MICRO_INLINE void *row_at_out(void *row, size_t i, enum dtype dtype) {
    return dtype == DTYPE_F32 ? (void *)((float *)row + i) : (void *)((uint16_t *)row + i);
}

MICRO_INLINE lanes full_load(const void *in, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return lanes_load_f16(in);
    case DTYPE_BF16:
        return lanes_load_bf16(in);
    default:
        return lanes_load(in);
    }
}

MICRO_INLINE void full_store(void *out, lanes value, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        lanes_store_f16(out, value);
        break;
    case DTYPE_BF16:
        lanes_store_bf16(out, value);
        break;
    default:
        lanes_store(out, value);
    }
}

// Elements [i, i + LANES) of a row of n; what is beyond n reads as zero.
MICRO_INLINE lanes row_load(const void *row, size_t i, size_t n, enum dtype dtype) {
    if (i + LANES <= n) {
        return full_load(row_at(row, i, dtype), dtype);
    }
    uint32_t part[LANES] = {0};
    memcpy(part, row_at(row, i, dtype), (n - i) * (dtype == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t)));
    return full_load(part, dtype);
}

MICRO_INLINE void row_store(void *row, size_t i, size_t n, lanes value, enum dtype dtype) {
    if (i + LANES <= n) {
        full_store(row_at_out(row, i, dtype), value, dtype);
        return;
    }
    uint32_t part[LANES];
    full_store(part, value, dtype);
    memcpy(row_at_out(row, i, dtype), part,
           (n - i) * (dtype == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t)));
}

// Rounds where a computation in halves rounds.
MICRO_INLINE lanes rounded(lanes value, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return lanes_round_f16(value);
    case DTYPE_BF16:
        return lanes_round_bf16(value);
    default:
        return value;
    }
}

// e^x to about 1 ulp; below the smallest normal number 0, above the largest number about 2^127.5; NaN stays.
// x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts; the polynomial is Moshier's (Cephes, expf).
MICRO_INLINE lanes lanes_exp(lanes x) {
    lanes low = lanes_set(-87.3365402f);
    lanes clamped = lanes_max(low, lanes_min(lanes_set(88.3762589f), x));
    lanes magic = lanes_set(0x1.8p23f); // adding it rounds to an integer
    lanes n = lanes_sub(lanes_fma(clamped, lanes_set(1.44269504f), magic), magic);
    lanes r = lanes_fma(n, lanes_set(-0.693359375f), clamped);
    r = lanes_fma(n, lanes_set(2.12194440e-4f), r);
    lanes p = lanes_set(1.9875691500e-4f);
    p = lanes_fma(p, r, lanes_set(1.3981999507e-3f));
    p = lanes_fma(p, r, lanes_set(8.3334519073e-3f));
    p = lanes_fma(p, r, lanes_set(4.1665795894e-2f));
    p = lanes_fma(p, r, lanes_set(1.6666665459e-1f));
    p = lanes_fma(p, r, lanes_set(5.0000001201e-1f));
    p = lanes_add(lanes_fma(p, lanes_mul(r, r), r), lanes_set(1.0f));
    return lanes_zero_below(lanes_scale2(p, n), x, low);
}

static inline float scalar_exp(float x) {
    float all[LANES];
    lanes_store(all, lanes_exp(lanes_set(x)));
    return all[0];
}

// sums += numbers, as pooling adds up tokens.
MICRO_INLINE void add_row(float *sums, const void *row, size_t n, enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        row_store(sums, i, n, lanes_add(row_load(sums, i, n, DTYPE_F32), row_load(row, i, n, dtype)),
                  DTYPE_F32);
    }
}

// ---- stores ----

MICRO_INLINE void store_sums_row(void *out, const float *sums, const void *bias, size_t columns,
                                 enum device_store store, enum dtype dtype) {
    for (size_t i = 0; i < columns; i += LANES) {
        lanes value = row_load(sums, i, columns, DTYPE_F32);
        if (bias != NULL) {
            value = lanes_add(value, row_load(bias, i, columns, dtype));
        }
        if (store == DEVICE_ADD) {
            value = lanes_add(row_load(out, i, columns, dtype), rounded(value, dtype));
        }
        row_store(out, i, columns, value, dtype);
    }
}

static inline void rescale_sums(float *sums, float factor, size_t count) {
    lanes f = lanes_set(factor);
    for (size_t i = 0; i < count; i += LANES) {
        row_store(sums, i, count, lanes_mul(row_load(sums, i, count, DTYPE_F32), f), DTYPE_F32);
    }
}

MICRO_INLINE void store_scaled_row(void *out, const float *sums, float factor, size_t count,
                                   enum dtype dtype) {
    lanes f = lanes_set(factor);
    for (size_t i = 0; i < count; i += LANES) {
        row_store(out, i, count, lanes_mul(row_load(sums, i, count, DTYPE_F32), f), dtype);
    }
}

// ---- softmax ----

MICRO_INLINE float softmax_row(void *probabilities, float *scores, size_t low, size_t high, size_t padded,
                               float scale, float *maximum, float *sum, enum dtype operand) {
    size_t operand_bytes = operand == DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    if (low >= high) {
        memset(probabilities, 0, padded * operand_bytes);
        return 1.0f;
    }
    size_t first = low / LANES * LANES;
    size_t end = (high + LANES - 1) / LANES * LANES; // the caller's row has room for whole vectors
    for (size_t i = first; i < low; i++) {
        scores[i] = -INFINITY;
    }
    for (size_t i = high; i < end; i++) {
        scores[i] = -INFINITY;
    }
    lanes scales = lanes_set(scale);
    lanes greatest = lanes_set(-INFINITY);
    for (size_t i = first; i < end; i += LANES) {
        lanes value = lanes_mul(lanes_load(scores + i), scales);
        lanes_store(scores + i, value);
        greatest = lanes_max(value, greatest);
    }
    float before = *maximum;
    float now = lanes_greatest(greatest);
    now = before > now ? before : now;
    lanes shift = lanes_set(now);
    lanes total = lanes_set(0);
    memset(probabilities, 0, first * operand_bytes);
    for (size_t i = first; i < end; i += LANES) {
        lanes p = lanes_exp(lanes_sub(lanes_load(scores + i), shift));
        total = lanes_add(total, p);
        full_store(row_at_out(probabilities, i, operand), p, operand);
    }
    if (end < padded) {
        memset(row_at_out(probabilities, end, operand), 0, (padded - end) * operand_bytes);
    }
    float factor = before == now ? 1.0f : scalar_exp(before - now);
    *maximum = now;
    *sum = *sum * factor + lanes_sum(total);
    return factor;
}

#endif
