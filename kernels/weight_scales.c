// SPDX-License-Identifier: MIT
#include <limits.h>

#include "kernels/weight_decode.h"
#include "kernels/weight_format.h"

// Where a block has its scale: one float16, two (scale and minimum), or a byte of E8M0.
static const struct block_scales {
    size_t at;
    size_t bytes; // 0: the format has none
} block_scales[] = {
    [WEIGHT_Q4_0] = {0, 2},  [WEIGHT_Q4_1] = {0, 4},   [WEIGHT_Q5_0] = {0, 2},   [WEIGHT_Q5_1] = {0, 4},
    [WEIGHT_Q8_0] = {0, 2},  [WEIGHT_Q2_K] = {80, 4},  [WEIGHT_Q3_K] = {108, 2}, [WEIGHT_Q4_K] = {0, 4},
    [WEIGHT_Q5_K] = {0, 4},  [WEIGHT_Q6_K] = {208, 2}, [WEIGHT_IQ4_NL] = {0, 2}, [WEIGHT_IQ4_XS] = {0, 2},
    [WEIGHT_MXFP4] = {0, 1},
};

// An exponent of ones and one more carries into the sign's bit, which the mask has cleared.
static bool finite_pairs(const unsigned char *scales, size_t count, size_t step) {
    uint32_t carried = 0;
    for (size_t i = 0; i < count; i++) {
        carried |= (decode_u32(scales + i * step) & 0x7c007c00u) + 0x04000400u;
    }
    return (carried & 0x80008000u) == 0;
}

static bool finite_halves(const unsigned char *scales, size_t count, size_t step) {
    uint32_t carried = 0;
    for (size_t i = 0; i < count; i++) {
        carried |= (decode_u16(scales + i * step) & 0x7c00u) + 0x0400u;
    }
    return (carried & 0x8000u) == 0;
}

static bool finite_exponents(const unsigned char *scales, size_t count, size_t step) {
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        all &= scales[i * step] != UCHAR_MAX;
    }
    return all;
}

bool weight_scales_finite(const struct weight_format *format, const void *blocks, size_t bytes) {
    if (format->kind >= sizeof block_scales / sizeof block_scales[0]) {
        return true;
    }
    const struct block_scales *in = &block_scales[format->kind];
    const unsigned char *scales = (const unsigned char *)blocks + in->at;
    switch (in->bytes) {
    case 1:
        return finite_exponents(scales, bytes / format->bytes, format->bytes);
    case 2:
        return finite_halves(scales, bytes / format->bytes, format->bytes);
    case 4:
        return finite_pairs(scales, bytes / format->bytes, format->bytes);
    default:
        return true;
    }
}
