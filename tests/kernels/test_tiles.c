// SPDX-License-Identifier: MIT
// The tiles: the twin against the manual's definition, the instructions (native, or decoded and emulated)
// against the twin bit for bit, and sizes of blocks that change no bit.
#include "device_testing.h"

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/tile_kernels.h"
#include "kernels/cpu/tile_matmul.h"
#include "kernels/cpu/tiles.h"
#include "tile_emulation.h"

// ---- one tile_dot ----

enum variant { AS_DEFINED, ONE_CHAIN, KEEPS_SUBNORMALS, ADDS_TO_SUMS, DROPS_LAST, VARIANTS };

static float flushed(float value, enum variant variant) {
    return variant != KEEPS_SUBNORMALS && fpclassify(value) == FP_SUBNORMAL ? copysignf(0, value) : value;
}

// TDPBF16PS word for word, or with one planted mistake. left [16][32], right [16][32]: pairs, sums [16][16].
static void dot_by_manual(float *sums, const uint16_t *left, const uint16_t *right, enum variant variant) {
    for (size_t m = 0; m < 16; m++) {
        for (size_t n = 0; n < 16; n++) {
            float before = flushed(sums[16 * m + n], variant);
            float chain[2] = {variant == ADDS_TO_SUMS ? before : 0, 0};
            for (size_t k = 0; k < (variant == DROPS_LAST ? 31 : 32); k++) {
                float a = flushed(bf16_to_f32(left[32 * m + k]), variant);
                float b = flushed(bf16_to_f32(right[32 * (k / 2) + 2 * n + k % 2]), variant);
                float *sum = &chain[variant == ONE_CHAIN ? 0 : k % 2];
                *sum = flushed(fmaf(a, b, *sum), variant);
            }
            float both = flushed(chain[0] + chain[1], variant);
            sums[16 * m + n] = variant == ADDS_TO_SUMS ? both : flushed(before + both, variant);
        }
    }
}

static uint16_t random_half(uint64_t *seed, float scale) {
    return f32_to_bf16((float)(2 * random_unit(seed) - 1) * scale);
}

// Numbers that two sums of products differ in, NaN being equal to NaN.
static size_t count_different(const float *a, const float *b, size_t count) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        bool same = isnan(a[i]) ? isnan(b[i]) != 0 : memcmp(&a[i], &b[i], sizeof *a) == 0;
        different += same ? 0 : 1;
    }
    return different;
}

struct operands {
    uint16_t left[16 * 32];
    uint16_t right[16 * 32];
    float sums[16 * 16];
};

static void fill_operands(struct operands *in, uint64_t seed, float scale, float sums) {
    for (size_t i = 0; i < 16 * 32; i++) {
        in->left[i] = random_half(&seed, scale);
        in->right[i] = random_half(&seed, scale);
    }
    for (size_t i = 0; i < 16 * 16; i++) {
        in->sums[i] = (float)(2 * random_unit(&seed) - 1) * sums;
    }
}

// How many numbers of many products come out otherwise through the twin than by a variant of the definition.
static size_t compare_variant(enum variant variant) {
    // Ordinary numbers, products that leave the range at either end, sums that are subnormal, special values.
    static const float scales[][2] = {{1.0f, 10.0f},       {0x1p-62f, 0x1p-124f},  {0x1p-66f, 0x1p-120f},
                                      {0x1p63f, 0x1p126f}, {0x1p-126f, 0x1p-126f}, {1.0f, 0x1p-127f}};
    size_t different = 0;
    for (size_t i = 0; i < 6 * 8; i++) {
        struct operands in;
        float wanted[16 * 16];
        fill_operands(&in, 100 + i, scales[i / 8][0], scales[i / 8][1]);
        if (i % 8 == 7) {
            in.left[5 * 32 + 3] = f32_to_bf16(INFINITY);
            in.right[7 * 32 + 11] = f32_to_bf16(NAN);
            in.left[9 * 32 + 8] = 0;
        }
        memcpy(wanted, in.sums, sizeof wanted);
        dot_by_manual(wanted, in.left, in.right, variant);
        tile_load(0, in.sums, 64);
        tile_load(1, in.left, 64);
        tile_load(2, in.right, 64);
        tile_dot(0, 1, 2);
        tile_store(0, in.sums, 64);
        different += count_different(in.sums, wanted, 16 * 16);
    }
    return different;
}

static void test_twin(void **state) {
    (void)state;
    assert_true(TILES_ARE_TWIN); // of this file's build
    tiles_configure();
    assert_int_equal(compare_variant(AS_DEFINED), 0);
    for (enum variant planted = AS_DEFINED + 1; planted < VARIANTS; planted++) { // a mistake is seen
        assert_true(compare_variant(planted) > 0);
    }
    tiles_release();
}

// ---- the instructions ----

#if defined(__x86_64__)
static bool has_path(const char *wanted) {
    bool available;
    const char *name;
    for (int i = 0; (name = device_cpu_path(i, &available)) != NULL; i++) {
        if (strcmp(name, wanted) == 0) {
            return available;
        }
    }
    return false;
}

