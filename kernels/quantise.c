// SPDX-License-Identifier: MIT
#include "kernels/quantise.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/size.h"
#include "kernels/nf4_tables.h"

// Numbers scaled and coded at a time: the smallest block.
enum { RUN = 32, NF4_MIDPOINTS = NF4_VALUES - 1, MAP_MIDPOINTS = NF4_MAP - 1, ZERO_CODE = 7 };

// bitsandbytes divides by no less.
static const float smallest_absmax = 1e-38f;

// As integers: compilers turn that into vector instructions where a maximum of floats has NaN to mind, and a
// NaN or infinity is larger than all finite numbers.
static float absmax_of(const float *numbers, size_t count) {
    int32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t bits = (int32_t)(f32_bits(numbers[i]) & 0x7fffffffu);
        largest = bits > largest ? bits : largest;
    }
    return f32_from_bits((uint32_t)largest);
}

static size_t first_not_finite(const float *numbers, size_t count) {
    size_t i = 0;
    while (i < count && isfinite(numbers[i])) {
        i++;
    }
    return i;
}

static void midpoints_of(float *midpoints, const float *values, size_t count) {
    for (size_t i = 0; i + 1 < count; i++) {
        midpoints[i] = (values[i] + values[i + 1]) / 2;
    }
}

// ---- NF4 ----

// Of RUN scaled numbers: the midpoints that are smaller, so that a tie has the lower code.
static void nf4_codes(unsigned char *codes, const float *scaled, const float *midpoints) {
    int32_t found[RUN];
    for (size_t i = 0; i < RUN; i++) {
        int32_t code = 0;
        for (size_t k = 0; k < NF4_MIDPOINTS; k++) {
            code += scaled[i] > midpoints[k];
        }
        found[i] = code;
    }
    for (size_t i = 0; i < RUN / 2; i++) {
        codes[i] = (unsigned char)(found[2 * i] << 4 | found[2 * i + 1]);
    }
}

static void quantise_whole(unsigned char *codes, const float *numbers, float absmax, size_t block,
                           const float *midpoints) {
    float inverse = 1.0f / (absmax < smallest_absmax ? smallest_absmax : absmax);
    for (size_t run = 0; run < block; run += RUN) {
        float scaled[RUN];
        for (size_t i = 0; i < RUN; i++) {
            scaled[i] = numbers[run + i] * inverse;
        }
        nf4_codes(codes + run / 2, scaled, midpoints);
    }
}

static void quantise_partial(unsigned char *codes, const float *numbers, float absmax, size_t count,
                             const float *midpoints) {
    for (size_t run = 0; run < count; run += RUN) {
        float scaled[RUN] = {0};
        unsigned char coded[RUN / 2];
        size_t length = size_min(RUN, count - run);
        for (size_t i = 0; i < length; i++) {
            scaled[i] = numbers[run + i] / absmax;
        }
        nf4_codes(coded, scaled, midpoints);
        memcpy(codes + run / 2, coded, (length + 1) / 2);
    }
}

int quantise_nf4(unsigned char *codes, float *absmax, const float *numbers, size_t first, size_t count,
                 size_t block, struct error *err) {
    float midpoints[NF4_MIDPOINTS];
    midpoints_of(midpoints, nf4_values, NF4_VALUES);
    for (size_t start = 0; start < count; start += block) {
        size_t length = size_min(block, count - start);
        const float *in = numbers + start;
        unsigned char *out = codes + start / 2;
        float largest = absmax_of(in, length);
        if (!isfinite(largest)) {
            size_t at = first_not_finite(in, length);
            return error_set(err, STATUS_DATA, "number %zu is %s and cannot be quantised", first + start + at,
                             isnan(in[at]) ? "NaN" : "infinite");
        }
        if (length == block) {
            quantise_whole(out, in, largest, block, midpoints);
        } else {
            largest = largest < smallest_absmax ? smallest_absmax : largest;
            quantise_partial(out, in, largest, length, midpoints);
        }
        absmax[start / block] = largest;
    }
    return STATUS_OK;
}

// ---- the absmax of blocks ----

static unsigned char map_code(float scaled, const float midpoints[MAP_MIDPOINTS]) {
    size_t code = 0;
    for (size_t step = NF4_MAP / 2; step > 0; step /= 2) {
        code += scaled > midpoints[code + step - 1] ? step : 0;
    }
    return (unsigned char)code;
}

void quantise_absmax(unsigned char *codes, float *nested, float *offset, const float *absmax, size_t blocks) {
    float map[NF4_MAP], midpoints[MAP_MIDPOINTS];
    nf4_dynamic_map(map);
    midpoints_of(midpoints, map, NF4_MAP);
    double sum = 0;
    for (size_t i = 0; i < blocks; i++) {
        sum += (double)absmax[i];
    }
    float mean = blocks == 0 ? 0 : (float)(sum / (double)blocks);
    *offset = mean;
    for (size_t start = 0; start < blocks; start += QUANTISE_ABSMAX_BLOCK) {
        size_t length = size_min(QUANTISE_ABSMAX_BLOCK, blocks - start);
        float centred[QUANTISE_ABSMAX_BLOCK];
        for (size_t i = 0; i < length; i++) {
            centred[i] = absmax[start + i] - mean;
        }
        float largest = absmax_of(centred, length);
        nested[start / QUANTISE_ABSMAX_BLOCK] = largest;
        if (largest == 0) { // any code is the offset; bitsandbytes has 0
            memset(codes + start, 0, length);
            continue;
        }
        float inverse = 1.0f / largest;
        inverse = inverse > FLT_MAX ? FLT_MAX : inverse; // of the smallest subnormals
        for (size_t i = 0; i < length; i++) {
            codes[start + i] = map_code(centred[i] * inverse, midpoints);
        }
    }
}

// ---- rows of int8 ----

int quantise_int8_rows(signed char *codes, float *absmax, const float *numbers, size_t first, size_t rows,
                       size_t columns, struct error *err) {
    for (size_t row = 0; row < rows; row++) {
        const float *in = numbers + row * columns;
        // Rounding keeps the order: the largest rounded is the rounded largest.
        float largest = f16_to_f32(f32_to_f16(absmax_of(in, columns)));
        if (!isfinite(largest)) {
            size_t at = 0;
            while (isfinite(f16_to_f32(f32_to_f16(in[at])))) {
                at++;
            }
            return error_set(err, STATUS_DATA,
                             "row %zu, column %zu: %g is beyond float16, of which int8 is made", first + row,
                             at, (double)in[at]);
        }
        absmax[row] = largest;
        float scale =
            largest == 0 ? 0 : 1.0f / largest * 127.0f; // in two steps, as torch divides by a tensor
        for (size_t column = 0; column < columns; column++) {
            float number = f16_to_f32(f32_to_f16(in[column]));
            codes[row * columns + column] = (signed char)lrintf(number * scale); // half to even
        }
    }
    return STATUS_OK;
}
