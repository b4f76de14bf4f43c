// SPDX-License-Identifier: MIT
// Packed weights to numbers of the computation dtype, in vectors: include lanes_*.h of the path first. The
// bits are those of weight_decode.h, whose formulas stand here once more over lanes: each step rounded to
// float32, nothing fused. It is UNIT numbers that go through vectors, from a multiple of UNIT on; ends, and
// formats whose groups do not consist of such units, are weight_read's.
#ifndef STRATA_KERNELS_CPU_MICRO_EXPAND_H
#define STRATA_KERNELS_CPU_MICRO_EXPAND_H

#include "base/size.h"
#include "kernels/cpu/micro_rows.h"
#include "kernels/weight_decode.h"

enum { EXPAND_UNIT = 32 };
_Static_assert(EXPAND_UNIT % LANES == 0 && LANES <= 16, "16 numbers that share a scale are whole vectors");

#define EXPAND_UNROLL _Pragma("GCC unroll 4")

// ---- numbers ----

MICRO_INLINE lanes_ints expand_set(uint32_t word) {
    return (lanes_ints){0} + word;
}

MICRO_INLINE lanes_ints expand_order(void) { // 0, 1, 2, ...
    lanes_ints order;
    EXPAND_UNROLL
    for (int i = 0; i < LANES; i++) {
        order[i] = (uint32_t)i;
    }
    return order;
}

MICRO_INLINE lanes expand_rounded_bf16(lanes value) {
    lanes_ints bits = (lanes_ints)value;
    lanes_ints rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    return lanes_below(bits & 0x7fffffffu, 0x7f800000u, (lanes)rounded, value);
}

MICRO_INLINE void expand_store(void *out, size_t i, lanes value, enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        lanes_store_f16((uint16_t *)out + i, value);
        break;
    case DTYPE_BF16:
        lanes_store_bf16_exact((uint16_t *)out + i, value);
        break;
    default:
        lanes_store((float *)out + i, value);
    }
}

MICRO_INLINE void expand_store_rounded(void *out, size_t i, lanes value, enum dtype dtype,
                                       enum dtype rounding) {
    if (rounding == DTYPE_F16 && dtype != DTYPE_F16) { // else storing rounds
        value = lanes_round_f16(value);
    } else if (rounding == DTYPE_BF16 && dtype != DTYPE_BF16) {
        value = expand_rounded_bf16(value);
    }
    expand_store(out, i, value, dtype);
}

// As decode_e2m1_twice and decode_iq4.
static const float expand_e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const float expand_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

// ---- groups and lookups ----

enum {
    EXPAND_GROUPS_MOST = 512, // of columns in any order: two tables of them leave a cache its room
    // As many as two registers of 16 lanes hold; to look them up in more of 8 lanes is slower than to gather.
    EXPAND_GROUPS_FEW = LANES == 16 ? 32 : 0,
};

MICRO_INLINE size_t expand_group_count(const struct weight_view *view) {
    size_t each = view->format.groups.columns;
    return each == 0 ? 1 : (view->columns - 1) / each + 1;
}

MICRO_INLINE bool expand_has_groups(const struct weight_view *view) {
    const struct weight_groups *groups = &view->format.groups;
    return groups->has_indices ? expand_group_count(view) <= EXPAND_GROUPS_MOST
                               : groups->columns % EXPAND_UNIT == 0;
}

MICRO_INLINE lanes expand_code(const unsigned char *codes, size_t i, enum weight_code type,
                               struct lanes_table table) {
    switch (type) {
    case CODE_U4:
        return lanes_floats(lanes_nibbles(codes + i / 2, false));
    case CODE_U8:
        return lanes_floats(lanes_bytes(codes + i));
    case CODE_I8:
        return lanes_floats(lanes_signed_bytes(codes + i));
    case CODE_E4M3:
        return lanes_load_e4m3(codes + i);
    case CODE_E2M1:
        break;
    }
    return lanes_mul(lanes_lookup(table, lanes_nibbles(codes + i / 2, false)), lanes_set(0.5f));
}

// Numbers of one group.
MICRO_INLINE void expand_group(void *out, size_t at, size_t end, const unsigned char *codes,
                               struct decode_group group, const struct weight_format *format,
                               enum dtype dtype, enum weight_code type) {
    lanes scale = lanes_set(group.scale);
    lanes zero = lanes_set(-group.zero);
    lanes factor = lanes_set(format->groups.factor);
    enum dtype rounding = format->rounding;
    struct lanes_table table = lanes_table_load(expand_e2m1_twice);
    for (; at < end; at += LANES) {
        lanes code = expand_code(codes, at, type, table);
        code = type == CODE_E4M3 ? code : lanes_add(code, zero);
        expand_store_rounded(out, at, lanes_mul(lanes_mul(code, scale), factor), dtype, rounding);
    }
}

