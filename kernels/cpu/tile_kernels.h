// SPDX-License-Identifier: MIT
// What tile_matmul.c needs from a path whose matmuls run on tiles (tiles.h); built once a path from
// micro_tiles.h.
//
// Depth is cut into steps of TILE_DEPTH = 32, the last one filled up with zeros. A panel is 32 output
// features (columns of the right side): [step][2 halves of 16 columns][16 pairs of depths][16 columns][2], 2
// KB a step, so that weights are read front to back. A packed group is up to 32 rows of the left side:
// [step][halves][16 rows][32 depths], with one half when it has at most 16 rows.
#ifndef STRATA_KERNELS_CPU_TILE_KERNELS_H
#define STRATA_KERNELS_CPU_TILE_KERNELS_H

#include "kernels/device.h"
#include "kernels/shapes.h"

enum {
    GROUP_ROWS = 32,
    PANEL_COLUMNS = 32,
    STEP_DEPTH = 32,
    PANEL_STEP = PANEL_COLUMNS * STEP_DEPTH, // numbers of a panel's step
};

struct tile_rows { // up to 32 rows of a left side, [rows][32 * steps] bfloat16; bytes
    const void *data;
    size_t row;  // from row r to r + 1, within a half
    size_t half; // from row r to r + 16
    size_t step; // from depth k to k + 32
    bool two;    // halves: rows 16 to 31 are there
};

struct tile_ahead { // cache lines to ask for while multiplying, for the second-level cache
    const void *data;
    size_t lines; // for each step
};

struct tile_kernels {
    // sums[r][c] (+)= sum of rows[r][k] * panel[k][c], c < 32, r < 16 or 32, k ascending over `steps` steps;
    // sums: row stride sums_stride. With accumulate, one call over all steps and several over consecutive
    // parts of them give the same bits.
    void (*multiply)(float *sums, size_t sums_stride, const struct tile_rows *rows, const void *panel,
                     size_t steps, bool accumulate, struct tile_ahead ahead);

    // Numbers x [rows, columns] (row stride x_stride), rows <= 32, to a packed group of `steps` steps.
    void (*pack_group)(void *group, const void *x, size_t x_stride, size_t rows, size_t columns,
                       size_t steps);

    // Numbers [16 columns of the right side][32 * steps] (row stride `stride`) to one half of `steps` steps
    // of a panel, past the caches; half is aligned to 64 bytes.
    void (*turn)(void *half, const void *numbers, size_t stride, size_t steps);

    // out[r][c] = sums[r][c] + bias[c], or out[r][c] + that, rounded as device_matmul says; sums [rows][32],
    // columns <= 32.
    void (*store)(void *out, size_t out_stride, const float *sums, const void *bias, size_t rows,
                  size_t columns, enum device_store store);
};

#endif
