// SPDX-License-Identifier: MIT
// Keys and values that are kept for texts or slices that go on from them: as they are, or in ggml's blocks.
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "kernels/cpu/rows.h"

struct keep {
    struct rows rows;
    unsigned char *kept;
    const void *qkv;
    struct device_heads heads;
    enum device_keeping keeping;
    size_t row_bytes; // of what is kept
};

// The keys and values of a token.
static const void *keys_of(const struct keep *keep, size_t token) {
    size_t at = token * device_heads_width(keep->heads) + device_heads_key(keep->heads);
    return number_of(keep->qkv, at, keep->rows.cpu->base.dtype);
}

static void keep_rows(const void *job, size_t piece, size_t member) {
    const struct keep *keep = job;
    struct share mine = rows_of(&keep->rows, piece);
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        memcpy(keep->kept + t * keep->row_bytes, keys_of(keep, t), keep->row_bytes);
    }
}

// ---- blocks ----

static void put_half(unsigned char *out, uint16_t half) {
    out[0] = (unsigned char)(half & 0xff);
    out[1] = (unsigned char)(half >> 8);
}

// What a block's numbers are multiplied with. The scale's float16 is written; it is NaN where a number of the
// block is not finite, and then, as for a scale too small to divide by, every code is that of 0.
static float put_scale(unsigned char *out, float scale, bool finite) {
    enum { NOT_A_NUMBER = 0x7e00 };
    float inverse = scale != 0 ? 1 / scale : 0;
    put_half(out, finite ? f32_to_f16(scale) : NOT_A_NUMBER);
    return finite && isfinite(inverse) ? inverse : 0;
}

// The first number of the greatest size.
static float greatest_of(const float *x, bool *finite) {
    float greatest = x[0];
    *finite = true;
    for (size_t i = 0; i < DEVICE_KEEP_BLOCK; i++) {
        greatest = fabsf(x[i]) > fabsf(greatest) ? x[i] : greatest;
        *finite = *finite && isfinite(x[i]);
    }
    return greatest;
}

static void pack_q8_0(unsigned char *out, const float *x) {
    bool finite;
    float greatest = greatest_of(x, &finite);
    float inverse = put_scale(out, fabsf(greatest) / 127, finite);
    for (size_t i = 0; i < DEVICE_KEEP_BLOCK; i++) {
        out[2 + i] = (unsigned char)(int8_t)(inverse != 0 ? roundf(x[i] * inverse) : 0);
    }
}

static unsigned code_q4_0(float x, float inverse) {
    float code = inverse != 0 ? floorf(x * inverse + 8.5f) : 8;
    return code < 15 ? (unsigned)code : 15;
}

static void pack_q4_0(unsigned char *out, const float *x) {
    enum { HALF = DEVICE_KEEP_BLOCK / 2 };
    bool finite;
    float greatest = greatest_of(x, &finite);
    float inverse = put_scale(out, greatest / -8, finite);
    for (size_t i = 0; i < HALF; i++) {
        out[2 + i] = (unsigned char)(code_q4_0(x[i], inverse) | code_q4_0(x[i + HALF], inverse) << 4);
    }
}

static void pack_rows(const void *job, size_t piece, size_t member) {
    const struct keep *keep = job;
    struct share mine = rows_of(&keep->rows, piece);
    enum dtype dtype = keep->rows.cpu->base.dtype;
    bool wide = keep->keeping == DEVICE_KEEP_Q8_0;
    size_t block_bytes = wide ? DEVICE_KEEP_Q8_0_BYTES : DEVICE_KEEP_Q4_0_BYTES;
    size_t blocks = keep->row_bytes / block_bytes;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        unsigned char *out = keep->kept + t * keep->row_bytes;
        for (size_t b = 0; b < blocks; b++, out += block_bytes) {
            float numbers[DEVICE_KEEP_BLOCK];
            dtype_convert(numbers, DTYPE_F32, number_of(keys_of(keep, t), b * DEVICE_KEEP_BLOCK, dtype),
                          dtype, DEVICE_KEEP_BLOCK);
            if (wide) {
                pack_q8_0(out, numbers);
            } else {
                pack_q4_0(out, numbers);
            }
        }
    }
}

// ---- the operations ----

static void keep_as(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
                    size_t tokens, enum device_keeping keeping) {
    size_t row_bytes = device_kept_bytes(heads, keeping, dtype_size(device->dtype));
    struct keep keep = {.rows = {.cpu = cpu_of(device), .count = tokens},
                        .kept = (unsigned char *)kept + row * row_bytes,
                        .qkv = qkv,
                        .heads = heads,
                        .keeping = keeping,
                        .row_bytes = row_bytes};
    rows_run(&keep.rows, keeping == DEVICE_KEEP_COMPUTED ? keep_rows : pack_rows,
             4 * heads.kv_heads * heads.head_dim);
}

int cpu_keep(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
             size_t tokens, struct error *err) {
    (void)err;
    keep_as(device, kept, row, qkv, heads, tokens, DEVICE_KEEP_COMPUTED);
    return STATUS_OK;
}

int cpu_keep_packed(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
                    size_t tokens, enum device_keeping keeping, struct error *err) {
    (void)err;
    keep_as(device, kept, row, qkv, heads, tokens, keeping);
    return STATUS_OK;
}

// Rows of blocks are a matrix in GGUF's format.
struct expand {
    struct rows rows;
    void *out;
    struct weight_view view;
};

static void expand_rows(const void *job, size_t piece, size_t member) {
    const struct expand *expand = job;
    struct share mine = rows_of(&expand->rows, piece);
    const struct cpu_device *cpu = expand->rows.cpu;
    size_t width = expand->view.columns;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        cpu->kernels->expand(number_in(expand->out, t * width, cpu->base.dtype), &expand->view, t, 0, width);
    }
}

int cpu_expand_kept(struct device *device, void *out, const void *kept, struct device_heads heads,
                    size_t rows, enum device_keeping keeping, struct error *err) {
    struct expand expand = {.rows = {.cpu = cpu_of(device), .count = rows}, .out = out};
    const struct weight_format *format = weight_format_find(keeping == DEVICE_KEEP_Q8_0 ? "Q8_0" : "Q4_0");
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    if (format == NULL || !weight_view_of(format, rows, width, kept, &expand.view)) {
        return error_set(err, STATUS_INTERNAL, "expand_kept: there are no %zu rows of %zu numbers", rows,
                         width);
    }
    rows_run(&expand.rows, expand_rows, 2 * width);
    return STATUS_OK;
}