// What the groups of a row multiply by and subtract (negative): vectors of them where the scales lie as
// numbers.
MICRO_INLINE void expand_group_tables(float *scales, float *zeros, const struct weight_view *view, size_t row,
                                      enum weight_code type) {
    const struct weight_groups *g = &view->format.groups;
    size_t scale_row = g->rows == 0 ? 0 : g->rows == 1 ? row : row / g->rows;
    const unsigned char *in = view->parts[PART_SCALES] + scale_row * view->row_bytes[PART_SCALES];
    const unsigned char *codes = view->parts[PART_ZEROS] + row * view->row_bytes[PART_ZEROS];
    struct lanes_table table = lanes_table_load(expand_e2m1_twice);
    size_t count = expand_group_count(view);
    size_t i = 0;
    for (; g->scale != SCALE_E8M0 && i + LANES <= count; i += LANES) {
        lanes zero = g->has_zeros ? expand_code(codes, i, type, table) : lanes_set((float)g->zero);
        lanes_store(scales + i, g->scale == SCALE_F32    ? lanes_load(in + 4 * i)
                                : g->scale == SCALE_BF16 ? lanes_load_bf16(in + 2 * i)
                                                         : lanes_load_f16(in + 2 * i));
        lanes_store(zeros + i, (lanes)((lanes_ints)zero ^ 0x80000000u));
    }
    for (; i < count; i++) {
        struct decode_group group = decode_group_at(view, row, i);
        scales[i] = group.scale;
        zeros[i] = -group.zero;
    }
}

// Of each column what its group has.
MICRO_INLINE lanes expand_of_groups(const float *numbers, lanes_ints groups, bool few) {
    if (!few) {
        return lanes_gather(numbers, groups);
    }
    lanes low = lanes_lookup(lanes_table_load(numbers), groups);
    lanes high = lanes_lookup(lanes_table_load(numbers + 16), groups);
    return lanes_below(groups, 16, low, high);
}

MICRO_INLINE void expand_columns(void *out, const struct weight_view *view, size_t row, size_t column,
                                 size_t count, enum dtype dtype, enum weight_code type, const float *scales,
                                 const float *zeros, bool few) {
    bool halves = type == CODE_U4 || type == CODE_E2M1;
    const unsigned char *indices = view->parts[PART_INDICES] + 2 * column;
    const unsigned char *codes = view->parts[PART_CODES] + row * view->row_bytes[PART_CODES];
    struct lanes_table table = lanes_table_load(expand_e2m1_twice);
    lanes factor = lanes_set(view->format.groups.factor);
    codes += halves ? column / 2 : column;
    for (size_t at = 0; at < count; at += LANES) {
        lanes_ints groups = lanes_halves(indices + 2 * at);
        lanes code = lanes_add(expand_code(codes, at, type, table), expand_of_groups(zeros, groups, few));
        lanes value = lanes_mul(lanes_mul(code, expand_of_groups(scales, groups, few)), factor);
        expand_store_rounded(out, at, value, dtype, view->format.rounding);
    }
}

// Columns in any order.
MICRO_INLINE void expand_indexed(void *out, const struct weight_view *view, size_t row, size_t column,
                                 size_t count, enum dtype dtype, enum weight_code type) {
    float scales[EXPAND_GROUPS_MOST];
    float zeros[EXPAND_GROUPS_MOST];
    memset(scales, 0, EXPAND_GROUPS_FEW * sizeof *scales);
    memset(zeros, 0, EXPAND_GROUPS_FEW * sizeof *zeros);
    expand_group_tables(scales, zeros, view, row, type);
    if (expand_group_count(view) <= EXPAND_GROUPS_FEW) {
        expand_columns(out, view, row, column, count, dtype, type, scales, zeros, true);
    } else {
        expand_columns(out, view, row, column, count, dtype, type, scales, zeros, false);
    }
}

MICRO_INLINE void expand_groups(void *out, const struct weight_view *view, size_t row, size_t column,
                                size_t count, enum dtype dtype, enum weight_code type) {
    if (view->format.groups.has_indices) {
        expand_indexed(out, view, row, column, count, dtype, type);
        return;
    }
    size_t each = view->format.groups.columns;
    bool halves = type == CODE_U4 || type == CODE_E2M1;
    const unsigned char *codes = view->parts[PART_CODES] + row * view->row_bytes[PART_CODES];
    codes += halves ? column / 2 : column;
    size_t end;
    for (size_t at = 0; at < count; at = end) {
        size_t number = decode_group_of(view, column + at);
        struct decode_group group = decode_group_at(view, row, number);
        end = each == 0 ? count : size_min(count, (number + 1) * each - column);
        expand_group(out, at, end, codes, group, &view->format, dtype, type);
    }
}

