// SPDX-License-Identifier: MIT
#include "bench/formats.h"

#include <string.h>

#include "base/random.h"

// ---- which ----

#define GROUPED(NAME, ...)                                                                                   \
    {                                                                                                        \
        .name = (NAME), .kind = WEIGHT_GROUPED, .groups = { __VA_ARGS__ }                                    \
    }

static const struct weight_format methods[] = {
    GROUPED("4 bits, groups of 128", CODE_U4, SCALE_F16, .rows = 1, .columns = 128, .has_zeros = true,
            .factor = 1),
    GROUPED("4 bits, columns in any order", CODE_U4, SCALE_F16, .rows = 1, .columns = 128, .has_zeros = true,
            .has_indices = true, .factor = 1),
    GROUPED("8 bits, a row", CODE_I8, SCALE_F32, .rows = 1, .factor = 1.0f / 127),
    GROUPED("float8, blocks of 128 x 128", CODE_E4M3, SCALE_F32, .rows = 128, .columns = 128, .factor = 1),
    GROUPED("float4, groups of 32", CODE_E2M1, SCALE_E8M0, .rows = 1, .columns = 32, .factor = 1),
    {.name = "nf4", .kind = WEIGHT_LOOKUP, .lookups = {.run = 64}},
    {.name = "nf4, double", .kind = WEIGHT_LOOKUP, .lookups = {.run = 64, .is_nested = true, .nested = 256}},
};
static const char *const named[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q8_0",
                                    "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"};

enum { METHODS = sizeof methods / sizeof methods[0], NAMED = sizeof named / sizeof named[0] };

const struct weight_format *bench_format(size_t index) {
    if (index < METHODS) {
        return &methods[index];
    }
    return index < METHODS + NAMED ? weight_format_find(named[index - METHODS]) : NULL;
}

// ---- numbers ----

enum { BLOCK_FACTORS = 2, NONE = -1 };

// Where a block of GGUF has float16 numbers that multiply its codes.
static void block_factors(enum weight_kind kind, int at[BLOCK_FACTORS]) {
    at[0] = kind == WEIGHT_Q6_K ? 208 : kind == WEIGHT_Q3_K ? 108 : kind == WEIGHT_Q2_K ? 80 : 0;
    switch (kind) {
    case WEIGHT_Q4_1:
    case WEIGHT_Q5_1:
    case WEIGHT_Q2_K:
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K:
        at[1] = at[0] + 2;
        break;
    default:
        at[1] = NONE;
        break;
    }
}

// Some number of [2^-8, 2^-7), in the bytes that numbers of this type take.
static size_t put_scale(unsigned char *out, enum weight_scale type, uint64_t random) {
    const uint32_t mantissa = (uint32_t)random & 0x7fffffu;
    const uint32_t bits = (119u << 23) | mantissa;
    const uint16_t f16 = (uint16_t)(7u << 10 | mantissa >> 13);
    const uint16_t bf16 = (uint16_t)(bits >> 16);
    switch (type) {
    case SCALE_F32:
        memcpy(out, &bits, sizeof bits);
        return sizeof bits;
    case SCALE_F16:
        memcpy(out, &f16, sizeof f16);
        return sizeof f16;
    case SCALE_BF16:
        memcpy(out, &bf16, sizeof bf16);
        return sizeof bf16;
    case SCALE_E8M0:
        break;
    }
    out[0] = 119;
    return 1;
}

static void put_scales(unsigned char *out, size_t bytes, enum weight_scale type, uint64_t *seed) {
    for (size_t at = 0; at < bytes;) {
        at += put_scale(out + at, type, random_next(seed));
    }
}

static void fill_blocks(const struct weight_format *format, size_t bytes, unsigned char *out,
                        uint64_t *seed) {
    int factors[BLOCK_FACTORS];
    block_factors(format->kind, factors);
    for (size_t at = 0; at < bytes; at += format->bytes) {
        for (int i = 0; i < BLOCK_FACTORS && factors[i] != NONE; i++) {
            enum weight_scale type = format->kind == WEIGHT_MXFP4 ? SCALE_E8M0 : SCALE_F16;
            (void)put_scale(out + at + factors[i], type, random_next(seed));
        }
    }
}

static void fill_grouped(const struct weight_format *format, size_t columns,
                         const struct weight_layout *layout, unsigned char *out, uint64_t *seed) {
    const struct weight_groups *groups = &format->groups;
    for (size_t i = 0; groups->code == CODE_E4M3 && i < layout->parts[PART_CODES].bytes; i++) {
        out[layout->parts[PART_CODES].offset + i] &= 0xbf; // below 2: no NaN
    }
    put_scales(out + layout->parts[PART_SCALES].offset, layout->parts[PART_SCALES].bytes, groups->scale,
               seed);
    for (size_t i = 0; groups->has_indices && i < columns; i++) {
        uint16_t group = (uint16_t)random_below(seed, (columns - 1) / groups->columns + 1);
        memcpy(out + layout->parts[PART_INDICES].offset + i * sizeof group, &group, sizeof group);
    }
}

static void fill_lookup(const struct weight_format *format, const struct weight_layout *layout,
                        unsigned char *out, uint64_t *seed) {
    for (size_t part = PART_SCALES; part < WEIGHT_PARTS; part++) {
        if (part != PART_SCALES || !format->lookups.is_nested) {
            put_scales(out + layout->parts[part].offset, layout->parts[part].bytes, SCALE_F32, seed);
        }
    }
}

void bench_format_fill(const struct weight_format *format, size_t columns, const struct weight_layout *layout,
                       unsigned char *out) {
    static const enum weight_scale plain[] = {
        [DTYPE_F32] = SCALE_F32, [DTYPE_F16] = SCALE_F16, [DTYPE_BF16] = SCALE_BF16};
    uint64_t seed = 1;
    for (size_t at = 0; at < layout->bytes; at += sizeof(uint64_t)) {
        uint64_t random = random_next(&seed);
        size_t rest = layout->bytes - at;
        memcpy(out + at, &random, rest < sizeof random ? rest : sizeof random);
    }
    switch (format->kind) {
    case WEIGHT_PLAIN:
        put_scales(out, layout->bytes, plain[format->dtype], &seed);
        break;
    case WEIGHT_GROUPED:
        fill_grouped(format, columns, layout, out, &seed);
        break;
    case WEIGHT_LOOKUP:
        fill_lookup(format, layout, out, &seed);
        break;
    default:
        fill_blocks(format, layout->bytes, out, &seed);
        break;
    }
}
