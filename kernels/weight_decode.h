// SPDX-License-Identifier: MIT
// What a stored number stands for: one function a kind of format, for the host's compilers and nvcc alike, so
// that every device has the same bits. Each decodes numbers [column, column + count) of a row, count <= 8 and
// column a multiple of 8; a caller that passes the constant 8 gets loops without ends.
//
// No multiplication is fused with an addition, and each step is rounded to float32, as the formats' own
// libraries do: ggml's are those of gguf-py (gguf/quants.py), float8 and float4 those of the OCP standards,
// lookups those of bitsandbytes.
#ifndef STRATA_KERNELS_WEIGHT_DECODE_H
#define STRATA_KERNELS_WEIGHT_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/weight_format.h"

enum { DECODE_RUN = 8 };

// All kinds, for code that has a loop or a kernel of its own for each.
// clang-format off
#define WEIGHT_KINDS(X) \
    X(WEIGHT_PLAIN) X(WEIGHT_GROUPED) X(WEIGHT_LOOKUP) X(WEIGHT_Q4_0) X(WEIGHT_Q4_1) X(WEIGHT_Q5_0) \
    X(WEIGHT_Q5_1) X(WEIGHT_Q8_0) X(WEIGHT_Q2_K) X(WEIGHT_Q3_K) X(WEIGHT_Q4_K) X(WEIGHT_Q5_K) \
    X(WEIGHT_Q6_K) X(WEIGHT_IQ4_NL) X(WEIGHT_IQ4_XS) X(WEIGHT_MXFP4)
// clang-format on

#if defined(__CUDACC__) && !defined(STRATA_CUDA_EMULATION)
#define DECODE static __device__ __forceinline__
#define DECODE_UNROLL _Pragma("unroll")
#define DECODE_BITS(a) __popcll(a)
#define DECODE_MUL(a, b) __fmul_rn((a), (b))
#define DECODE_ADD(a, b) __fadd_rn((a), (b))
#else
#define DECODE static inline __attribute__((always_inline))
#define DECODE_UNROLL _Pragma("GCC unroll 8")
#define DECODE_BITS(a) __builtin_popcountll(a)
#define DECODE_MUL(a, b) ((a) * (b))
#define DECODE_ADD(a, b) ((a) + (b))
#endif

// ---- numbers ----

DECODE float decode_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

DECODE uint32_t decode_float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

DECODE uint32_t decode_u16(const unsigned char *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

DECODE uint32_t decode_u32(const unsigned char *at) {
    return decode_u16(at) | decode_u16(at + 2) << 16;
}

// Subnormal ones too: they are what small scales are.
DECODE float decode_f16(uint32_t half) {
    uint32_t sign = (half & 0x8000u) << 16;
    uint32_t exponent = half >> 10 & 0x1fu;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0) {
        float small = DECODE_MUL((float)mantissa, 0x1p-24f);
        return decode_bits(decode_float_bits(small) | sign);
    }
    exponent = exponent == 31 ? 255 : exponent + 112;
    return decode_bits(sign | exponent << 23 | mantissa << 13);
}

DECODE float decode_e8m0(uint32_t byte) {
    return byte == 255 ? decode_bits(0x7fc00000u) : decode_bits(byte == 0 ? 0x00400000u : byte << 23);
}

// float8 E4M3: bias 7, no infinities, 0x7f and 0xff are NaN.
DECODE float decode_e4m3(uint32_t byte) {
    uint32_t sign = (byte & 0x80u) << 24;
    uint32_t rest = byte & 0x7fu;
    uint32_t small = decode_float_bits(DECODE_MUL((float)rest, 0x1p-9f));
    uint32_t bits = rest < 8 ? small : (rest << 20) + (120u << 23);
    return decode_bits(sign | (rest == 0x7fu ? 0x7fc00000u : bits));
}

