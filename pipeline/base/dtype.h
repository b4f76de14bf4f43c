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

// Round to nearest, ties to even; NaN stays NaN (quiet).
static inline uint16_t f32_to_bf16(float value) {
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((bits >> 16) | 0x0040u);
    }
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value); // round to nearest, ties to even; beyond 65504 becomes infinity

// Converts `count` numbers between any two formats.
void dtype_convert(void *out, enum dtype out_dtype, const void *in, enum dtype in_dtype, size_t count);

#endif
