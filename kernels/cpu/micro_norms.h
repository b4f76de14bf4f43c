// SPDX-License-Identifier: MIT
// Shared bodies of norms and rotation, compiled once a path: include lanes_*.h of the path first.
//
// Sums run in four vectors, whose order the row's width alone decides.
#ifndef STRATA_KERNELS_CPU_MICRO_NORMS_H
#define STRATA_KERNELS_CPU_MICRO_NORMS_H

#include "kernels/cpu/micro_rows.h"

// ---- sums of a row ----

enum { ROW_SUM, ROW_SQUARES, ROW_DEVIATIONS }; // of x, x^2, (x - mean)^2

// Lanes from `count` on become zero.
MICRO_INLINE lanes first_lanes(lanes value, size_t count) {
    float all[LANES];
    float part[LANES] = {0};
    lanes_store(all, value);
    memcpy(part, all, count * sizeof *part);
    return lanes_load(part);
}

MICRO_INLINE lanes row_term(lanes sum, lanes value, lanes mean, int what) {
    if (what == ROW_SUM) {
        return lanes_add(sum, value);
    }
    lanes deviation = what == ROW_DEVIATIONS ? lanes_sub(value, mean) : value;
    return lanes_fma(deviation, deviation, sum);
}

MICRO_INLINE float row_sum(const void *x, float mean, size_t n, int what, enum dtype dtype) {
    lanes sums[4] = {lanes_set(0), lanes_set(0), lanes_set(0), lanes_set(0)};
    lanes means = lanes_set(mean);
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        for (size_t s = 0; s < 4; s++) {
            lanes value = full_load(row_at(x, i + s * LANES, dtype), dtype);
            sums[s] = row_term(sums[s], value, means, what);
        }
    }
    for (size_t s = 0; i < n; i += LANES, s++) {
        lanes value = row_load(x, i, n, dtype);
        if (what == ROW_DEVIATIONS && i + LANES > n) { // what is beyond the row is no zero, but its mean's
            value = lanes_sub(value, means);
            value = first_lanes(value, n - i);
            sums[s] = lanes_fma(value, value, sums[s]);
        } else {
            sums[s] = row_term(sums[s], value, means, what);
        }
    }
    return lanes_sum(lanes_add(lanes_add(sums[0], sums[1]), lanes_add(sums[2], sums[3])));
}

// 1 / sqrt(mean(x^2) + epsilon).
MICRO_INLINE float row_inverse_rms(const void *x, float epsilon, size_t n, enum dtype dtype) {
    return 1.0f / sqrtf(row_sum(x, 0, n, ROW_SQUARES, dtype) / (float)n + epsilon);
}

// ---- norms ----

MICRO_INLINE void store_normed(void *out, size_t i, size_t n, lanes value, enum device_store store,
                               enum dtype dtype) {
    if (store == DEVICE_ADD) {
        value = lanes_add(row_load(out, i, n, dtype), rounded(value, dtype));
    }
    row_store(out, i, n, value, dtype);
}

MICRO_INLINE void norm_rms(void *out, const void *x, const void *weight, lanes inverse,
                           enum device_store store, size_t n, enum dtype dtype) {
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = rounded(lanes_mul(row_load(x, i, n, dtype), inverse), dtype);
        store_normed(out, i, n, lanes_mul(value, row_load(weight, i, n, dtype)), store, dtype);
    }
}

MICRO_INLINE void norm_rms_once(void *out, const void *x, const void *weight, lanes inverse, bool plus_one,
                                enum device_store store, size_t n, enum dtype dtype) {
    lanes one = lanes_set(1.0f);
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = lanes_mul(row_load(x, i, n, dtype), inverse);
        if (weight != NULL) {
            lanes factor = row_load(weight, i, n, dtype);
            value = lanes_mul(value, plus_one ? lanes_add(one, factor) : factor);
        }
        store_normed(out, i, n, value, store, dtype);
    }
}