// float4 E2M1, twice: 0 1 2 3 4 6 8 12, the sign in bit 3.
DECODE int32_t decode_e2m1_twice(uint32_t code) {
    uint32_t rest = code & 7u;
    int32_t value = rest < 4 ? (int32_t)rest : (int32_t)((2u | (rest & 1u)) << ((rest >> 1) - 1u));
    return (code & 8u) != 0 ? -value : value;
}

DECODE float decode_rounded(float value, enum dtype dtype) {
    uint32_t bits = decode_float_bits(value);
    uint32_t sign = bits & 0x80000000u;
    bits &= 0x7fffffffu;
    if (dtype == DTYPE_F32 || bits >= 0x7f800000u) {
        return value;
    }
    if (dtype == DTYPE_BF16) {
        return decode_bits(sign | ((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u));
    }
    if (bits < 0x38800000u) { // below 2^-14: adding 0.5 rounds to a multiple of 2^-24
        float rounded = DECODE_ADD(DECODE_ADD(decode_bits(bits), 0.5f), -0.5f);
        return decode_bits(sign | decode_float_bits(rounded));
    }
    bits = (bits + 0xfffu + (bits >> 13 & 1u)) & 0xffffe000u;
    return decode_bits(sign | (bits >= 0x47800000u ? 0x7f800000u : bits)); // from 65520 on: infinity
}

// Scales, indices and tables lie on boundaries of their elements (weight_layout).
DECODE float decode_scale(const unsigned char *scales, size_t i, enum weight_scale type) {
    uint32_t word;
    uint16_t half;
    switch (type) {
    case SCALE_F32:
        memcpy(&word, __builtin_assume_aligned(scales + 4 * i, 4), sizeof word);
        return decode_bits(word);
    case SCALE_F16:
        memcpy(&half, __builtin_assume_aligned(scales + 2 * i, 2), sizeof half);
        return decode_f16(half);
    case SCALE_BF16:
        memcpy(&half, __builtin_assume_aligned(scales + 2 * i, 2), sizeof half);
        return decode_bits((uint32_t)half << 16);
    case SCALE_E8M0:
        break;
    }
    return decode_e8m0(scales[i]);
}

DECODE uint32_t decode_nibble(const unsigned char *codes, size_t i) {
    return (uint32_t)codes[i / 2] >> (4 * (i & 1)) & 15u;
}

// ---- groups and lookups ----

DECODE float decode_code(const unsigned char *codes, size_t i, enum weight_code type) {
    switch (type) {
    case CODE_U4:
        return (float)decode_nibble(codes, i);
    case CODE_U8:
        return (float)codes[i];
    case CODE_I8:
        return (float)(signed char)codes[i];
    case CODE_E4M3:
        return decode_e4m3(codes[i]);
    case CODE_E2M1:
        break;
    }
    return 0.5f * (float)decode_e2m1_twice(decode_nibble(codes, i));
}

struct decode_group {
    size_t number;
    float scale;
    float zero;
};

DECODE struct decode_group decode_group_at(const struct weight_view *view, size_t row, size_t number) {
    const struct weight_groups *g = &view->format.groups;
    size_t scale_row = g->rows == 0 ? 0 : g->rows == 1 ? row : row / g->rows;
    const unsigned char *zeros = view->parts[PART_ZEROS] + row * view->row_bytes[PART_ZEROS];
    struct decode_group group;
    group.number = number;
    group.scale =
        decode_scale(view->parts[PART_SCALES] + scale_row * view->row_bytes[PART_SCALES], number, g->scale);
    group.zero = g->has_zeros ? decode_code(zeros, number, g->code) : (float)g->zero;
    return group;
}

DECODE size_t decode_group_of(const struct weight_view *view, size_t column) {
    const struct weight_groups *g = &view->format.groups;
    if (g->has_indices) {
        return decode_u16(view->parts[PART_INDICES] + 2 * column);
    }
    return g->columns == 0 ? 0 : (uint32_t)column / (uint32_t)g->columns;
}

// A run of which every number is of the same group.
DECODE void decode_one_group(float *out, int count, const struct weight_view *view, size_t row, size_t column,
                             struct decode_group group) {
    enum weight_code type = view->format.groups.code;
    const unsigned char *codes = view->parts[PART_CODES] + row * view->row_bytes[PART_CODES];
    if (type == CODE_U4 && count == DECODE_RUN) {
        uint32_t word = decode_u32(codes + column / 2);
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            out[i] =
                DECODE_MUL(DECODE_ADD((float)(int32_t)(word >> (4 * i) & 15u), -group.zero), group.scale);
        }
    } else if (type == CODE_I8) {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            float code = (float)(signed char)codes[column + (size_t)i];
            out[i] = DECODE_MUL(DECODE_ADD(code, -group.zero), group.scale);
        }
    } else if (type == CODE_E4M3) {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            out[i] = DECODE_MUL(decode_e4m3(codes[column + (size_t)i]), group.scale);
        }
    } else {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            float code = decode_code(codes, column + (size_t)i, type);
            out[i] = DECODE_MUL(DECODE_ADD(code, -group.zero), group.scale);
        }
    }
}

