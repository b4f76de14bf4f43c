// SPDX-License-Identifier: MIT
// Keys and values kept in ggml's blocks: the bytes that ggml's own library makes (gguf.quants), every number
// by the formulas of operations.h written plainly, and what becomes of numbers that have no code.
#include "base/size.h"
#include "device_testing.h"

enum { BLOCK = DEVICE_KEEP_BLOCK, MOST = DEVICE_KEEP_Q8_0_BYTES };

static const enum device_keeping both[] = {DEVICE_KEEP_Q8_0, DEVICE_KEEP_Q4_0};

static size_t block_bytes(enum device_keeping keeping) {
    return keeping == DEVICE_KEEP_Q8_0 ? DEVICE_KEEP_Q8_0_BYTES : DEVICE_KEEP_Q4_0_BYTES;
}

// Packs one token of one head with these keys and values.
static unsigned char *pack_two(struct bed *bed, const float keys[BLOCK], const float values[BLOCK],
                               enum device_keeping keeping) {
    float row[3 * BLOCK] = {0};
    memcpy(row + BLOCK, keys, BLOCK * sizeof *row);
    memcpy(row + 2 * BLOCK, values, BLOCK * sizeof *row);
    const struct device_heads heads = {1, 1, BLOCK, 0};
    size_t bytes = device_kept_bytes(heads, keeping, dtype_size(bed->dtype));
    assert_int_equal(bytes, 2 * block_bytes(keeping));
    void *kept = bed_take(bed, bytes);
    must(bed, device_keep_packed(bed->device, kept, 0, bed_put(bed, row, 3 * BLOCK), heads, 1, keeping,
                                 &bed->error));
    return bed_bytes(bed, kept, bytes);
}

// ---- ggml's bytes ----

// gguf.quants' quantize of the two blocks below (gguf 0.19); scales of the second are float16's subnormals.
static const unsigned char q8_0[2][DEVICE_KEEP_Q8_0_BYTES] = {
    {0xd0, 0x2b, 0x93, 0xdf, 0x2b, 0x77, 0xba, 0x06, 0x52, 0x95, 0xe1, 0x2d, 0x79, 0xbc, 0x08, 0x54, 0x98,
     0xe3, 0x2f, 0x7b, 0xbe, 0x0a, 0x56, 0x9a, 0xe5, 0x31, 0x7d, 0xc0, 0x0c, 0x58, 0x9c, 0xe7, 0x33, 0x7f},
    {0x01, 0x00, 0x6d, 0x21, 0xd5, 0x89, 0x46, 0xfa, 0xae, 0x6b, 0x1f, 0xd3, 0x87, 0x44, 0xf8, 0xac, 0x68,
     0x1d, 0xd1, 0x85, 0x42, 0xf6, 0xaa, 0x66, 0x1b, 0xcf, 0x83, 0x40, 0xf4, 0xa8, 0x64, 0x19, 0xcd, 0x81},
};
static const unsigned char q4_0[2][DEVICE_KEEP_Q4_0_BYTES] = {
    {0xc0, 0xbb, 0x5f, 0x0a, 0xc5, 0x71, 0x3c, 0xe8, 0xa3, 0x5f, 0x0a, 0xc5, 0x70, 0x2c, 0xe7, 0xa3, 0x5f,
     0x0a},
    {0x10, 0x00, 0x5f, 0x0a, 0xc5, 0x71, 0x3c, 0xe8, 0xa3, 0x5f, 0x0a, 0xc5, 0x70, 0x2c, 0xe7, 0xa3, 0x5f,
     0x0a},
};

static void goldens(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 1);
    float blocks[2][BLOCK];
    for (int i = 0; i < BLOCK; i++) { // every dtype has them exactly
        float number = (float)((i * 37 + 11) % 129 - 64);
        blocks[0][i] = number / 8;
        blocks[1][i] = -number * 0x1p-23f;
    }
    unsigned char *wide = pack_two(&bed, blocks[0], blocks[1], DEVICE_KEEP_Q8_0);
    unsigned char *narrow = pack_two(&bed, blocks[0], blocks[1], DEVICE_KEEP_Q4_0);
    assert_memory_equal(wide, q8_0, sizeof q8_0);
    assert_memory_equal(narrow, q4_0, sizeof q4_0);
    free(narrow);
    free(wide);
    bed_close(&bed);
}