MICRO_INLINE void norm_layer(void *out, const void *x, const struct device_norm *norm,
                             enum device_store store, size_t n, enum dtype dtype) {
    float mean = row_sum(x, 0, n, ROW_SUM, dtype) / (float)n;
    float variance = row_sum(x, mean, n, ROW_DEVIATIONS, dtype) / (float)n;
    lanes inverse = lanes_set(1.0f / sqrtf(variance + norm->epsilon));
    lanes means = lanes_set(mean);
    lanes one = lanes_set(1.0f);
    bool plus_one = norm->kind == DEVICE_NORM_LAYER_PLUS_ONE;
    for (size_t i = 0; i < n; i += LANES) {
        lanes value = lanes_mul(lanes_sub(row_load(x, i, n, dtype), means), inverse);
        if (norm->weight != NULL) {
            lanes factor = row_load(norm->weight, i, n, dtype);
            value = lanes_mul(value, plus_one ? rounded(lanes_add(one, factor), dtype) : factor);
        }
        if (norm->bias != NULL) {
            value = lanes_add(value, row_load(norm->bias, i, n, dtype));
        }
        store_normed(out, i, n, value, store, dtype);
    }
}

// All but the norm of most models.
MICRO_INLINE void norm_other(void *out, const void *x, const struct device_norm *norm,
                             enum device_store store, size_t n, enum dtype dtype) {
    const void *weight = norm->weight;
    if (norm->kind == DEVICE_NORM_LAYER || norm->kind == DEVICE_NORM_LAYER_PLUS_ONE) {
        norm_layer(out, x, norm, store, n, dtype);
        return;
    }
    lanes inverse = lanes_set(row_inverse_rms(x, norm->epsilon, n, dtype));
    if (norm->kind == DEVICE_NORM_RMS && weight != NULL) {
        norm_rms(out, x, weight, inverse, store, n, dtype);
    } else {
        norm_rms_once(out, x, weight, inverse, norm->kind == DEVICE_NORM_RMS_PLUS_ONE, store, n, dtype);
    }
}

// Compiled apart: beside them the norm of most models loses up to 6 % in float32 (Intel Xeon, avx512).
#define NORM_APART(suffix, dtype)                                                                            \
    static __attribute__((noinline)) void norm_apart_##suffix(                                               \
        void *out, const void *x, const struct device_norm *norm, enum device_store store, size_t n) {       \
        norm_other(out, x, norm, store, n, dtype);                                                           \
    }
NORM_APART(f32, DTYPE_F32)
NORM_APART(f16, DTYPE_F16)
NORM_APART(bf16, DTYPE_BF16)
#undef NORM_APART

MICRO_INLINE void norm_row(void *out, const void *x, const struct device_norm *norm, enum device_store store,
                           size_t n, enum dtype dtype) {
    if (norm->kind == DEVICE_NORM_RMS && norm->weight != NULL && store == DEVICE_STORE) {
        lanes inverse = lanes_set(row_inverse_rms(x, norm->epsilon, n, dtype));
        norm_rms(out, x, norm->weight, inverse, DEVICE_STORE, n, dtype);
    } else if (dtype == DTYPE_F32) {
        norm_apart_f32(out, x, norm, store, n);
    } else if (dtype == DTYPE_F16) {
        norm_apart_f16(out, x, norm, store, n);
    } else {
        norm_apart_bf16(out, x, norm, store, n);
    }
}

// ---- rotation ----

struct turn { // the numbers of vectors of pairs
    lanes a;
    lanes b;
};

MICRO_INLINE struct turn turned(struct turn in, lanes cosine, lanes sine, enum device_rope_rounding rounding,
                                enum dtype dtype) {
    enum dtype products = rounding == DEVICE_ROPE_ROUNDS_ALL ? dtype : DTYPE_F32;
    enum dtype tables = rounding == DEVICE_ROPE_ROUNDS_ONCE ? DTYPE_F32 : dtype;
    lanes c = rounded(cosine, tables);
    lanes s = rounded(sine, tables);
    return (struct turn){
        lanes_sub(rounded(lanes_mul(in.a, c), products), rounded(lanes_mul(in.b, s), products)),
        lanes_add(rounded(lanes_mul(in.b, c), products), rounded(lanes_mul(in.a, s), products)),
    };
}