DECODE void decode_grouped(float *out, int count, const struct weight_view *view, size_t row, size_t column) {
    const struct weight_groups *g = &view->format.groups;
    const unsigned char *codes = view->parts[PART_CODES] + row * view->row_bytes[PART_CODES];
    struct decode_group group = decode_group_at(view, row, decode_group_of(view, column));
    if (!g->has_indices && g->columns % DECODE_RUN == 0) {
        decode_one_group(out, count, view, row, column, group);
    } else {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            size_t at = column + (size_t)i;
            size_t number = decode_group_of(view, at);
            if (number != group.number) {
                group = decode_group_at(view, row, number);
            }
            out[i] = DECODE_MUL(DECODE_ADD(decode_code(codes, at, g->code), -group.zero), group.scale);
        }
    }
    if (g->factor != 1) {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            out[i] = DECODE_MUL(out[i], g->factor);
        }
    }
    if (view->format.rounding != DTYPE_F32) {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            out[i] = decode_rounded(out[i], view->format.rounding);
        }
    }
}

// The power of two that a power of two is.
DECODE unsigned decode_log2(size_t power) {
    return (unsigned)DECODE_BITS((unsigned long long)power - 1);
}

DECODE float decode_lookup_scale(const struct weight_view *view, size_t run) {
    const struct weight_lookups *l = &view->format.lookups;
    const unsigned char *scales = view->parts[PART_SCALES];
    if (!l->is_nested) {
        return decode_scale(scales, run, SCALE_F32);
    }
    float code = decode_scale(view->parts[PART_NESTED_TABLE], scales[run], SCALE_F32);
    float scale = decode_scale(view->parts[PART_NESTED_SCALES], run >> decode_log2(l->nested), SCALE_F32);
    return DECODE_ADD(DECODE_MUL(code, scale), l->offset);
}

DECODE void decode_lookup(float *out, int count, const struct weight_view *view, size_t row, size_t column) {
    const struct weight_lookups *l = &view->format.lookups;
    size_t first = row * view->columns + column;
    size_t run = first >> decode_log2(l->run);
    float scale = decode_lookup_scale(view, run);
    const unsigned char *table = view->parts[PART_TABLE];
    uint32_t order = l->low_first ? 0 : 1;
    if (count == DECODE_RUN && view->columns % DECODE_RUN == 0) { // within one run of the matrix
        uint32_t word = decode_u32(view->parts[PART_CODES] + first / 2);
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            uint32_t code = word >> (4 * ((uint32_t)i ^ order)) & 15u;
            out[i] = DECODE_MUL(decode_scale(table, code, SCALE_F32), scale);
        }
    } else {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            size_t at = first + (size_t)i;
            if (at >> decode_log2(l->run) != run) {
                scale = decode_lookup_scale(view, ++run);
            }
            uint32_t code = decode_nibble(view->parts[PART_CODES], at ^ order);
            out[i] = DECODE_MUL(decode_scale(table, code, SCALE_F32), scale);
        }
    }
    if (view->format.rounding != DTYPE_F32) {
        DECODE_UNROLL
        for (int i = 0; i < count; i++) {
            out[i] = decode_rounded(out[i], view->format.rounding);
        }
    }
}

