// SPDX-License-Identifier: MIT
// Shared bodies of the micro-kernels on tiles, compiled once for the instructions and once for their twin:
// include lanes_*.h of the path first. tile_kernels.h has the layouts; attention.c sees panels and rows
// through the functions of micro_kernels.h, with depths in multiples of 32.
#ifndef STRATA_KERNELS_CPU_MICRO_TILES_H
#define STRATA_KERNELS_CPU_MICRO_TILES_H

#include "kernels/cpu/micro_table.h"
#include "kernels/cpu/tile_kernels.h"
#include "kernels/cpu/tiles.h"

_Static_assert((int)STEP_DEPTH == (int)TILE_DEPTH && (int)GROUP_ROWS == 2 * (int)TILE_LINES &&
                   (int)PANEL_COLUMNS == 2 * (int)TILE_LINES,
               "groups and panels are two tiles wide");
_Static_assert((int)DEVICE_SLICE % (int)GROUP_ROWS == 0, "slices of a text begin with a group");
_Static_assert((int)DEVICE_PART_STEP % (int)PANEL_COLUMNS == 0, "expanded experts begin with a panel");

// ---- products ----

// Registers: sums 0 1 (rows 0 to 15) and 2 3 (rows 16 to 31), left 4 5, right 6 7. Loads stand just before
// the products that need them: four of each a step, which the processor overlaps.
MICRO_INLINE void multiply_two(float *sums, size_t stride, const struct tile_rows *rows, const void *panel,
                               size_t steps, bool accumulate, struct tile_ahead ahead) {
    const size_t line = stride * sizeof(float);
    // In registers: the loads below may change any memory, the compiler believes.
    const size_t row = rows->row;
    const size_t half = rows->half;
    const size_t step = rows->step;
    float *lower = sums + TILE_LINES * stride;
    const unsigned char *a = rows->data;
    const uint16_t *b = panel;
    const unsigned char *next = ahead.data;
    if (accumulate) {
        tile_load(0, sums, line);
        tile_load(1, sums + TILE_LINES, line);
        tile_load(2, lower, line);
        tile_load(3, lower + TILE_LINES, line);
    } else {
        tile_zero(0);
        tile_zero(1);
        tile_zero(2);
        tile_zero(3);
    }
    for (size_t s = 0; s < steps; s++, a += step, b += PANEL_STEP) {
        tile_load(6, b, TILE_LINE_BYTES);
        tile_load(4, a, row);
        tile_dot(0, 4, 6);
        tile_load(7, b + TILE_NUMBERS, TILE_LINE_BYTES);
        tile_dot(1, 4, 7);
        tile_load(5, a + half, row);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
        for (size_t i = 0; i < ahead.lines; i++, next += TILE_LINE_BYTES) {
            __builtin_prefetch(next, 0, 2);
        }
    }
    tile_store(0, sums, line);
    tile_store(1, sums + TILE_LINES, line);
    tile_store(2, lower, line);
    tile_store(3, lower + TILE_LINES, line);
}

MICRO_INLINE void multiply_one(float *sums, size_t stride, const struct tile_rows *rows, const void *panel,
                               size_t steps, bool accumulate, struct tile_ahead ahead) {
    const size_t line = stride * sizeof(float);
    const size_t row = rows->row;
    const size_t step = rows->step;
    const unsigned char *a = rows->data;
    const uint16_t *b = panel;
    const unsigned char *next = ahead.data;
    if (accumulate) {
        tile_load(0, sums, line);
        tile_load(1, sums + TILE_LINES, line);
    } else {
        tile_zero(0);
        tile_zero(1);
    }
    for (size_t s = 0; s < steps; s++, a += step, b += PANEL_STEP) {
        tile_load(6, b, TILE_LINE_BYTES);
        tile_load(4, a, row);
        tile_dot(0, 4, 6);
        tile_load(7, b + TILE_NUMBERS, TILE_LINE_BYTES);
        tile_dot(1, 4, 7);
        for (size_t i = 0; i < ahead.lines; i++, next += TILE_LINE_BYTES) {
            __builtin_prefetch(next, 0, 2);
        }
    }
    tile_store(0, sums, line);
    tile_store(1, sums + TILE_LINES, line);
}

static void tiles_multiply(float *sums, size_t sums_stride, const struct tile_rows *rows, const void *panel,
                           size_t steps, bool accumulate, struct tile_ahead ahead) {
    if (rows->two) {
        multiply_two(sums, sums_stride, rows, panel, steps, accumulate, ahead);
    } else {
        multiply_one(sums, sums_stride, rows, panel, steps, accumulate, ahead);
    }
}

// attention.c's product: up to 32 rows as they lie.
static void tiles_tile(float *sums, size_t sums_stride, const void *a, size_t a_stride, const void *panel,
                       size_t count, size_t depth, bool accumulate) {
    struct tile_rows rows = {
        .data = a,
        .row = a_stride * sizeof(uint16_t),
        .half = TILE_LINES * a_stride * sizeof(uint16_t),
        .step = TILE_LINE_BYTES,
        .two = count > TILE_LINES,
    };
    tiles_multiply(sums, sums_stride, &rows, panel, depth / STEP_DEPTH, accumulate,
                   (struct tile_ahead){.data = panel});
}

