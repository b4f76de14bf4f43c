// SPDX-License-Identifier: MIT
// Four float lanes by the compiler's vector extension: any processor. Multiply and add round separately.
#ifndef STRATA_KERNELS_CPU_LANES_PORTABLE_H
#define STRATA_KERNELS_CPU_LANES_PORTABLE_H

#include "base/dtype.h"

enum { LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 2 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t lanes_bits __attribute__((vector_size(16)));

static inline lanes lanes_set(float value) {
    return (lanes){value, value, value, value};
}

static inline lanes lanes_load(const void *in) {
    lanes value;
    memcpy(&value, in, sizeof value);
    return value;
}

static inline void lanes_store(void *out, lanes value) {
    memcpy(out, &value, sizeof value);
}

// Past the caches, to where whole vectors are aligned; lanes_stream_end before others read them.
static inline void lanes_stream(void *out, lanes value) {
    lanes_store(out, value);
}

static inline void lanes_stream_end(void) {
}

static inline lanes lanes_load_bf16(const void *in) {
    uint16_t half[LANES];
    memcpy(half, in, sizeof half);
    return (lanes){bf16_to_f32(half[0]), bf16_to_f32(half[1]), bf16_to_f32(half[2]), bf16_to_f32(half[3])};
}

static inline void lanes_store_bf16(void *out, lanes value) {
    uint16_t half[LANES];
    for (int i = 0; i < LANES; i++) {
        half[i] = f32_to_bf16(value[i]);
    }
    memcpy(out, half, sizeof half);
}

static inline lanes lanes_round_bf16(lanes value) {
    for (int i = 0; i < LANES; i++) {
        value[i] = bf16_to_f32(f32_to_bf16(value[i]));
    }
    return value;
}

static inline lanes lanes_load_f16(const void *in) {
    uint16_t half[LANES];
    memcpy(half, in, sizeof half);
    return (lanes){f16_to_f32(half[0]), f16_to_f32(half[1]), f16_to_f32(half[2]), f16_to_f32(half[3])};
}

static inline void lanes_store_f16(void *out, lanes value) {
    uint16_t half[LANES];
    for (int i = 0; i < LANES; i++) {
        half[i] = f32_to_f16(value[i]);
    }
    memcpy(out, half, sizeof half);
}

static inline lanes lanes_round_f16(lanes value) {
    for (int i = 0; i < LANES; i++) {
        value[i] = f16_to_f32(f32_to_f16(value[i]));
    }
    return value;
}

// Of pairs of bfloat16 numbers the first and the second of each.
static inline void lanes_split(lanes pairs, lanes *first, lanes *second) {
    uint16_t in[2 * LANES];
    memcpy(in, &pairs, sizeof in);
    *first = (lanes){bf16_to_f32(in[0]), bf16_to_f32(in[2]), bf16_to_f32(in[4]), bf16_to_f32(in[6])};
    *second = (lanes){bf16_to_f32(in[1]), bf16_to_f32(in[3]), bf16_to_f32(in[5]), bf16_to_f32(in[7])};
}

static inline lanes lanes_add(lanes a, lanes b) {
    return a + b;
}

static inline lanes lanes_sub(lanes a, lanes b) {
    return a - b;
}

static inline lanes lanes_mul(lanes a, lanes b) {
    return a * b;
}

static inline lanes lanes_div(lanes a, lanes b) {
    return a / b;
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return a * b + c;
}

static inline lanes lanes_select(lanes_bits mask, lanes yes, lanes no) {
    return (lanes)((mask & (lanes_bits)yes) | (~mask & (lanes_bits)no));
}

// The greater of the two; b when either is NaN. lanes_min likewise.
static inline lanes lanes_max(lanes a, lanes b) {
    return lanes_select(a > b, a, b);
}

static inline lanes lanes_min(lanes a, lanes b) {
    return lanes_select(a < b, a, b);
}

// value where x >= bound or x is NaN, otherwise 0.
static inline lanes lanes_zero_below(lanes value, lanes x, lanes bound) {
    return lanes_select(x < bound, lanes_set(0), value);
}

// yes where x < bound, otherwise, and where x is NaN, no.
static inline lanes lanes_where_below(lanes x, lanes bound, lanes yes, lanes no) {
    return lanes_select(x < bound, yes, no);
}

// value * 2^exponent, exponent an integer in [-126, 127].
static inline lanes lanes_scale2(lanes value, lanes exponent) {
    lanes_bits bits = (__builtin_convertvector(exponent, lanes_bits) + 127) << 23;
    return value * (lanes)bits;
}

static inline float lanes_sum(lanes a) {
    return (a[0] + a[2]) + (a[1] + a[3]);
}

static inline float lanes_greatest(lanes a) {
    float left = a[0] > a[1] ? a[0] : a[1];
    float right = a[2] > a[3] ? a[2] : a[3];
    return left > right ? left : right;
}

// Of pairs of 16-bit numbers, those of a before those of b, the first and the second of each.
static inline void lanes_unzip(lanes a, lanes b, lanes *first, lanes *second) {
    uint16_t in[4 * LANES];
    uint16_t out[2][2 * LANES];
    memcpy(in, &a, sizeof a);
    memcpy(in + 2 * LANES, &b, sizeof b);
    for (int i = 0; i < 2 * LANES; i++) {
        out[0][i] = in[2 * i];
        out[1][i] = in[2 * i + 1];
    }
    memcpy(first, out[0], sizeof *first);
    memcpy(second, out[1], sizeof *second);
}

// Row r, lane c to row c, lane r.
static inline void lanes_transpose(lanes rows[LANES]) {
    lanes out[LANES];
    for (int r = 0; r < LANES; r++) {
        for (int c = 0; c < LANES; c++) {
            out[c][r] = rows[r][c];
        }
    }
    memcpy(rows, out, sizeof out);
}

#endif