// ---- ggml: blocks of 32 ----

// Number `in` of a block of 32: the first half lies in the low halves of the bytes.
DECODE uint32_t decode_half(const unsigned char *codes, size_t in) {
    return (uint32_t)codes[in % 16] >> (in < 16 ? 0 : 4) & 15u;
}

DECODE int32_t decode_iq4(uint32_t code) { // two tables of 8 signed bytes each, as halves of words
    static const uint32_t words[4] = {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u};
    return (int32_t)(signed char)(words[code >> 2] >> (8 * (code & 3u)) & 255u);
}

DECODE float decode_mxfp4_scale(uint32_t byte) { // 2^(byte - 128), of twice the number
    return decode_bits(byte < 2 ? 0x00200000u << byte : (byte - 1) << 23);
}

DECODE void decode_block_32(float *out, int count, const struct weight_view *view, size_t row, size_t column,
                            enum weight_kind kind) {
    const unsigned char *block = view->parts[0] + row * view->row_bytes[0] + column / 32 * view->format.bytes;
    float d = kind == WEIGHT_MXFP4 ? decode_mxfp4_scale(block[0]) : decode_f16(decode_u16(block));
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        size_t in = column % 32 + (size_t)i;
        switch (kind) {
        case WEIGHT_Q4_0:
            out[i] = DECODE_MUL(d, (float)((int32_t)decode_half(block + 2, in) - 8));
            break;
        case WEIGHT_Q4_1:
            out[i] = DECODE_ADD(DECODE_MUL(d, (float)decode_half(block + 4, in)),
                                decode_f16(decode_u16(block + 2)));
            break;
        case WEIGHT_Q5_0: {
            uint32_t code = decode_half(block + 6, in) | (decode_u32(block + 2) >> in & 1u) << 4;
            out[i] = DECODE_MUL(d, (float)((int32_t)code - 16));
            break;
        }
        case WEIGHT_Q5_1: {
            uint32_t code = decode_half(block + 8, in) | (decode_u32(block + 4) >> in & 1u) << 4;
            out[i] = DECODE_ADD(DECODE_MUL(d, (float)code), decode_f16(decode_u16(block + 2)));
            break;
        }
        case WEIGHT_Q8_0:
            out[i] = DECODE_MUL(d, (float)(signed char)block[2 + in]);
            break;
        case WEIGHT_IQ4_NL:
            out[i] = DECODE_MUL(d, (float)decode_iq4(decode_half(block + 2, in)));
            break;
        default: // WEIGHT_MXFP4
            out[i] = DECODE_MUL(d, (float)decode_e2m1_twice(decode_half(block + 1, in)));
            break;
        }
    }
}

// ---- ggml: blocks of 256 ----

// 6-bit scale and minimum of one of the 8 sub-blocks of Q4_K and Q5_K.
DECODE void decode_k_scale(const unsigned char *packed, size_t sub, uint32_t *scale, uint32_t *minimum) {
    if (sub < 4) {
        *scale = packed[sub] & 63u;
        *minimum = packed[sub + 4] & 63u;
    } else {
        *scale = (packed[sub + 4] & 15u) | (uint32_t)(packed[sub - 4] >> 6) << 4;
        *minimum = (uint32_t)(packed[sub + 4] >> 4) | (uint32_t)(packed[sub] >> 6) << 4;
    }
}

// scale * code - minimum: of a block, or of one of its sub-blocks, whose own codes of them it multiplies.
struct decode_scales {
    float scale;
    float minimum;
};