// ---- left sides ----

static void tiles_pack_group(void *group, const void *x, size_t x_stride, size_t rows, size_t columns,
                             size_t steps) {
    size_t halves = rows > TILE_LINES ? 2 : 1;
    size_t whole = columns / STEP_DEPTH;
    size_t rest = columns % STEP_DEPTH;
    for (size_t r = 0; r < halves * TILE_LINES; r++) {
        uint16_t *out = (uint16_t *)group + r / TILE_LINES * TILE_NUMBERS + r % TILE_LINES * STEP_DEPTH;
        const uint16_t *in = (const uint16_t *)x + (r < rows ? r * x_stride : 0);
        size_t s = 0;
        for (; r < rows && s < whole; s++, out += halves * TILE_NUMBERS, in += STEP_DEPTH) {
            memcpy(out, in, TILE_LINE_BYTES);
        }
        if (r < rows && rest > 0) {
            memset(out, 0, TILE_LINE_BYTES);
            memcpy(out, in, rest * sizeof *out);
            out += halves * TILE_NUMBERS;
            s++;
        }
        for (; s < steps; s++, out += halves * TILE_NUMBERS) {
            memset(out, 0, TILE_LINE_BYTES);
        }
    }
}

static void tiles_pack_rows(void *out, size_t out_stride, const void *x, size_t x_stride, size_t rows,
                            size_t columns, size_t padded_columns) {
    for (size_t r = 0; r < rows; r++) {
        uint16_t *row = (uint16_t *)out + r * out_stride;
        memcpy(row, (const uint16_t *)x + r * x_stride, columns * sizeof *row);
        memset(row + columns, 0, (padded_columns - columns) * sizeof *row);
    }
}

// ---- right sides ----

_Static_assert(TILE_LINES % LANES == 0, "a tile is whole vectors wide");

// 16 rows of 16 pairs of depths to 16 pairs of 16 columns: a transposition of 32-bit units. past_caches: out
// is aligned, and nobody reads it soon.
MICRO_INLINE void turn_tile(uint16_t *out, const uint16_t *in, size_t stride, bool past_caches) {
    for (size_t pair = 0; pair < TILE_LINES; pair += LANES) {
        for (size_t column = 0; column < TILE_LINES; column += LANES) {
            lanes units[LANES];
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++) {
                units[i] = lanes_load(in + (column + i) * stride + 2 * pair);
            }
            lanes_transpose(units);
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++) {
                uint16_t *line = out + (pair + i) * STEP_DEPTH + 2 * column;
                if (past_caches) {
                    lanes_stream(line, units[i]);
                } else {
                    lanes_store(line, units[i]);
                }
            }
        }
    }
}

static void tiles_turn(void *half, const void *numbers, size_t stride, size_t steps) {
    for (size_t s = 0; s < steps; s++) {
        turn_tile((uint16_t *)half + s * PANEL_STEP, (const uint16_t *)numbers + s * STEP_DEPTH, stride,
                  true);
    }
    lanes_stream_end();
}

// Up to 32 keys to a panel whose columns are keys; rows that end within a tile go through a buffer.
static void tiles_pack_keys(void *panel, const void *keys, size_t stride, size_t count, size_t head_dim) {
    size_t steps = (head_dim + STEP_DEPTH - 1) / STEP_DEPTH;
    for (size_t s = 0; s < steps; s++) {
        size_t depth = head_dim - s * STEP_DEPTH < STEP_DEPTH ? head_dim - s * STEP_DEPTH : STEP_DEPTH;
        for (size_t half = 0; half < 2; half++) {
            uint16_t *out = (uint16_t *)panel + s * PANEL_STEP + half * TILE_NUMBERS;
            size_t first = half * TILE_LINES;
            size_t rows = count > first ? (count - first < TILE_LINES ? count - first : TILE_LINES) : 0;
            const uint16_t *in = (const uint16_t *)keys + (rows > 0 ? first * stride + s * STEP_DEPTH : 0);
            if (rows == TILE_LINES && depth == STEP_DEPTH) {
                turn_tile(out, in, stride, false);
                continue;
            }
            uint16_t padded[TILE_LINES][STEP_DEPTH] = {{0}};
            for (size_t r = 0; r < rows; r++) {
                memcpy(padded[r], in + r * stride, depth * sizeof **padded);
            }
            turn_tile(out, padded[0], STEP_DEPTH, false);
        }
    }
}

// One line of a right side: two depths of 16 columns, interleaved.
static void pair_line(uint16_t *restrict out, const uint16_t *restrict first,
                      const uint16_t *restrict second) {
    uint32_t units[TILE_LINES];
#pragma GCC unroll 1 // one vector each way, not sixteen numbers
    for (size_t c = 0; c < TILE_LINES; c++) {
        units[c] = (uint32_t)first[c] | (uint32_t)second[c] << 16;
    }
    memcpy(out, units, sizeof units);
}