static void blocks_are_those_of_ggml(void **state) {
    (void)state;
    on_every_path(goldens);
}

// ---- every number ----

static float scale_of(const float *x, enum device_keeping keeping) {
    float greatest = x[0];
    for (size_t i = 0; i < BLOCK; i++) {
        greatest = fabsf(x[i]) > fabsf(greatest) ? x[i] : greatest;
    }
    return keeping == DEVICE_KEEP_Q8_0 ? fabsf(greatest) / 127 : greatest / -8;
}

// What packing and expanding make of number i of a block.
static float wanted_number(const float *x, size_t i, enum device_keeping keeping, enum dtype dtype) {
    float scale = scale_of(x, keeping);
    float inverse = scale != 0 ? 1 / scale : 0;
    float kept = f16_to_f32(f32_to_f16(scale));
    float product = x[i] * inverse;
    float code = keeping == DEVICE_KEEP_Q8_0 ? roundf(product) : fminf(15, floorf(product + 8.5f)) - 8;
    return round_to(code * kept, dtype);
}

static void compare_rows(const struct bed *bed, const float *found, const float *qkv,
                         struct device_heads heads, size_t rows, enum device_keeping keeping) {
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    for (size_t i = 0; i < rows * width; i++) {
        const float *row = qkv + i / width * device_heads_width(heads) + device_heads_key(heads);
        const float *block = row + i % width / BLOCK * BLOCK;
        float want = wanted_number(block, i % BLOCK, keeping, bed->dtype);
        // Rounded to nearest; q4_0 has no +8, and half a code more below 7.
        float scale = fabsf(scale_of(block, keeping));
        float off = (keeping == DEVICE_KEEP_Q8_0 ? 0.5f : 1.0f) * scale +
                    (float)(bed_epsilon(bed) + 3 * F16_EPSILON) * fabsf(row[i % width]) + 0x1p-20f;
        assert_close(bed, "kept", i, found[i], row[i % width], off);
        if (found[i] != want) {
            fail_msg("path %s, %s, kind %d: number %zu is %.9g, wanted %.9g", bed->path,
                     dtype_name(bed->dtype), (int)keeping, i, (double)found[i], (double)want);
        }
    }
}

// Rows to any place, and nothing beside them.
static void try_rows(struct bed *bed, struct device_heads heads, enum device_keeping keeping) {
    enum { TOKENS = 19, BEFORE = 5, ROWS = BEFORE + TOKENS + 2 };
    size_t row = device_kept_bytes(heads, keeping, dtype_size(bed->dtype));
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    unsigned char *blank = malloc(ROWS * row);
    assert_non_null(blank);
    memset(blank, 0x5a, ROWS * row);
    void *kept = bed_upload(bed, blank, ROWS * row);
    void *out = bed_take(bed, TOKENS * width * dtype_size(bed->dtype));
    float *qkv = random_numbers(heads.head_dim, TOKENS * device_heads_width(heads), 3.0f, bed->dtype);
    must(bed,
         device_keep_packed(bed->device, kept, BEFORE, bed_put(bed, qkv, TOKENS * device_heads_width(heads)),
                            heads, TOKENS, keeping, &bed->error));
    unsigned char *bytes = bed_bytes(bed, kept, ROWS * row);
    assert_memory_equal(bytes, blank, BEFORE * row);
    assert_memory_equal(bytes + (BEFORE + TOKENS) * row, blank, (ROWS - BEFORE - TOKENS) * row);
    void *first = bed_upload(bed, bytes + BEFORE * row, TOKENS * row);
    must(bed, device_expand_kept(bed->device, out, first, heads, TOKENS, keeping, &bed->error));
    float *found = bed_get(bed, out, TOKENS * width);
    compare_rows(bed, found, qkv, heads, TOKENS, keeping);
    free(found);
    free(bytes);
    free(qkv);
    free(blank);
}

static void rows(const char *path, enum dtype dtype) {
    static const struct device_heads shapes[] = {
        {1, 1, 32, 0}, {4, 2, 64, 0}, {3, 3, 32, 7}, {5, 1, 128, 0}, {4, 4, 96, 96}};
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        try_rows(&bed, shapes[i], DEVICE_KEEP_Q8_0);
        try_rows(&bed, shapes[i], DEVICE_KEEP_Q4_0);
    }
    bed_close(&bed);
}

