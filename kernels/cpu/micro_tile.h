// Shared bodies of the matrix micro-kernels, compiled once a path: include lanes_*.h of the path first.
#ifndef STRATA_KERNELS_CPU_MICRO_TILE_H
#define STRATA_KERNELS_CPU_MICRO_TILE_H

#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/micro_rows.h"

enum { TILE_COLUMNS = LANES * TILE_VECTORS };

MICRO_INLINE void tile_start(lanes c[TILE_ROWS][TILE_VECTORS], const float *sums, size_t stride,
                             bool accumulate) {
    // The loops over a tile are unrolled whole, so that its sums stay in registers.
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            c[r][v] = accumulate ? lanes_load(sums + (size_t)r * stride + v * LANES) : lanes_set(0);
        }
    }
}

MICRO_INLINE void tile_finish(float *sums, size_t stride, lanes c[TILE_ROWS][TILE_VECTORS]) {
#pragma GCC unroll 8
    for (int r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            lanes_store(sums + (size_t)r * stride + v * LANES, c[r][v]);
        }
    }
}

static inline void tile_f32(float *sums, size_t sums_stride, const void *a_rows, size_t a_stride,
                            const void *panel, size_t depth, bool accumulate) {
    const float *a = a_rows;
    const float *b = panel;
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, sums_stride, accumulate);
    for (size_t k = 0; k < depth; k++, b += TILE_COLUMNS) {
        lanes row[TILE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            row[v] = lanes_load(b + v * LANES);
        }
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
            lanes x = lanes_set(a[(size_t)r * a_stride + k]);
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                c[r][v] = lanes_fma(x, row[v], c[r][v]);
            }
        }
    }
    tile_finish(sums, sums_stride, c);
}

static inline void widen_panel(float *out, const uint16_t *panel, size_t depth) {
    for (size_t k = 0; k < depth; k += 2, panel += 2 * TILE_COLUMNS, out += 2 * TILE_COLUMNS) {
        for (int v = 0; v < TILE_VECTORS; v++) {
            lanes first;
            lanes second;
            lanes_split_pairs(panel + 2 * v * LANES, &first, &second);
            lanes_store(out + v * LANES, first);
            lanes_store(out + TILE_COLUMNS + v * LANES, second);
        }
    }
}

// ---- packing of the left side ----

// number -> float32 operand.
MICRO_INLINE void pack_rows_wide(float *out, size_t out_stride, const void *x, size_t x_stride, size_t rows,
                                 size_t columns, size_t padded_rows, size_t padded_columns,
                                 enum dtype dtype) {
    for (size_t r = 0; r < padded_rows; r++) {
        float *row = out + r * out_stride;
        size_t filled = r < rows ? columns : 0;
        const void *source = row_at(x, r < rows ? r * x_stride : 0, dtype);
        for (size_t i = 0; i < filled; i += LANES) {
            row_store(row, i, filled, row_load(source, i, filled, dtype), DTYPE_F32);
        }
        memset(row + filled, 0, (padded_columns - filled) * sizeof(float));
    }
}

// ---- packing of keys and values ----

MICRO_INLINE void pack_keys_wide(float *panel, const void *keys, size_t stride, size_t count, size_t head_dim,
                                 enum dtype dtype) {
    if (count < TILE_COLUMNS) {
        memset(panel, 0, head_dim * TILE_COLUMNS * sizeof(float));
    }
    for (size_t j = 0; j < count; j++) { // keys lie far apart: each is read front to back
        for (size_t d = 0; d < head_dim; d++) {
            panel[d * TILE_COLUMNS + j] = number_at(keys, j * stride + d, dtype);
        }
    }
}

MICRO_INLINE void pack_values_wide(float *panel, const void *values, size_t stride, size_t count,
                                   size_t padded_count, size_t columns, enum dtype dtype) {
    for (size_t k = 0; k < padded_count; k++) {
        float *row = panel + k * TILE_COLUMNS;
        size_t filled = k < count ? columns : 0;
        const void *source = row_at(values, k < count ? k * stride : 0, dtype);
        for (size_t i = 0; i < filled; i += LANES) {
            row_store(row, i, filled, row_load(source, i, filled, dtype), DTYPE_F32);
        }
        memset(row + filled, 0, (TILE_COLUMNS - filled) * sizeof(float));
    }
}

// ---- peak ----

static inline double peak_f32(size_t rounds, float *sums) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, TILE_COLUMNS, true);
    lanes half = lanes_set(0.5f);
    lanes one = lanes_set(1.0f);
    for (size_t i = 0; i < rounds; i++) {
        __asm__ volatile("" ::: "memory"); // rounds are not merged
#pragma GCC unroll 8
        for (int r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                c[r][v] = lanes_fma(c[r][v], half, one);
            }
        }
    }
    tile_finish(sums, TILE_COLUMNS, c);
    return 2.0 * (double)rounds * TILE_ROWS * TILE_COLUMNS;
}

#endif
