// SPDX-License-Identifier: MIT
// AVX512-BF16: vdpbf16ps multiplies pairs of bfloat16 numbers and adds both products to a float32.
#if defined(__AVX512BF16__)
#include "kernels/cpu/lanes_avx512.h"

#include "kernels/cpu/micro_expand.h"
#include "kernels/cpu/micro_table.h"

static inline lanes pairs_load(const uint16_t *in) {
    return _mm512_castsi512_ps(_mm512_loadu_si512(in));
}

static inline lanes pairs_dot(lanes sums, lanes a, lanes b) {
    return _mm512_dpbf16_ps(sums, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}

MICRO_INLINE void tile_rows_bf16(float *sums, size_t sums_stride, const uint16_t *a, size_t a_stride,
                                 const uint16_t *b, int rows, size_t depth, bool accumulate,
                                 struct tile_request request) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, sums_stride, rows, accumulate);
    for (size_t k = 0; k < depth; k += 2, b += 2 * TILE_COLUMNS) {
        tile_ask(&request);
        lanes row[TILE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            row[v] = pairs_load(b + 2 * v * LANES);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float pair;
            memcpy(&pair, a + (size_t)r * a_stride + k, sizeof pair);
            lanes x = lanes_set(pair);
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                c[r][v] = pairs_dot(c[r][v], x, row[v]);
            }
        }
    }
    tile_finish(sums, sums_stride, rows, c);
}

static void tile_bf16(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                      size_t rows, size_t depth, bool accumulate) {
    const struct tile_request request = {0};
#define BODY(n) tile_rows_bf16(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

static void tile_asking_bf16(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                             const void *panel, size_t rows, size_t depth, bool accumulate, const void *next,
                             size_t step) {
    const struct tile_request request = {next, 2 * step, 1, true};
#define BODY(n) tile_rows_bf16(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

static void stream_bf16(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                        size_t rows, size_t depth, bool accumulate, const void *next) {
    const struct tile_request request = tile_request_half(next, 2 * TILE_COLUMNS * sizeof(uint16_t));
#define BODY(n) tile_rows_bf16(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

static void pack_rows_bf16(void *out, size_t out_stride, const void *x, size_t x_stride, size_t rows,
                           size_t columns, size_t padded_columns) {
    for (size_t r = 0; r < rows; r++) {
        uint16_t *row = (uint16_t *)out + r * out_stride;
        memcpy(row, (const uint16_t *)x + r * x_stride, columns * sizeof *row);
        memset(row + columns, 0, (padded_columns - columns) * sizeof *row);
    }
}

static void pack_keys_bf16(void *panel, const void *keys, size_t stride, size_t count, size_t head_dim) {
    pack_keys_units(panel, keys, stride * sizeof(uint16_t), count, head_dim / 2);
}

static void pack_values_bf16(void *out, const void *values, size_t stride, size_t count, size_t padded_count,
                             size_t columns) {
    static const uint16_t zeros[TILE_COLUMNS] = {0};
    for (size_t k = 0; k < padded_count; k += 2) {
        uint16_t *row = (uint16_t *)out + k * TILE_COLUMNS;
        const uint16_t *first = k < count ? (const uint16_t *)values + k * stride : zeros;
        const uint16_t *second = k + 1 < count ? (const uint16_t *)values + (k + 1) * stride : zeros;
        for (size_t j = 0; j < columns; j++) {
            row[2 * j] = first[j];
            row[2 * j + 1] = second[j];
        }
        memset(row + 2 * columns, 0, 2 * (TILE_COLUMNS - columns) * sizeof *row);
    }
}

static float softmax_bf16(void *probabilities, float *scores, size_t low, size_t high, size_t padded,
                          float scale, float *maximum, float *sum) {
    return softmax_row(probabilities, scores, low, high, padded, scale, maximum, sum, DTYPE_BF16);
}

static double peak_bf16(size_t rounds, float *sums) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, TILE_COLUMNS, TILE_ROWS, true);
    lanes ones = _mm512_castsi512_ps(_mm512_set1_epi16(0x3f80));
    for (size_t i = 0; i < rounds; i++) {
        __asm__ volatile("" ::: "memory"); // rounds are not merged
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                c[r][v] = pairs_dot(c[r][v], ones, ones);
            }
        }
    }
    tile_finish(sums, TILE_COLUMNS, TILE_ROWS, c);
    return 4.0 * (double)rounds * TILE_ROWS * TILE_COLUMNS;
}

MICRO_ROW_FUNCTIONS(bf16, DTYPE_BF16)

const struct micro_kernels avx512bf16_bf16 = {
    .operand = DTYPE_BF16,
    .tile_rows = TILE_ROWS,
    .tile_columns = TILE_COLUMNS,
    .depth_unit = 2,
    .tile = tile_bf16,
    .tile_asking = tile_asking_bf16,
    .stream = stream_bf16,
    .pack_rows = pack_rows_bf16,
    .pack_keys = pack_keys_bf16,
    .pack_values = pack_values_bf16,
    .softmax = softmax_bf16,
    .peak = peak_bf16,
    MICRO_ROW_ENTRIES(bf16),
};
#else
typedef int avx512bf16_is_not_built_here;
#endif