// norm: a weight of the two halves, NULL: none.
MICRO_INLINE void turn_halves(void *part, const void *norm, lanes inverse, const float *cosine,
                              const float *sine, size_t half, enum device_rope_rounding rounding,
                              enum dtype dtype) {
    void *left = part;
    void *right = row_at_out(part, half, dtype);
    for (size_t i = 0; i < half; i += LANES) {
        struct turn pairs = {row_load(left, i, half, dtype), row_load(right, i, half, dtype)};
        if (norm != NULL) {
            pairs.a = rounded(lanes_mul(pairs.a, inverse), dtype);
            pairs.b = rounded(lanes_mul(pairs.b, inverse), dtype);
            pairs.a = rounded(lanes_mul(pairs.a, row_load(norm, i, half, dtype)), dtype);
            pairs.b = rounded(lanes_mul(pairs.b, row_load(row_at(norm, half, dtype), i, half, dtype)), dtype);
        }
        pairs = turned(pairs, row_load(cosine, i, half, DTYPE_F32), row_load(sine, i, half, DTYPE_F32),
                       rounding, dtype);
        row_store(left, i, half, pairs.a, dtype);
        row_store(right, i, half, pairs.b, dtype);
    }
}

// Numbers 2i and 2i + 1, taken apart and put together again by way of memory.
MICRO_INLINE void turn_neighbours(void *part, const float *cosine, const float *sine, size_t half,
                                  enum device_rope_rounding rounding, enum dtype dtype) {
    for (size_t i = 0; i < half; i += LANES) {
        size_t n = 2 * half;
        float mixed[2 * LANES] = {0};
        float a[LANES];
        float b[LANES];
        lanes_store(mixed, row_load(part, 2 * i, n, dtype));
        if (2 * i + LANES < n) {
            lanes_store(mixed + LANES, row_load(part, 2 * i + LANES, n, dtype));
        }
        for (size_t k = 0; k < LANES; k++) {
            a[k] = mixed[2 * k];
            b[k] = mixed[2 * k + 1];
        }
        struct turn pairs = {lanes_load(a), lanes_load(b)};
        pairs = turned(pairs, row_load(cosine, i, half, DTYPE_F32), row_load(sine, i, half, DTYPE_F32),
                       rounding, dtype);
        lanes_store(a, pairs.a);
        lanes_store(b, pairs.b);
        for (size_t k = 0; k < LANES; k++) {
            mixed[2 * k] = a[k];
            mixed[2 * k + 1] = b[k];
        }
        row_store(part, 2 * i, n, lanes_load(mixed), dtype);
        if (2 * i + LANES < n) {
            row_store(part, 2 * i + LANES, n, lanes_load(mixed + LANES), dtype);
        }
    }
}

MICRO_INLINE void turn_part(void *part, const float *cosine, const float *sine,
                            const struct device_rope *rope, enum device_rope_rounding rounding,
                            enum dtype dtype) {
    if (rope->pairing == DEVICE_PAIR_NEIGHBOURS) {
        turn_neighbours(part, cosine, sine, rope->part / 2, rounding, dtype);
    } else {
        turn_halves(part, NULL, lanes_set(1.0f), cosine, sine, rope->part / 2, rounding, dtype);
    }
}

MICRO_INLINE void rope_row(void *head, const struct device_norm *norm, const float *cosine, const float *sine,
                           const struct device_rope *rope, size_t head_dim, enum dtype dtype) {
    bool whole = rope->part == head_dim && rope->pairing == DEVICE_PAIR_HALVES &&
                 rope->rounding == DEVICE_ROPE_ROUNDS_ALL;
    if (whole && norm->weight != NULL && norm->kind == DEVICE_NORM_RMS) { // in one pass, the bits of two
        lanes inverse = lanes_set(row_inverse_rms(head, norm->epsilon, head_dim, dtype));
        turn_halves(head, norm->weight, inverse, cosine, sine, head_dim / 2, DEVICE_ROPE_ROUNDS_ALL, dtype);
        return;
    }
    if (norm->weight != NULL) {
        norm_row(head, head, norm, DEVICE_STORE, head_dim, dtype);
    }
    void *part = row_at_out(head, rope->first, dtype);
    switch (rope->rounding) {
    case DEVICE_ROPE_ROUNDS_ALL:
        turn_part(part, cosine, sine, rope, DEVICE_ROPE_ROUNDS_ALL, dtype);
        break;
    case DEVICE_ROPE_ROUNDS_TABLES:
        turn_part(part, cosine, sine, rope, DEVICE_ROPE_ROUNDS_TABLES, dtype);
        break;
    case DEVICE_ROPE_ROUNDS_ONCE:
        turn_part(part, cosine, sine, rope, DEVICE_ROPE_ROUNDS_ONCE, dtype);
        break;
    }
}

#endif
