#include "base/dtype.h"

size_t dtype_size(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

const char *dtype_name(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F32:
        return "float32";
    case DTYPE_F16:
        return "float16";
    case DTYPE_BF16:
        return "bfloat16";
    }
    return "unknown";
}

bool dtype_parse(const char *name, enum dtype *dtype) {
    for (enum dtype d = DTYPE_F32; d <= DTYPE_BF16; d++) {
        if (strcmp(name, dtype_name(d)) == 0) {
            *dtype = d;
            return true;
        }
    }
    return false;
}

float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 31u;
    uint32_t mantissa = half & 0x3ffu;
    if (exponent == 31) {
        return f32_from_bits(sign | 0x7f800000u | (mantissa << 13));
    }
    if (exponent == 0) { // zero or subnormal: mantissa * 2^-24, exact in float32
        float value = (float)mantissa * 0x1p-24f;
        return f32_from_bits(f32_bits(value) | sign);
    }
    return f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) {
    uint32_t bits = f32_bits(value);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u);
    }
    if (bits >= 0x477ff000u) { // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00u);
    }
    if (bits < 0x38800000u) { // below 2^-14: adding 0.5 lets the float adder round to a multiple of 2^-24
        float magnitude = f32_from_bits(bits) + 0.5f;
        return (uint16_t)(sign | (f32_bits(magnitude) - 0x3f000000u));
    }
    uint32_t rounded = bits + 0xfffu + ((bits >> 13) & 1u);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

static float load(const void *in, enum dtype dtype, size_t i) {
    switch (dtype) {
    case DTYPE_F32:
        return ((const float *)in)[i];
    case DTYPE_F16:
        return f16_to_f32(((const uint16_t *)in)[i]);
    case DTYPE_BF16:
        return bf16_to_f32(((const uint16_t *)in)[i]);
    }
    return 0;
}

// One loop a pair of formats: those between float32 and bfloat16 become vector instructions.
static void widen_bf16(float *out, const uint16_t *in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = bf16_to_f32(in[i]);
    }
}

static void narrow_bf16(uint16_t *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = f32_to_bf16(in[i]);
    }
}

void dtype_convert(void *out, enum dtype out_dtype, const void *in, enum dtype in_dtype, size_t count) {
    if (out_dtype == in_dtype) {
        memmove(out, in, count * dtype_size(in_dtype));
        return;
    }
    if (out_dtype == DTYPE_F32 && in_dtype == DTYPE_BF16) {
        widen_bf16(out, in, count);
        return;
    }
    if (out_dtype == DTYPE_BF16 && in_dtype == DTYPE_F32) {
        narrow_bf16(out, in, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        float value = load(in, in_dtype, i);
        switch (out_dtype) {
        case DTYPE_F32:
            ((float *)out)[i] = value;
            break;
        case DTYPE_F16:
            ((uint16_t *)out)[i] = f32_to_f16(value);
            break;
        case DTYPE_BF16:
            ((uint16_t *)out)[i] = f32_to_bf16(value);
            break;
        }
    }
}