MICRO_INLINE void expand_grouped(void *out, const struct weight_view *view, size_t row, size_t column,
                                 size_t count, enum dtype dtype) {
    switch (view->format.groups.code) {
    case CODE_U4:
        expand_groups(out, view, row, column, count, dtype, CODE_U4);
        break;
    case CODE_U8:
        expand_groups(out, view, row, column, count, dtype, CODE_U8);
        break;
    case CODE_I8:
        expand_groups(out, view, row, column, count, dtype, CODE_I8);
        break;
    case CODE_E4M3:
        expand_groups(out, view, row, column, count, dtype, CODE_E4M3);
        break;
    case CODE_E2M1:
        expand_groups(out, view, row, column, count, dtype, CODE_E2M1);
        break;
    }
}

MICRO_INLINE bool expand_has_runs(const struct weight_view *view) {
    return view->columns % EXPAND_UNIT == 0 && view->format.lookups.run >= EXPAND_UNIT;
}

MICRO_INLINE void expand_lookups(void *out, const struct weight_view *view, size_t row, size_t column,
                                 size_t count, enum dtype dtype, bool low_first) {
    struct lanes_table table = lanes_table_load(view->parts[PART_TABLE]);
    enum dtype rounding = view->format.rounding;
    unsigned run = decode_log2(view->format.lookups.run);
    size_t first = row * view->columns + column;
    const unsigned char *codes = view->parts[PART_CODES] + first / 2;
    for (size_t at = 0; at < count; at += EXPAND_UNIT) {
        lanes scale = lanes_set(decode_lookup_scale(view, (first + at) >> run));
        EXPAND_UNROLL
        for (size_t i = at; i < at + EXPAND_UNIT; i += LANES) {
            lanes number = lanes_lookup(table, lanes_nibbles(codes + i / 2, !low_first));
            expand_store_rounded(out, i, lanes_mul(number, scale), dtype, rounding);
        }
    }
}

// ---- ggml: blocks of 32 ----

MICRO_INLINE lanes_ints expand_halves(const unsigned char *codes, size_t in) { // decode_half
    return lanes_bytes(codes + in % 16) >> (in < 16 ? 0u : 4u) & 15u;
}

MICRO_INLINE lanes_ints expand_fifth(uint32_t high, size_t in) { // bits of a word, as the fifth of codes
    return (expand_set(high >> in) >> expand_order() & 1u) << 4;
}

MICRO_INLINE lanes expand_in_block(const unsigned char *block, size_t in, lanes d, lanes minimum,
                                   struct lanes_table table, enum weight_kind kind) {
    switch (kind) {
    case WEIGHT_Q4_0:
        return lanes_mul(d, lanes_floats(expand_halves(block + 2, in) - 8u));
    case WEIGHT_Q4_1:
        return lanes_add(lanes_mul(d, lanes_floats(expand_halves(block + 4, in))), minimum);
    case WEIGHT_Q5_0: {
        lanes_ints code = expand_halves(block + 6, in) | expand_fifth(decode_u32(block + 2), in);
        return lanes_mul(d, lanes_floats(code - 16u));
    }
    case WEIGHT_Q5_1: {
        lanes_ints code = expand_halves(block + 8, in) | expand_fifth(decode_u32(block + 4), in);
        return lanes_add(lanes_mul(d, lanes_floats(code)), minimum);
    }
    case WEIGHT_Q8_0:
        return lanes_mul(d, lanes_floats(lanes_signed_bytes(block + 2 + in)));
    case WEIGHT_IQ4_NL:
        return lanes_mul(d, lanes_lookup(table, expand_halves(block + 2, in)));
    default: // WEIGHT_MXFP4
        return lanes_mul(d, lanes_lookup(table, expand_halves(block + 1, in)));
    }
}

