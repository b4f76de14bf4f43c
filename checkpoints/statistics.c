// SPDX-License-Identifier: MIT
#include "checkpoints/statistics.h"

#include <math.h>

#include "base/size.h"

// Columns are taken in blocks so that the four accumulators (32 bytes a column) stay in the first-level cache
// while the rows of a group pass; LANES parts a row keep the norm's sum vectorisable with a fixed order.
enum { BLOCK = 512, GROUP = 64, LANES = 8 };

// The same source compiled for wider vectors, chosen at load time. Every operation is one IEEE rounding (no
// fused multiply-add), so that all versions give the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define WIDER_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define WIDER_VECTORS
#endif

// f16 to f32 without branches: the exponent is moved by a product with 2^112, which also normalises
// subnormals; infinity and NaN keep a full exponent.
static inline float widen_f16(uint16_t half) {
    uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    uint32_t bits = f32_bits(f32_from_bits(magnitude) * 0x1p112f);
    uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
    return f32_from_bits(bits | special | (uint32_t)(half & 0x8000u) << 16);
}

WIDER_VECTORS static void load_f32(double *restrict out, const float *restrict in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)in[i];
    }
}

WIDER_VECTORS static void load_f16(double *restrict out, const uint16_t *restrict in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)widen_f16(in[i]);
    }
}

WIDER_VECTORS static void load_bf16(double *restrict out, const uint16_t *restrict in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = (double)bf16_to_f32(in[i]);
    }
}

WIDER_VECTORS static void add_columns(double *restrict sum, double *restrict squares,
                                      double *restrict minimum, double *restrict maximum,
                                      const double *restrict x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sum[i] += x[i];
        squares[i] += x[i] * x[i];
        minimum[i] = x[i] < minimum[i] ? x[i] : minimum[i];
        maximum[i] = x[i] > maximum[i] ? x[i] : maximum[i];
    }
}

WIDER_VECTORS static void add_lanes(double lanes[LANES], const double *restrict x, size_t count) {
    double parts[LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        parts[lane] = lanes[lane];
    }
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            parts[lane] += x[i + lane] * x[i + lane];
        }
    }
    for (size_t lane = 0; i + lane < count; lane++) {
        parts[lane] += x[i + lane] * x[i + lane];
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        lanes[lane] = parts[lane];
    }
}

static void load(double *out, const void *latents, enum dtype dtype, size_t first, size_t count) {
    switch (dtype) {
    case DTYPE_F32:
        load_f32(out, (const float *)latents + first, count);
        break;
    case DTYPE_F16:
        load_f16(out, (const uint16_t *)latents + first, count);
        break;
    case DTYPE_BF16:
        load_bf16(out, (const uint16_t *)latents + first, count);
        break;
    }
}

void statistics_reset(struct statistics *statistics, size_t hidden) {
    for (size_t i = 0; i < hidden; i++) {
        statistics->sum[i] = 0;
        statistics->sum_of_squares[i] = 0;
        statistics->minimum[i] = INFINITY;
        statistics->maximum[i] = -INFINITY;
    }
    statistics->norm_sum = 0;
    statistics->rows = 0;
}

static double row_norm(const double lanes[LANES]) {
    double squares =
        ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
    return sqrt(squares);
}

void statistics_add(struct statistics *statistics, const void *latents, enum dtype dtype, size_t rows,
                    size_t hidden) {
    double x[BLOCK];
    double lanes[GROUP][LANES];
    for (size_t first = 0; first < rows; first += GROUP) {
        size_t group = size_min(GROUP, rows - first);
        for (size_t row = 0; row < group; row++) {
            for (size_t lane = 0; lane < LANES; lane++) {
                lanes[row][lane] = 0;
            }
        }
        for (size_t column = 0; column < hidden; column += BLOCK) {
            size_t count = size_min(BLOCK, hidden - column);
            for (size_t row = 0; row < group; row++) {
                load(x, latents, dtype, (first + row) * hidden + column, count);
                add_columns(statistics->sum + column, statistics->sum_of_squares + column,
                            statistics->minimum + column, statistics->maximum + column, x, count);
                add_lanes(lanes[row], x, count);
            }
        }
        for (size_t row = 0; row < group; row++) {
            statistics->norm_sum += row_norm(lanes[row]);
        }
    }
    statistics->rows += rows;
}
