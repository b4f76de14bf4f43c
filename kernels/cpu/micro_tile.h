// SPDX-License-Identifier: MIT
// Shared bodies of the matrix micro-kernels, compiled once a path: include lanes_*.h of the path first.
#ifndef STRATA_KERNELS_CPU_MICRO_TILE_H
#define STRATA_KERNELS_CPU_MICRO_TILE_H

#include "kernels/cpu/micro_kernels.h"
#include "kernels/cpu/micro_rows.h"

enum { TILE_COLUMNS = LANES * TILE_VECTORS };

_Static_assert(DEVICE_SLICE % TILE_ROWS == 0, "slices of a text begin with a tile");
_Static_assert((int)DEVICE_PART_STEP % (int)TILE_COLUMNS == 0, "expanded experts begin with a panel");

// What a tile asks the memory for while it multiplies: from `at` on, each step the next `bytes`. lines: that
// a step asks for, 0: none; it and near are constants where this is inlined. Requests go into the
// second-level cache, as the first has no room to wait for memory; near: into the first, where steps are so
// small that most ask for a line again, which then costs the second-level cache nothing.
struct tile_request {
    const unsigned char *at;
    size_t bytes;
    size_t lines;
    bool near;
};

MICRO_INLINE void tile_ask(struct tile_request *request) {
    enum { LINE = 64 };
#pragma GCC unroll 8
    for (size_t i = 0; i < request->lines; i++) {
        if (request->near) {
            __builtin_prefetch(request->at + i * LINE, 0, 3);
        } else {
            __builtin_prefetch(request->at + i * LINE, 0, 2);
        }
    }
    request->at += request->lines > 0 ? request->bytes : 0;
}

// Half as many bytes as a step reads: two tiles of rows that read one panel ask for all of the next between
// them.
MICRO_INLINE struct tile_request tile_request_half(const void *at, size_t step) {
    enum { LINE = 64 };
    return (struct tile_request){at, step / 2, (step / 2 + LINE - 1) / LINE, false};
}

// The loops over a tile are unrolled whole, so that its sums stay in registers; `rows` is a constant where
// these are inlined.
MICRO_INLINE void tile_start(lanes c[TILE_ROWS][TILE_VECTORS], const float *sums, size_t stride, int rows,
                             bool accumulate) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            c[r][v] = accumulate ? lanes_load(sums + (size_t)r * stride + v * LANES) : lanes_set(0);
        }
    }
}

MICRO_INLINE void tile_finish(float *sums, size_t stride, int rows, lanes c[TILE_ROWS][TILE_VECTORS]) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            lanes_store(sums + (size_t)r * stride + v * LANES, c[r][v]);
        }
    }
}

// Calls body(n) with n = rows as a constant, 1 to TILE_ROWS.
#define TILE_DISPATCH(rows, body)                                                                            \
    switch (rows) {                                                                                          \
    case 1:                                                                                                  \
        body(1);                                                                                             \
        break;                                                                                               \
    case 2:                                                                                                  \
        body(2);                                                                                             \
        break;                                                                                               \
    case 3:                                                                                                  \
        body(3);                                                                                             \
        break;                                                                                               \
    case 4:                                                                                                  \
        body(TILE_ROWS < 4 ? TILE_ROWS : 4);                                                                 \
        break;                                                                                               \
    case 5:                                                                                                  \
        body(TILE_ROWS < 5 ? TILE_ROWS : 5);                                                                 \
        break;                                                                                               \
    default:                                                                                                 \
        body(TILE_ROWS);                                                                                     \
    }

MICRO_INLINE void tile_rows_f32(float *sums, size_t sums_stride, const float *a, size_t a_stride,
                                const float *b, int rows, size_t depth, bool accumulate,
                                struct tile_request request) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, sums_stride, rows, accumulate);
    for (size_t k = 0; k < depth; k++, b += TILE_COLUMNS) {
        tile_ask(&request);
        lanes row[TILE_VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < TILE_VECTORS; v++) {
            row[v] = lanes_load(b + v * LANES);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            lanes x = lanes_set(a[(size_t)r * a_stride + k]);
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                c[r][v] = lanes_fma(x, row[v], c[r][v]);
            }
        }
    }
    tile_finish(sums, sums_stride, rows, c);
}