DECODE struct decode_scales decode_block_scales(const unsigned char *block, enum weight_kind kind) {
    size_t at = kind == WEIGHT_Q6_K ? 208 : kind == WEIGHT_Q3_K ? 108 : kind == WEIGHT_Q2_K ? 80 : 0;
    bool has_minimum = kind == WEIGHT_Q2_K || kind == WEIGHT_Q4_K || kind == WEIGHT_Q5_K;
    struct decode_scales scales;
    scales.scale = decode_f16(decode_u16(block + at));
    scales.minimum = has_minimum ? decode_f16(decode_u16(block + at + 2)) : 0;
    return scales;
}

DECODE struct decode_scales decode_q2_k_scales(struct decode_scales of, const unsigned char *block,
                                               size_t in) {
    uint32_t packed = block[in / 16];
    struct decode_scales scales;
    scales.scale = DECODE_MUL(of.scale, (float)(packed & 15u));
    scales.minimum = DECODE_MUL(of.minimum, (float)(packed >> 4));
    return scales;
}

DECODE void decode_q2_k(float *out, int count, const unsigned char *block, size_t in) {
    struct decode_scales scales = decode_q2_k_scales(decode_block_scales(block, WEIGHT_Q2_K), block, in);
    const unsigned char *codes = block + 16 + in / 128 * 32 + in % 32;
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        uint32_t code = (uint32_t)codes[i] >> (in % 128 / 32 * 2) & 3u;
        out[i] = DECODE_ADD(DECODE_MUL(scales.scale, (float)code), -scales.minimum);
    }
}

DECODE float decode_q3_k_scale(struct decode_scales of, const unsigned char *block, size_t in) {
    size_t sub = in / 16;
    uint32_t low = (uint32_t)block[96 + sub % 8] >> (sub < 8 ? 0 : 4) & 15u;
    uint32_t high = (uint32_t)block[104 + sub % 4] >> (sub / 4 * 2) & 3u;
    return DECODE_MUL(of.scale, (float)((int32_t)(low | high << 4) - 32));
}

DECODE void decode_q3_k(float *out, int count, const unsigned char *block, size_t in) {
    float scale = decode_q3_k_scale(decode_block_scales(block, WEIGHT_Q3_K), block, in);
    const unsigned char *codes = block + 32 + in / 128 * 32 + in % 32;
    const unsigned char *mask = block + in % 32;
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        int32_t code = (int32_t)((uint32_t)codes[i] >> (in % 128 / 32 * 2) & 3u);
        code -= (mask[i] >> (in / 32) & 1) != 0 ? 0 : 4;
        out[i] = DECODE_MUL(scale, (float)code);
    }
}

DECODE struct decode_scales decode_q45_k_scales(struct decode_scales of, const unsigned char *block,
                                                size_t sub) {
    uint32_t scale_code;
    uint32_t minimum_code;
    struct decode_scales scales;
    decode_k_scale(block + 4, sub, &scale_code, &minimum_code);
    scales.scale = DECODE_MUL(of.scale, (float)scale_code);
    scales.minimum = DECODE_MUL(of.minimum, (float)minimum_code);
    return scales;
}

DECODE void decode_q45_k(float *out, int count, const unsigned char *block, size_t in, bool five) {
    size_t sub = in / 32;
    struct decode_scales scales = decode_q45_k_scales(decode_block_scales(block, WEIGHT_Q4_K), block, sub);
    const unsigned char *high = block + 16 + in % 32;
    const unsigned char *codes = block + (five ? 48 : 16) + in / 64 * 32 + in % 32;
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        uint32_t code = (uint32_t)codes[i] >> (sub % 2 * 4) & 15u;
        code |= five ? ((uint32_t)high[i] >> sub & 1u) << 4 : 0;
        out[i] = DECODE_ADD(DECODE_MUL(scales.scale, (float)code), -scales.minimum);
    }
}

DECODE float decode_q6_k_scale(struct decode_scales of, const unsigned char *block, size_t in) {
    return DECODE_MUL(of.scale, (float)(signed char)block[192 + in / 16]);
}