static void rows_are_kept_and_expanded(void **state) {
    (void)state;
    on_every_path(rows);
}

// ---- what has no code ----

static void specials(const char *path, enum dtype dtype) {
    const float numbers[] = {NAN, INFINITY, -INFINITY, 0, 1e-40f};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct bed bed = bed_open(path, dtype, 1);
        float keys[BLOCK] = {0};
        float values[BLOCK] = {1};
        keys[7] = numbers[i];
        keys[8] = isfinite(numbers[i]) ? 0 : 3;
        for (size_t k = 0; k < 2; k++) {
            unsigned char *found = pack_two(&bed, keys, values, both[k]);
            unsigned scale = (unsigned)found[0] | (unsigned)found[1] << 8;
            // Of zeros ggml's q4_0 has the scale -0.
            assert_true(isfinite(numbers[i]) ? (scale & 0x7fff) == 0 : scale == 0x7e00);
            for (size_t b = 2; b < block_bytes(both[k]); b++) {
                assert_int_equal(found[b], both[k] == DEVICE_KEEP_Q8_0 ? 0 : 0x88);
            }
            assert_int_equal(found[block_bytes(both[k]) + 2], both[k] == DEVICE_KEEP_Q8_0 ? 127 : 0x80);
            free(found);
        }
        bed_close(&bed);
    }
}

// A block with NaN or infinity comes back as NaN whole, where rows are counted that are not finite; numbers
// too small for a scale come back as zeros.
static void what_is_not_finite_stays_so(void **state) {
    (void)state;
    on_every_path(specials);
    struct bed bed = bed_open(NULL, DTYPE_F32, 1);
    const struct device_heads heads = {1, 1, BLOCK, 0};
    float row[3 * BLOCK] = {0};
    row[BLOCK + 3] = INFINITY;
    for (size_t k = 0; k < 2; k++) {
        void *kept = bed_take(&bed, 2 * MOST);
        void *out = bed_take(&bed, 2 * BLOCK * sizeof(float));
        must(&bed, device_keep_packed(bed.device, kept, 0, bed_put(&bed, row, 3 * BLOCK), heads, 1, both[k],
                                      &bed.error));
        must(&bed, device_expand_kept(bed.device, out, kept, heads, 1, both[k], &bed.error));
        float *found = bed_get(&bed, out, 2 * BLOCK);
        for (size_t i = 0; i < BLOCK; i++) {
            assert_true(isnan(found[i]));
            assert_true(found[BLOCK + i] == 0);
        }
        free(found);
    }
    bed_close(&bed);
}

// ---- refusals ----

static void refuse(struct bed *bed, struct device_heads heads, enum device_keeping keeping, void *buffer,
                   const char *why) {
    assert_int_equal(device_keep_packed(bed->device, buffer, 0, buffer, heads, 1, keeping, &bed->error),
                     STATUS_INTERNAL);
    assert_non_null(strstr(bed->error.message, why));
    assert_int_equal(device_expand_kept(bed->device, buffer, buffer, heads, 1, keeping, &bed->error),
                     STATUS_INTERNAL);
    assert_non_null(strstr(bed->error.message, why));
}

static void what_has_no_blocks_is_refused(void **state) {
    (void)state;
    struct bed bed = bed_open(NULL, DTYPE_F32, 1);
    void *buffer = bed_take(&bed, 4096);
    const struct device_heads heads = {1, 1, BLOCK, 0};
    refuse(&bed, (struct device_heads){1, 1, 48, 0}, DEVICE_KEEP_Q8_0, buffer, "whole blocks");
    refuse(&bed, (struct device_heads){3, 2, 32, 0}, DEVICE_KEEP_Q4_0, buffer, "kv_heads");
    refuse(&bed, heads, DEVICE_KEEP_COMPUTED, buffer, "no blocks are of that kind");
    refuse(&bed, heads, DEVICE_KEEP_Q8_0, NULL, "a buffer is missing");
    must(&bed, device_keep_packed(bed.device, NULL, 0, NULL, heads, 0, DEVICE_KEEP_Q8_0, &bed.error));
    must(&bed, device_expand_kept(bed.device, NULL, NULL, heads, 0, DEVICE_KEEP_Q8_0, &bed.error));
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_those_of_ggml),
        cmocka_unit_test(rows_are_kept_and_expanded),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(what_has_no_blocks_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