static inline void tile_f32(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                            const void *panel, size_t rows, size_t depth, bool accumulate) {
    const struct tile_request request = {0};
#define BODY(n) tile_rows_f32(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

static inline void tile_asking_f32(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                                   const void *panel, size_t rows, size_t depth, bool accumulate,
                                   const void *next, size_t step) {
    const struct tile_request request = {next, step, 1, true};
#define BODY(n) tile_rows_f32(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

static inline void stream_f32(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                              const void *panel, size_t rows, size_t depth, bool accumulate,
                              const void *next) {
    const struct tile_request request = tile_request_half(next, TILE_COLUMNS * sizeof(float));
#define BODY(n) tile_rows_f32(sums, sums_stride, a, a_stride, panel, n, depth, accumulate, request)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

// ---- panels of halves, float32 operands ----

// Of the two depths that a step reads, the v-th vector of depth i.
MICRO_INLINE lanes widened(const uint16_t *step, size_t i, int v, enum dtype dtype) {
    if (dtype == DTYPE_F16) {
        return lanes_load_f16(step + i * TILE_COLUMNS + (size_t)v * LANES);
    }
    lanes depths[2];
    lanes_split(lanes_load(step + 2 * v * LANES), &depths[0], &depths[1]);
    return depths[i];
}

// Widens the panel between loading and multiplying, and leaves it in `wide` if that is not NULL.
MICRO_INLINE void tile_rows_widening(float *sums, size_t sums_stride, const float *a, size_t a_stride,
                                     const uint16_t *b, float *wide, int rows, size_t depth, bool accumulate,
                                     struct tile_request request, enum dtype dtype) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, sums_stride, rows, accumulate);
    for (size_t k = 0; k < depth; k += 2, b += 2 * TILE_COLUMNS) {
        tile_ask(&request);
#pragma GCC unroll 2
        for (size_t i = 0; i < 2; i++) {
            lanes row[TILE_VECTORS]; // bfloat16 is split anew for each depth, where registers are few
#pragma GCC unroll 8
            for (int v = 0; v < TILE_VECTORS; v++) {
                row[v] = widened(b, i, v, dtype);
                if (wide != NULL) {
                    lanes_store(wide + (k + i) * TILE_COLUMNS + v * LANES, row[v]);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                lanes x = lanes_set(a[(size_t)r * a_stride + k + i]);
#pragma GCC unroll 8
                for (int v = 0; v < TILE_VECTORS; v++) {
                    c[r][v] = lanes_fma(x, row[v], c[r][v]);
                }
            }
        }
    }
    tile_finish(sums, sums_stride, rows, c);
}

// For few rows, where a widened copy would not be read often enough to pay.
MICRO_INLINE void stream_widening(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                                  const void *panel, size_t rows, size_t depth, bool accumulate,
                                  const void *next, enum dtype dtype) {
    const struct tile_request request = tile_request_half(next, 2 * TILE_COLUMNS * sizeof(uint16_t));
#define BODY(n)                                                                                              \
    tile_rows_widening(sums, sums_stride, a, a_stride, panel, NULL, n, depth, accumulate, request, dtype)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

// Multiply-adds go on while the panel comes from memory: a loop of its own that widened it took 5 % of a
// product, this takes 2 % (Xeon, Emerald Rapids).
MICRO_INLINE void tile_widening(float *sums, size_t sums_stride, const void *a, size_t a_stride,
                                const uint16_t *panel, float *wide, size_t rows, size_t depth,
                                bool accumulate, enum dtype dtype) {
    const struct tile_request request = {0};
#define BODY(n)                                                                                              \
    tile_rows_widening(sums, sums_stride, a, a_stride, panel, wide, n, depth, accumulate, request, dtype)
    TILE_DISPATCH(rows, BODY)
#undef BODY
}

// ---- turning rows into columns ----

enum {
    UNIT = 4, // bytes: a float32 number, or two halves of a row
    HALF = 2,
};

// LANES rows of LANES units, turned.
MICRO_INLINE void turn_load(lanes block[LANES], const unsigned char *in, size_t in_stride) {
    enum { AHEAD = 512 }; // bytes asked for ahead: so many rows at a time are no stream to processors
#pragma GCC unroll 16
    for (size_t i = 0; i < LANES; i++) {
        __builtin_prefetch(in + i * in_stride + AHEAD);
        block[i] = lanes_load(in + i * in_stride);
    }
    lanes_transpose(block);
}

MICRO_INLINE void turn_store(unsigned char *out, lanes numbers, bool past) {
    if (past) {
        lanes_stream(out, numbers);
    } else {
        lanes_store(out, numbers);
    }
}

// Whole blocks of LANES x LANES units: out[u][r] = in[r][u]. past: stores go past the caches.
MICRO_INLINE void turn_blocks(unsigned char *out, size_t out_stride, const unsigned char *in,
                              size_t in_stride, size_t rows, size_t units, bool past) {
    for (size_t u = 0; u < units; u += LANES) {
        for (size_t r = 0; r < rows; r += LANES) {
            lanes block[LANES];
            turn_load(block, in + r * in_stride + u * UNIT, in_stride);
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++) {
                turn_store(out + ((u + i) * out_stride + r) * UNIT, block[i], past);
            }
        }
    }
}

// The same of halves, in whole blocks of twice as many of either: pairs of a row are turned, then taken
// apart.
MICRO_INLINE void turn_half_blocks(unsigned char *out, size_t out_stride, const unsigned char *in,
                                   size_t in_stride, size_t rows, size_t halves, bool past) {
    for (size_t u = 0; u < halves; u += 2 * LANES) {
        for (size_t r = 0; r < rows; r += 2 * LANES) {
            lanes left[LANES];
            lanes right[LANES];
            turn_load(left, in + r * in_stride + u * HALF, in_stride);
            turn_load(right, in + (r + LANES) * in_stride + u * HALF, in_stride);
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++) {
                unsigned char *to = out + ((u + 2 * i) * out_stride + r) * HALF;
                lanes first;
                lanes second;
                lanes_unzip(left[i], right[i], &first, &second);
                turn_store(to, first, past);
                turn_store(to + out_stride * HALF, second, past);
            }
        }
    }
}

// What whole blocks of `edge` units of `size` bytes left over.
MICRO_INLINE void turn_rest(unsigned char *out, size_t out_stride, const unsigned char *in, size_t in_stride,
                            size_t rows, size_t units, size_t edge, size_t size) {
    for (size_t r = 0; r < rows; r++) {
        for (size_t u = r < rows / edge * edge ? units / edge * edge : 0; u < units; u++) {
            memcpy(out + (u * out_stride + r) * size, in + r * in_stride + u * size, size);
        }
    }
}

// out[u][r] = in[r][u] for u < units and r < rows, in units, which of float16 are halves; out_stride in
// units, in_stride in bytes.
MICRO_INLINE void turn_numbers(void *out, size_t out_stride, const void *in, size_t in_stride, size_t rows,
                               size_t units, enum dtype dtype) {
    size_t size = dtype == DTYPE_F16 ? HALF : UNIT;
    size_t edge = sizeof(lanes) / size;
    size_t whole = units / edge * edge;
    size_t whole_rows = rows / edge * edge;
    bool past = (uintptr_t)out % sizeof(lanes) == 0 && out_stride % edge == 0;
    if (dtype == DTYPE_F16 && past) {
        turn_half_blocks(out, out_stride, in, in_stride, whole_rows, whole, true);
    } else if (dtype == DTYPE_F16) {
        turn_half_blocks(out, out_stride, in, in_stride, whole_rows, whole, false);
    } else if (past) {
        turn_blocks(out, out_stride, in, in_stride, whole_rows, whole, true);
    } else {
        turn_blocks(out, out_stride, in, in_stride, whole_rows, whole, false);
    }
    if (past) {
        lanes_stream_end();
    }
    turn_rest(out, out_stride, in, in_stride, rows, units, edge, size);
}

// ---- packing of the left side ----

// number -> float32 operand.
MICRO_INLINE void pack_rows_wide(float *out, size_t out_stride, const void *x, size_t x_stride, size_t rows,
                                 size_t columns, size_t padded_columns, enum dtype dtype) {
    for (size_t r = 0; r < rows; r++) {
        float *row = out + r * out_stride;
        const void *source = row_at(x, r * x_stride, dtype);
        for (size_t i = 0; i < columns; i += LANES) {
            row_store(row, i, columns, row_load(source, i, columns, dtype), DTYPE_F32);
        }
        memset(row + columns, 0, (padded_columns - columns) * sizeof(float));
    }
}

// ---- packing of keys and values ----

// Keys of units (float32 numbers, or pairs of halves) into a panel of the same units.
static inline void pack_keys_units(void *panel, const void *keys, size_t stride, size_t count, size_t units) {
    if (count < TILE_COLUMNS) {
        memset(panel, 0, units * TILE_COLUMNS * UNIT);
    }
    turn_blocks(panel, TILE_COLUMNS, keys, stride, count / LANES * LANES, units / LANES * LANES, false);
    turn_rest(panel, TILE_COLUMNS, keys, stride, count, units, LANES, UNIT);
}

// Two vectors of pairs: the first numbers of all of them to `first`, the second ones to `second`.
MICRO_INLINE void widen_pairs(float *first, float *second, const float *pairs, enum dtype dtype) {
    lanes in[2] = {lanes_load(pairs), lanes_load(pairs + LANES)};
    if (dtype == DTYPE_F16) {
        uint16_t halves[2][2 * LANES];
        lanes apart[2];
        lanes_unzip(in[0], in[1], &apart[0], &apart[1]);
        lanes_store(halves[0], apart[0]);
        lanes_store(halves[1], apart[1]);
        for (size_t i = 0; i < 2; i++) {
            lanes_store(first + i * LANES, lanes_load_f16(halves[0] + i * LANES));
            lanes_store(second + i * LANES, lanes_load_f16(halves[1] + i * LANES));
        }
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        lanes apart[2];
        lanes_split(in[i], &apart[0], &apart[1]);
        lanes_store(first + i * LANES, apart[0]);
        lanes_store(second + i * LANES, apart[1]);
    }
}

MICRO_INLINE void pack_keys_wide(float *panel, const void *keys, size_t stride, size_t count, size_t head_dim,
                                 enum dtype dtype) {
    if (dtype == DTYPE_F32) {
        pack_keys_units(panel, keys, stride * sizeof(float), count, head_dim);
        return;
    }
    // Pairs into the panel's first half, then widened from the last pair down: pair u becomes depths 2u, 2u
    // + 1.
    pack_keys_units(panel, keys, stride * sizeof(uint16_t), count, head_dim / 2);
    for (size_t u = head_dim / 2; u-- > 0;) {
        for (size_t c = TILE_COLUMNS; c > 0; c -= 2 * LANES) {
            size_t at = c - 2 * LANES;
            widen_pairs(panel + 2 * u * TILE_COLUMNS + at, panel + (2 * u + 1) * TILE_COLUMNS + at,
                        panel + u * TILE_COLUMNS + at, dtype);
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

// ---- limits ----

// Reads whole vectors from front to back and does next to nothing with them.
static inline float read_all(const void *data, size_t bytes) {
    const unsigned char *in = data;
    lanes greatest[4] = {lanes_set(0), lanes_set(0), lanes_set(0), lanes_set(0)};
    for (size_t i = 0; i + sizeof greatest <= bytes; i += sizeof greatest) {
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++) {
            greatest[v] = lanes_max(lanes_load(in + i + v * sizeof(lanes)), greatest[v]);
        }
    }
    return lanes_greatest(
        lanes_max(lanes_max(greatest[0], greatest[1]), lanes_max(greatest[2], greatest[3])));
}

static inline double peak_f32(size_t rounds, float *sums) {
    lanes c[TILE_ROWS][TILE_VECTORS];
    tile_start(c, sums, TILE_COLUMNS, TILE_ROWS, true);
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
    tile_finish(sums, TILE_COLUMNS, TILE_ROWS, c);
    return 2.0 * (double)rounds * TILE_ROWS * TILE_COLUMNS;
}

#endif