// Values to a panel whose columns are dimensions and whose depth is keys. Rows that end within the panel go
// through a buffer.
static void tiles_pack_values(void *panel, const void *values, size_t stride, size_t count,
                              size_t padded_count, size_t columns) {
    for (size_t k = 0; k < padded_count; k += 2) {
        uint16_t buffer[2][PANEL_COLUMNS];
        const uint16_t *rows[2];
        for (size_t i = 0; i < 2; i++) {
            rows[i] = (const uint16_t *)values + (k + i < count ? k + i : 0) * stride;
            if (columns < PANEL_COLUMNS || k + i >= count) {
                memset(buffer[i], 0, sizeof buffer[i]);
                memcpy(buffer[i], rows[i], k + i < count ? columns * sizeof **buffer : 0);
                rows[i] = buffer[i];
            }
        }
        uint16_t *out = (uint16_t *)panel + k / STEP_DEPTH * PANEL_STEP + k % STEP_DEPTH * TILE_LINES;
        pair_line(out, rows[0], rows[1]);
        pair_line(out + TILE_NUMBERS, rows[0] + TILE_LINES, rows[1] + TILE_LINES);
    }
}

// ---- stores ----

MICRO_INLINE void store_rows(void *out, size_t out_stride, const float *sums, const void *bias, size_t rows,
                             size_t columns, enum device_store store) {
    for (size_t r = 0; r < rows; r++) {
        store_sums_row((uint16_t *)out + r * out_stride, sums + r * PANEL_COLUMNS, bias, columns, store,
                       DTYPE_BF16);
    }
}

static void tiles_store(void *out, size_t out_stride, const float *sums, const void *bias, size_t rows,
                        size_t columns, enum device_store store) {
    if (columns < PANEL_COLUMNS) {
        store_rows(out, out_stride, sums, bias, rows, columns, store);
    } else if (store == DEVICE_ADD) {
        store_rows(out, out_stride, sums, bias, rows, PANEL_COLUMNS, DEVICE_ADD);
    } else if (bias != NULL) {
        store_rows(out, out_stride, sums, bias, rows, PANEL_COLUMNS, DEVICE_STORE);
    } else {
        store_rows(out, out_stride, sums, NULL, rows, PANEL_COLUMNS, DEVICE_STORE);
    }
}

static float tiles_softmax(void *probabilities, float *scores, size_t low, size_t high, size_t padded,
                           float scale, float *maximum, float *sum) {
    return softmax_row(probabilities, scores, low, high, padded, scale, maximum, sum, DTYPE_BF16);
}

// ---- peak ----

static double tiles_peak(size_t rounds, float *sums) {
    enum { SLOWER = 4096 }; // by about so much the twin: it runs as long with so many rounds fewer
    uint16_t ones[TILE_NUMBERS];
    for (size_t i = 0; i < TILE_NUMBERS; i++) {
        ones[i] = f32_to_bf16(1.0f);
    }
    rounds = TILES_ARE_TWIN ? rounds / SLOWER : rounds;
    tiles_configure();
    tile_zero(0);
    tile_zero(1);
    tile_zero(2);
    tile_zero(3);
    tile_load(4, ones, TILE_LINE_BYTES);
    tile_load(5, ones, TILE_LINE_BYTES);
    tile_load(6, ones, TILE_LINE_BYTES);
    tile_load(7, ones, TILE_LINE_BYTES);
    for (size_t i = 0; i < rounds; i++) {
        tile_dot(0, 4, 6);
        tile_dot(1, 4, 7);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
    tile_store(0, sums, TILE_LINE_BYTES);
    tiles_release();
    return 2.0 * (double)rounds * GROUP_ROWS * PANEL_COLUMNS * STEP_DEPTH;
}

MICRO_ROW_FUNCTIONS(bf16, DTYPE_BF16)

#define MICRO_TILES_ENTRIES                                                                                  \
    .operand = DTYPE_BF16, .tile_rows = GROUP_ROWS, .tile_columns = PANEL_COLUMNS, .depth_unit = STEP_DEPTH, \
    .begin = tiles_configure, .end = tiles_release, .tile = tiles_tile, .pack_rows = tiles_pack_rows,        \
    .pack_keys = tiles_pack_keys, .pack_values = tiles_pack_values, .softmax = tiles_softmax,                \
    .peak = tiles_peak, MICRO_ROW_ENTRIES(bf16)

// Both tables of a path on tiles.
#define MICRO_KERNELS_TILES(path)                                                                            \
    static const struct tile_kernels path##_tiles = {tiles_multiply, tiles_pack_group, tiles_turn,           \
                                                     tiles_store};                                           \
    const struct micro_kernels path##_bf16 = {MICRO_TILES_ENTRIES, .tiles = &path##_tiles};

#endif
