// SPDX-License-Identifier: MIT
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

// One loop a pair of formats with float32: these become vector instructions.
static void widen_f16(float *out, const uint16_t *in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = f16_to_f32(in[i]);
    }
}

static void narrow_f16(uint16_t *out, const float *in, size_t count) {
    for (size_t i = 0; i < count; i++) {
        out[i] = f32_to_f16(in[i]);
    }
}

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
    if (out_dtype == DTYPE_F32) {
        if (in_dtype == DTYPE_F16) {
            widen_f16(out, in, count);
        } else {
            widen_bf16(out, in, count);
        }
        return;
    }
    if (in_dtype == DTYPE_F32) {
        if (out_dtype == DTYPE_F16) {
            narrow_f16(out, in, count);
        } else {
            narrow_bf16(out, in, count);
        }
        return;
    }
    for (size_t i = 0; i < count; i++) { // between the halves
        uint16_t half = ((const uint16_t *)in)[i];
        ((uint16_t *)out)[i] =
            out_dtype == DTYPE_F16 ? f32_to_f16(bf16_to_f32(half)) : f32_to_bf16(f16_to_f32(half));
    }
}

float dtype_rounded(float value, enum dtype dtype) {
    uint32_t held; // of any type
    dtype_convert(&held, dtype, &value, DTYPE_F32, 1);
    dtype_convert(&value, DTYPE_F32, &held, dtype, 1);
    return value;
}