DECODE void decode_q6_k(float *out, int count, const unsigned char *block, size_t in) {
    float scale = decode_q6_k_scale(decode_block_scales(block, WEIGHT_Q6_K), block, in);
    const unsigned char *low = block + in / 128 * 64 + in % 64;
    const unsigned char *high = block + 128 + in / 128 * 32 + in % 32;
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        uint32_t code = ((uint32_t)low[i] >> (in % 128 / 64 * 4) & 15u) |
                        ((uint32_t)high[i] >> (in % 128 / 32 * 2) & 3u) << 4;
        out[i] = DECODE_MUL(scale, (float)((int32_t)code - 32));
    }
}

DECODE float decode_iq4_xs_scale(struct decode_scales of, const unsigned char *block, size_t sub) {
    uint32_t low = (uint32_t)block[4 + sub / 2] >> (sub % 2 * 4) & 15u;
    uint32_t high = decode_u16(block + 2) >> (2 * sub) & 3u;
    return DECODE_MUL(of.scale, (float)((int32_t)(low | high << 4) - 32));
}

DECODE void decode_iq4_xs(float *out, int count, const unsigned char *block, size_t in) {
    size_t sub = in / 32;
    float scale = decode_iq4_xs_scale(decode_block_scales(block, WEIGHT_IQ4_XS), block, sub);
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        uint32_t code = decode_half(block + 8 + 16 * sub, in % 32 + (size_t)i);
        out[i] = DECODE_MUL(scale, (float)decode_iq4(code));
    }
}

DECODE void decode_block_256(float *out, int count, const struct weight_view *view, size_t row, size_t column,
                             enum weight_kind kind) {
    const unsigned char *block =
        view->parts[0] + row * view->row_bytes[0] + column / 256 * view->format.bytes;
    size_t in = column % 256;
    switch (kind) {
    case WEIGHT_Q2_K:
        decode_q2_k(out, count, block, in);
        break;
    case WEIGHT_Q3_K:
        decode_q3_k(out, count, block, in);
        break;
    case WEIGHT_Q4_K:
        decode_q45_k(out, count, block, in, false);
        break;
    case WEIGHT_Q5_K:
        decode_q45_k(out, count, block, in, true);
        break;
    case WEIGHT_Q6_K:
        decode_q6_k(out, count, block, in);
        break;
    default: // WEIGHT_IQ4_XS
        decode_iq4_xs(out, count, block, in);
        break;
    }
}

// ---- plain ----

DECODE void decode_plain(float *out, int count, const struct weight_view *view, size_t row, size_t column) {
    const unsigned char *numbers = view->parts[0] + row * view->row_bytes[0] + column * view->format.bytes;
    enum weight_scale type = view->format.dtype == DTYPE_F32   ? SCALE_F32
                             : view->format.dtype == DTYPE_F16 ? SCALE_F16
                                                               : SCALE_BF16;
    DECODE_UNROLL
    for (int i = 0; i < count; i++) {
        out[i] = decode_scale(numbers, (size_t)i, type);
    }
}

// ---- any ----

DECODE void decode_run(float *out, int count, const struct weight_view *view, size_t row, size_t column,
                       enum weight_kind kind) {
    switch (kind) {
    case WEIGHT_PLAIN:
        decode_plain(out, count, view, row, column);
        break;
    case WEIGHT_GROUPED:
        decode_grouped(out, count, view, row, column);
        break;
    case WEIGHT_LOOKUP:
        decode_lookup(out, count, view, row, column);
        break;
    case WEIGHT_Q4_0:
    case WEIGHT_Q4_1:
    case WEIGHT_Q5_0:
    case WEIGHT_Q5_1:
    case WEIGHT_Q8_0:
    case WEIGHT_IQ4_NL:
    case WEIGHT_MXFP4:
        decode_block_32(out, count, view, row, column, kind);
        break;
    case WEIGHT_Q2_K:
    case WEIGHT_Q3_K:
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K:
    case WEIGHT_Q6_K:
    case WEIGHT_IQ4_XS:
        decode_block_256(out, count, view, row, column, kind);
        break;
    }
}

#endif