// Lets a test run on the instructions' build of the micro-kernels; false, and says so, where nothing can run
// it.
static bool instructions_start(void) {
    if (has_path("amxbf16")) {
        print_message("AMX instructions: this processor's\n");
        return true;
    }
    if (!has_path("avx512bf16")) {
        print_message(
            "skipped: path amxbf16, which this processor cannot run beside its tile instructions\n");
        return false;
    }
    print_message("AMX instructions: decoded and emulated, this processor does not have them\n");
    tile_emulation_start();
    return true;
}

static void instructions_end(void) {
    tile_emulation_end();
}

enum { GROUPED = 32 * 32 * 3, SUMS_STRIDE = 48 };

// Both builds of one multiplication, sums and all that lies beside them.
static void multiply_both(bool two, bool accumulate, size_t steps, float scale, uint64_t seed) {
    uint16_t rows[GROUPED];
    uint16_t panel[GROUPED];
    float native[32 * SUMS_STRIDE];
    float twin_sums[32 * SUMS_STRIDE];
    for (size_t i = 0; i < GROUPED; i++) {
        rows[i] = random_half(&seed, scale);
        panel[i] = random_half(&seed, scale);
    }
    for (size_t i = 0; i < 32 * SUMS_STRIDE; i++) {
        native[i] = twin_sums[i] = (float)(2 * random_unit(&seed) - 1) * scale * scale;
    }
    size_t tile = 16 * 32 * sizeof(uint16_t);
    struct tile_rows left = {rows, 64, tile, two ? 2 * tile : tile, two};
    struct tile_ahead ahead = {panel, 3};
    amxbf16_bf16.begin();
    amxbf16_bf16.tiles->multiply(native, SUMS_STRIDE, &left, panel, steps, accumulate, ahead);
    amxbf16_bf16.end();
    amxbf16_twin_bf16.begin();
    amxbf16_twin_bf16.tiles->multiply(twin_sums, SUMS_STRIDE, &left, panel, steps, accumulate, ahead);
    amxbf16_twin_bf16.end();
    assert_memory_equal(native, twin_sums, sizeof native);
}

static void test_instructions(void **state) {
    (void)state;
    if (!instructions_start()) {
        return;
    }
    for (uint64_t i = 0; i < 24; i++) {
        float scale = i < 16 ? 0.7f : 0x1p-63f; // the smaller one: some products and sums are subnormal
        multiply_both(i % 2 == 1, i / 2 % 2 == 1, 1 + i % 3, scale, 500 + i);
    }
    float sums[TILE_ROWS_MOST * TILE_COLUMNS_MOST] = {0};
    assert_true(amxbf16_bf16.peak(5, sums) == 5 * 2.0 * 32 * 32 * 32);
    for (size_t i = 0; i < 16 * 16; i++) {
        assert_true(sums[i] == 5 * 32.0f);
    }
    instructions_end();
}

// A product of a device on the given build: out, and the weights as they lie.
static unsigned char *product_on(const struct micro_kernels *kernels, size_t tokens, size_t rows,
                                 size_t columns, enum device_store store, size_t *bytes) {
    struct bed bed = bed_open("amxbf16-twin", DTYPE_BF16, 2);
    cpu_of(bed.device)->kernels = kernels;
    float *weights = random_numbers(rows, rows * columns, 0.5f, DTYPE_BF16);
    float *numbers = random_numbers(columns, tokens * columns, 1.0f, DTYPE_BF16);
    float *before = random_numbers(tokens, tokens * rows, 2.0f, DTYPE_BF16);
    struct device_matrix matrix = bed_matrix(&bed, weights, rows, columns);
    void *x = bed_put(&bed, numbers, tokens * columns);
    void *bias = bed_put(&bed, weights, rows);
    void *out = bed_put(&bed, before, tokens * rows);
    must(&bed, device_matmul(bed.device, out, x, &matrix, bias, tokens, store, &bed.error));
    size_t matrix_bytes;
    assert_true(device_matrix_bytes(bed.device, &matrix, &matrix_bytes));
    size_t out_bytes = tokens * rows * sizeof(uint16_t);
    unsigned char *got = malloc(out_bytes + matrix_bytes);
    assert_non_null(got);
    memcpy(got, out, out_bytes);
    memcpy(got + out_bytes, matrix.data, matrix_bytes);
    *bytes = out_bytes + matrix_bytes;
    free(before);
    free(numbers);
    free(weights);
    bed_close(&bed);
    return got;
}

// Whole products: packing, epilogues and tails of the AVX-512 build, the tile instructions around them.
static void test_products(void **state) {
    (void)state;
    static const size_t shapes[][3] = {{1, 64, 64}, {37, 70, 100}, {50, 33, 290}, {130, 96, 40}};
    if (!instructions_start()) {
        return;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        size_t bytes;
        size_t twin_bytes;
        enum device_store store = i % 2 == 0 ? DEVICE_STORE : DEVICE_ADD;
        unsigned char *native =
            product_on(&amxbf16_bf16, shapes[i][0], shapes[i][1], shapes[i][2], store, &bytes);
        unsigned char *by_twin =
            product_on(&amxbf16_twin_bf16, shapes[i][0], shapes[i][1], shapes[i][2], store, &twin_bytes);
        assert_int_equal(bytes, twin_bytes);
        assert_memory_equal(native, by_twin, bytes);
        free(native);
        free(by_twin);
    }
    instructions_end();
}