MICRO_INLINE void expand_blocks_32(void *out, const struct weight_view *view, size_t row, size_t column,
                                   size_t count, enum dtype dtype, enum weight_kind kind) {
    size_t bytes = view->format.bytes;
    const unsigned char *block = view->parts[0] + row * view->row_bytes[0] + column / 32 * bytes;
    bool has_minimum = kind == WEIGHT_Q4_1 || kind == WEIGHT_Q5_1;
    struct lanes_table table = lanes_table_load(kind == WEIGHT_IQ4_NL ? expand_iq4 : expand_e2m1_twice);
    for (size_t at = 0; at < count; at += 32, block += bytes) {
        lanes d =
            lanes_set(kind == WEIGHT_MXFP4 ? decode_mxfp4_scale(block[0]) : decode_f16(decode_u16(block)));
        lanes minimum = lanes_set(has_minimum ? decode_f16(decode_u16(block + 2)) : 0);
        EXPAND_UNROLL
        for (size_t in = 0; in < 32; in += LANES) {
            expand_store(out, at + in, expand_in_block(block, in, d, minimum, table, kind), dtype);
        }
    }
}

// ---- ggml: 32 numbers of a block of 256, from number `in` on ----

MICRO_INLINE void expand_q2_k(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                              size_t in, enum dtype dtype) {
    EXPAND_UNROLL
    for (size_t i = 0; i < EXPAND_UNIT; i += LANES) {
        struct decode_scales scales = decode_q2_k_scales(of, block, in + i);
        lanes_ints code = lanes_bytes(block + 16 + in / 128 * 32 + i) >> (uint32_t)(in % 128 / 32 * 2) & 3u;
        lanes product = lanes_mul(lanes_set(scales.scale), lanes_floats(code));
        expand_store(out, at + i, lanes_add(product, lanes_set(-scales.minimum)), dtype);
    }
}

MICRO_INLINE void expand_q3_k(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                              size_t in, enum dtype dtype) {
    EXPAND_UNROLL
    for (size_t i = 0; i < EXPAND_UNIT; i += LANES) {
        lanes_ints code = lanes_bytes(block + 32 + in / 128 * 32 + i) >> (uint32_t)(in % 128 / 32 * 2) & 3u;
        lanes_ints high = lanes_bytes(block + i) >> (uint32_t)(in / 32) & 1u;
        lanes whole = lanes_floats(code + (high << 2) - 4u);
        expand_store(out, at + i, lanes_mul(lanes_set(decode_q3_k_scale(of, block, in + i)), whole), dtype);
    }
}

MICRO_INLINE void expand_q45_k(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                               size_t in, enum dtype dtype, bool five) {
    size_t sub = in / 32;
    struct decode_scales scales = decode_q45_k_scales(of, block, sub);
    lanes scale = lanes_set(scales.scale);
    lanes minimum = lanes_set(-scales.minimum);
    const unsigned char *codes = block + (five ? 48 : 16) + in / 64 * 32;
    EXPAND_UNROLL
    for (size_t i = 0; i < EXPAND_UNIT; i += LANES) {
        lanes_ints code = lanes_bytes(codes + i) >> (uint32_t)(sub % 2 * 4) & 15u;
        if (five) {
            code |= (lanes_bytes(block + 16 + i) >> (uint32_t)sub & 1u) << 4;
        }
        expand_store(out, at + i, lanes_add(lanes_mul(scale, lanes_floats(code)), minimum), dtype);
    }
}

MICRO_INLINE void expand_q6_k(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                              size_t in, enum dtype dtype) {
    const unsigned char *low = block + in / 128 * 64 + in % 64;
    const unsigned char *high = block + 128 + in / 128 * 32;
    EXPAND_UNROLL
    for (size_t i = 0; i < EXPAND_UNIT; i += LANES) {
        lanes_ints code = lanes_bytes(low + i) >> (uint32_t)(in % 128 / 64 * 4) & 15u;
        code |= (lanes_bytes(high + i) >> (uint32_t)(in % 128 / 32 * 2) & 3u) << 4;
        lanes scale = lanes_set(decode_q6_k_scale(of, block, in + i));
        expand_store(out, at + i, lanes_mul(scale, lanes_floats(code - 32u)), dtype);
    }
}

MICRO_INLINE void expand_iq4_xs(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                                size_t in, enum dtype dtype) {
    size_t sub = in / 32;
    lanes scale = lanes_set(decode_iq4_xs_scale(of, block, sub));
    struct lanes_table table = lanes_table_load(expand_iq4);
    EXPAND_UNROLL
    for (size_t i = 0; i < EXPAND_UNIT; i += LANES) {
        lanes number = lanes_lookup(table, expand_halves(block + 8 + 16 * sub, i));
        expand_store(out, at + i, lanes_mul(scale, number), dtype);
    }
}

