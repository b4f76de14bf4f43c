// SPDX-License-Identifier: MIT
// The three number formats of weights, activations and latents, and their conversions.
#ifndef STRATA_BASE_DTYPE_H
#define STRATA_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };

size_t dtype_size(enum dtype dtype);                   // bytes of one number
const char *dtype_name(enum dtype dtype);              // "float32", "float16", "bfloat16"
bool dtype_parse(const char *name, enum dtype *dtype); // those names; false for any other

static inline uint32_t f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float bf16_to_f32(uint16_t half) {
    return f32_from_bits((uint32_t)half << 16);
}

// A number as the type holds it.
float dtype_rounded(float value, enum dtype dtype);

// Round to nearest, ties to even; NaN stays NaN (quiet).
static inline uint16_t f32_to_bf16(float value) {
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x0040u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Without branches, so that loops over these become vectors.
static inline float f16_to_f32(uint16_t half) {
    uint32_t rest = half & 0x7fffu;
    uint32_t small = f32_bits((float)(int32_t)rest * 0x1p-24f); // zero and subnormals: exact in float32
    uint32_t normal = (rest << 13) + (112u << 23);
    uint32_t special = normal + (112u << 23); // infinity, NaN
    uint32_t bits = rest < 0x400u ? small : rest < 0x7c00u ? normal : special;
    return f32_from_bits(bits | (uint32_t)(half & 0x8000u) << 16);
}

// Round to nearest, ties to even; from 65520 on infinity; NaN stays NaN (quiet).
static inline uint16_t f32_to_f16(float value) {
    uint32_t bits = f32_bits(value) & 0x7fffffffu;
    // Below 2^-14: adding 0.5 lets the float adder round to a multiple of 2^-24.
    uint32_t small = f32_bits(f32_from_bits(bits) + 0.5f) - 0x3f000000u;
    uint32_t rounded = bits + 0xfffu + (bits >> 13 & 1u);
    uint32_t normal = (rounded - 0x38000000u) >> 13;
    uint32_t special = bits > 0x7f800000u ? 0x7e00u : 0x7c00u;
    uint32_t half = bits < 0x38800000u ? small : rounded < 0x47800000u ? normal : special;
    return (uint16_t)(half | (f32_bits(value) >> 16 & 0x8000u));
}

// Converts `count` numbers between any two formats.
void dtype_convert(void *out, enum dtype out_dtype, const void *in, enum dtype in_dtype, size_t count);

#endif