static float *attention_on(const struct micro_kernels *kernels, const int32_t *starts, size_t texts,
                           struct device_attention *shape) {
    struct bed bed = bed_open("amxbf16-twin", DTYPE_BF16, 2);
    cpu_of(bed.device)->kernels = kernels;
    size_t tokens = (size_t)starts[texts];
    size_t width = (shape->heads.heads + 2 * shape->heads.kv_heads) * shape->heads.head_dim;
    size_t out_width = shape->heads.heads * shape->heads.head_dim;
    float *numbers = random_numbers(9, tokens * width, 1.0f, DTYPE_BF16);
    size_t bytes;
    void *scratch;
    assert_true(device_attention_scratch(bed.device, shape, &bytes));
    must(&bed, device_take(bed.device, DEVICE_SCRATCH, bytes, &scratch, &bed.error));
    void *qkv = bed_put(&bed, numbers, tokens * width);
    void *out = bed_take(&bed, tokens * out_width * sizeof(uint16_t));
    void *device_starts = bed_upload(&bed, starts, (texts + 1) * sizeof *starts);
    must(&bed, device_attention(
                   bed.device, out, qkv, shape,
                   (struct device_texts){.starts = device_starts, .host_starts = starts, .count = texts},
                   scratch, &bed.error));
    float *got = bed_get(&bed, out, tokens * out_width);
    free(numbers);
    bed_close(&bed);
    return got;
}

// Both builds of attention: their rows have other widths of vectors, so that sums of probabilities may differ
// in the last bits, which shows as one step of bfloat16 at most.
static void test_attention(void **state) {
    (void)state;
    static const int32_t starts[] = {0, 3, 70, 350};
    struct device_attention shape = {.heads = {4, 2, 40, 0}, .scale = 0.158f, .window = 100, .longest = 280};
    if (!instructions_start()) {
        return;
    }
    float *native = attention_on(&amxbf16_bf16, starts, 3, &shape);
    float *by_twin = attention_on(&amxbf16_twin_bf16, starts, 3, &shape);
    for (size_t i = 0; i < 350 * 160; i++) {
        assert_true(isfinite(native[i]) && isfinite(by_twin[i]));
        assert_true(fabsf(native[i] - by_twin[i]) <= 0x1p-7f * (fabsf(by_twin[i]) + 0.02f));
    }
    free(native);
    free(by_twin);
    instructions_end();
}
#endif

// ---- sizes of blocks ----

static uint16_t *product_in_blocks(struct tile_blocks blocks, size_t tokens, int threads) {
    enum { ROWS = 100, COLUMNS = 700 };
    struct bed bed = bed_open("amxbf16-twin", DTYPE_BF16, threads);
    cpu_of(bed.device)->tile_blocks = blocks;
    float *weights = random_numbers(1, ROWS * COLUMNS, 0.5f, DTYPE_BF16);
    float *numbers = random_numbers(2, tokens * COLUMNS, 1.0f, DTYPE_BF16);
    struct device_matrix matrix = bed_matrix(&bed, weights, ROWS, COLUMNS);
    void *x = bed_put(&bed, numbers, tokens * COLUMNS);
    void *out = bed_take(&bed, tokens * ROWS * sizeof(uint16_t));
    must(&bed, device_matmul(bed.device, out, x, &matrix, NULL, tokens, DEVICE_STORE, &bed.error));
    uint16_t *got = bed_bytes(&bed, out, tokens * ROWS * sizeof(uint16_t));
    free(numbers);
    free(weights);
    bed_close(&bed);
    return got;
}

static void test_blocks(void **state) {
    (void)state;
    enum { TOKENS = 300, BYTES = TOKENS * 100 * 2 };
    // Of a large machine, this one's, one of no caches, and sizes that leave remainders everywhere.
    const struct tile_blocks blocks[] = {cpu_tile_blocks(48 << 10, 2 << 20), cpu_tile_blocks_here(),
                                         cpu_tile_blocks(1, 1), cpu_tile_blocks(7 << 10, 100 << 10)};
    assert_int_equal(blocks[0].steps, 8);
    assert_int_equal(blocks[0].chunk_bytes, 1 << 20);
    assert_true(blocks[1].steps > 0 && blocks[1].chunk_bytes > 0);
    assert_int_equal(blocks[2].steps, 1);
    assert_int_equal(cpu_tile_blocks(0, 0).chunk_bytes, 512 << 10);
    uint16_t *wanted = product_in_blocks(blocks[0], TOKENS, 1);
    for (size_t i = 1; i < sizeof blocks / sizeof blocks[0]; i++) {
        uint16_t *got = product_in_blocks(blocks[i], TOKENS, (int)i);
        assert_memory_equal(got, wanted, BYTES);
        free(got);
    }
    free(wanted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twin),
        cmocka_unit_test(test_blocks),
#if defined(__x86_64__)
        cmocka_unit_test(test_instructions),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_attention),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