MICRO_INLINE void expand_in_256(void *out, size_t at, struct decode_scales of, const unsigned char *block,
                                size_t in, enum dtype dtype, enum weight_kind kind) {
    switch (kind) {
    case WEIGHT_Q2_K:
        expand_q2_k(out, at, of, block, in, dtype);
        break;
    case WEIGHT_Q3_K:
        expand_q3_k(out, at, of, block, in, dtype);
        break;
    case WEIGHT_Q4_K:
        expand_q45_k(out, at, of, block, in, dtype, false);
        break;
    case WEIGHT_Q5_K:
        expand_q45_k(out, at, of, block, in, dtype, true);
        break;
    case WEIGHT_Q6_K:
        expand_q6_k(out, at, of, block, in, dtype);
        break;
    default: // WEIGHT_IQ4_XS
        expand_iq4_xs(out, at, of, block, in, dtype);
        break;
    }
}

MICRO_INLINE void expand_blocks_256(void *out, const struct weight_view *view, size_t row, size_t column,
                                    size_t count, enum dtype dtype, enum weight_kind kind) {
    const unsigned char *block =
        view->parts[0] + row * view->row_bytes[0] + column / 256 * view->format.bytes;
    size_t in = column % 256;
    for (size_t at = 0; at < count; block += view->format.bytes, in = 0) {
        struct decode_scales of = decode_block_scales(block, kind);
        for (; in < 256 && at < count; in += EXPAND_UNIT, at += EXPAND_UNIT) {
            expand_in_256(out, at, of, block, in, dtype, kind);
        }
    }
}

// ---- any ----

MICRO_INLINE void expand_plain(void *out, const struct weight_view *view, size_t row, size_t column,
                               size_t count, enum dtype dtype, enum dtype from) {
    const void *numbers = row_at(view->parts[0] + row * view->row_bytes[0], column, from);
    for (size_t at = 0; at < count; at += LANES) {
        expand_store(out, at, full_load(row_at(numbers, at, from), from), dtype);
    }
}

MICRO_INLINE bool expand_has(const struct weight_view *view, enum dtype dtype) {
    switch (view->format.kind) {
    case WEIGHT_PLAIN:
        return view->format.dtype != dtype; // which is copied
    case WEIGHT_GROUPED:
        return expand_has_groups(view);
    case WEIGHT_LOOKUP:
        return expand_has_runs(view);
    default:
        return true;
    }
}

#define EXPAND_BLOCKS(kind, size)                                                                            \
    case kind:                                                                                               \
        expand_blocks_##size(out, view, row, column, whole, dtype, kind);                                    \
        break;

MICRO_INLINE void expand_numbers(void *out, const struct weight_view *view, size_t row, size_t column,
                                 size_t count, enum dtype dtype) {
    size_t whole =
        column % EXPAND_UNIT == 0 && expand_has(view, dtype) ? count / EXPAND_UNIT * EXPAND_UNIT : 0;
    if (whole < count) {
        weight_read(row_at_out(out, whole, dtype), dtype, view, row, column + whole, count - whole);
    }
    if (whole == 0) {
        return;
    }
    switch (view->format.kind) {
    case WEIGHT_PLAIN:
        if (view->format.dtype == DTYPE_F16) {
            expand_plain(out, view, row, column, whole, dtype, DTYPE_F16);
        } else if (view->format.dtype == DTYPE_BF16) {
            expand_plain(out, view, row, column, whole, dtype, DTYPE_BF16);
        } else {
            expand_plain(out, view, row, column, whole, dtype, DTYPE_F32);
        }
        break;
    case WEIGHT_GROUPED:
        expand_grouped(out, view, row, column, whole, dtype);
        break;
    case WEIGHT_LOOKUP:
        if (view->format.lookups.low_first) {
            expand_lookups(out, view, row, column, whole, dtype, true);
        } else {
            expand_lookups(out, view, row, column, whole, dtype, false);
        }
        break;
        EXPAND_BLOCKS(WEIGHT_Q4_0, 32)
        EXPAND_BLOCKS(WEIGHT_Q4_1, 32)
        EXPAND_BLOCKS(WEIGHT_Q5_0, 32)
        EXPAND_BLOCKS(WEIGHT_Q5_1, 32)
        EXPAND_BLOCKS(WEIGHT_Q8_0, 32)
        EXPAND_BLOCKS(WEIGHT_IQ4_NL, 32)
        EXPAND_BLOCKS(WEIGHT_MXFP4, 32)
        EXPAND_BLOCKS(WEIGHT_Q2_K, 256)
        EXPAND_BLOCKS(WEIGHT_Q3_K, 256)
        EXPAND_BLOCKS(WEIGHT_Q4_K, 256)
        EXPAND_BLOCKS(WEIGHT_Q5_K, 256)
        EXPAND_BLOCKS(WEIGHT_Q6_K, 256)
        EXPAND_BLOCKS(WEIGHT_IQ4_XS, 256)
    }
}

#endif
