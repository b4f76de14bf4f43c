// SPDX-License-Identifier: MIT
// A slice of a text, whose keys and values up to its end were kept, has the bits that it has in the whole
// text: on every path, with grouped heads and windows, whatever the slices' sizes and the text's end.
#include "base/size.h"
#include "device_testing.h"

struct text_case {
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t window;
    size_t tokens;
    size_t chunk;
    float softcap;
    bool sinks;
    bool slopes;
    size_t gap;
};

// On a GPU heads are multiples of 8; there the other cases are left out. Windows end within slices, before
// them and beyond the text; texts end within tiles of every height.
static const struct text_case cases[] = {
    {2, 1, 16, 0, .tokens = 385},
    {3, 1, 8, 0, .tokens = 391},
    {2, 2, 10, 0, .tokens = 389},
    {1, 1, 128, 0, .tokens = 387},
    {1, 1, 72, 0, .tokens = 200},
    {1, 1, 256, 0, .tokens = 194},
    {2, 1, 32, 64, .tokens = 590},
    {2, 2, 66, 191, .tokens = 961},
    {3, 1, 40, 1, .tokens = 580},
    {2, 1, 64, 700, .tokens = 773},
    {1, 1, 192, 33, .tokens = 250},
    {4, 2, 8, 5000, .tokens = 577},
    {.heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 583, .chunk = 250, .gap = 24},
    {5, 1, 128, 0, .tokens = 583, .chunk = 290},
    {2, 1, 40, 0, .tokens = 577, .chunk = 192},
    {3, 1, 16, 0, .tokens = 400, .chunk = 1},
    {2, 1, 32, 130, .tokens = 590, .chunk = 100, .sinks = true, .softcap = 3.0f},
    {.heads = 2, .kv_heads = 2, .head_dim = 8, .tokens = 450, .sinks = true, .slopes = true},
};

struct whole {
    float *qkv; // [tokens, stride]
    size_t stride;
    size_t width;
    struct device_attention shape;
    void *scratch;
};

static void *attend(struct bed *bed, const struct whole *whole, size_t first, size_t count, void *kept) {
    int32_t starts[2] = {0, (int32_t)count};
    void *qkv = bed_put(bed, whole->qkv + first * whole->stride, count * whole->stride);
    void *out = bed_take(bed, count * whole->width * dtype_size(bed->dtype));
    struct device_texts texts = {.starts = bed_upload(bed, starts, sizeof starts),
                                 .host_starts = starts,
                                 .count = 1,
                                 .kept = kept,
                                 .before = first};
    if (kept != NULL) {
        must(bed, device_keep(bed->device, kept, first, qkv, whole->shape.heads, count, &bed->error));
    }
    must(bed, device_attention(bed->device, out, qkv, &whole->shape, texts, whole->scratch, &bed->error));
    return bed_bytes(bed, out, count * whole->width * dtype_size(bed->dtype));
}

static void same_in_slices(struct bed *bed, const struct text_case *c, const struct whole *whole,
                           const unsigned char *wanted, size_t slice) {
    size_t row_bytes = whole->width * dtype_size(bed->dtype);
    void *kept = bed_take(bed, c->tokens * 2 * c->kv_heads * c->head_dim * dtype_size(bed->dtype));
    for (size_t first = 0; first < c->tokens; first += slice) {
        size_t count = size_min(slice, c->tokens - first);
        unsigned char *found = attend(bed, whole, first, count, kept);
        for (size_t t = 0; t < count; t++) {
            if (memcmp(found + t * row_bytes, wanted + (first + t) * row_bytes, row_bytes) != 0) {
                fail_msg(
                    "path %s, %s: %zu heads of %zu, %zu numbers, window %zu: token %zu of %zu differs in "
                    "slices of %zu",
                    bed->path, dtype_name(bed->dtype), c->heads, c->kv_heads, c->head_dim, c->window,
                    first + t, c->tokens, slice);
            }
        }
        free(found);
    }
}

static void try_case(const char *path, enum dtype dtype, const struct text_case *c, size_t slice) {
    struct bed bed = bed_open(path, dtype, 2);
    static const float sinks[4] = {0.5f, -1, 2, 0};
    static const float slopes[4] = {0.25f, 0.0625f, 0.5f, 0.125f};
    struct device_heads heads = {c->heads, c->kv_heads, c->head_dim, c->gap};
    struct whole whole = {.stride = device_heads_width(heads),
                          .width = c->heads * c->head_dim,
                          .shape = {.heads = heads,
                                    .scale = 1.0f / sqrtf((float)c->head_dim),
                                    .window = c->window,
                                    .chunk = c->chunk,
                                    .softcap = c->softcap,
                                    .longest = c->tokens}};
    whole.shape.sinks = c->sinks ? bed_put(&bed, sinks, c->heads) : NULL;
    whole.shape.slopes = c->slopes ? bed_upload(&bed, slopes, c->heads * sizeof *slopes) : NULL;
    size_t bytes;
    assert_true(device_attention_scratch(bed.device, &whole.shape, &bytes));
    must(&bed, device_take(bed.device, DEVICE_SCRATCH, bytes, &whole.scratch, &bed.error));
    whole.qkv = random_numbers(c->tokens, c->tokens * whole.stride, 2.0f, dtype);
    unsigned char *wanted = attend(&bed, &whole, 0, c->tokens, NULL);
    same_in_slices(&bed, c, &whole, wanted, slice);
    free(wanted);
    free(whole.qkv);
    bed_close(&bed);
}

static void slices(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (test_on_cpu() || cases[i].head_dim % 8 == 0) {
            try_case(path, dtype, &cases[i], (1 + i % 3 / 2) * DEVICE_SLICE);
        }
    }
}

static void a_slice_has_the_bits_of_the_whole(void **state) {
    (void)state;
    on_every_path(slices);
}

// Rows of any width to any place, and none beside them.
static void keeps(const char *path, enum dtype dtype) {
    static const struct device_heads shapes[] = {{4, 2, 16, 0},  {3, 1, 6, 0},   {1, 1, 2, 0}, {2, 2, 40, 0},
                                                 {5, 1, 128, 0}, {2, 1, 16, 24}, {1, 1, 6, 3}};
    enum { TOKENS = 37, BEFORE = 11, ROWS = BEFORE + TOKENS + 3 };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct bed bed = bed_open(path, dtype, 2);
        struct device_heads heads = shapes[i];
        size_t queries = device_heads_key(heads);
        size_t width = 2 * heads.kv_heads * heads.head_dim;
        float *qkv = random_numbers(i, TOKENS * (queries + width), 3.0f, dtype);
        float *wanted = random_numbers(i + 100, ROWS * width, 3.0f, dtype);
        void *kept = bed_put(&bed, wanted, ROWS * width);
        must(&bed, device_keep(bed.device, kept, BEFORE, bed_put(&bed, qkv, TOKENS * (queries + width)),
                               heads, TOKENS, &bed.error));
        for (size_t t = 0; t < TOKENS; t++) {
            memcpy(wanted + (BEFORE + t) * width, qkv + t * (queries + width) + queries,
                   width * sizeof *wanted);
        }
        float *found = bed_get(&bed, kept, ROWS * width);
        assert_memory_equal(found, wanted, ROWS * width * sizeof *wanted);
        free(found);
        free(wanted);
        free(qkv);
        bed_close(&bed);
    }
}

static void keys_and_values_are_kept(void **state) {
    (void)state;
    on_every_path(keeps);
}

static void what_is_no_slice_is_refused(void **state) {
    (void)state;
    struct bed bed = bed_open("portable", DTYPE_F32, 1);
    struct device_attention shape = {.heads = {1, 1, 8}, .scale = 1, .longest = 2 * DEVICE_SLICE};
    int32_t starts[3] = {0, 4, 8};
    void *buffer = bed_take(&bed, 4096);
    const struct {
        struct device_texts texts;
        const char *why;
    } wrong[] = {
        {{.starts = starts, .host_starts = starts, .count = 1, .kept = NULL, .before = DEVICE_SLICE},
         "kept keys and values are missing"},
        {{.starts = starts, .host_starts = starts, .count = 2, .kept = buffer, .before = DEVICE_SLICE},
         "a slice is of one text"},
        {{.starts = starts + 1, .host_starts = starts + 1, .count = 1, .kept = buffer, .before = 0},
         "a slice is of one text"},
        {{.starts = starts, .host_starts = starts, .count = 1, .kept = buffer, .before = DEVICE_SLICE / 2},
         "a slice begins within a tile"},
        {{.starts = starts, .host_starts = starts, .count = 1, .kept = buffer, .before = 2 * DEVICE_SLICE},
         "the longest was planned as"},
        {{.starts = starts, .host_starts = starts, .count = 1, .kept = buffer, .before = 3 * DEVICE_SLICE},
         "the longest was planned as"},
    };
    size_t bytes;
    void *scratch;
    assert_true(device_attention_scratch(bed.device, &shape, &bytes));
    must(&bed, device_take(bed.device, DEVICE_SCRATCH, bytes, &scratch, &bed.error));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(
            device_attention(bed.device, buffer, buffer, &shape, wrong[i].texts, scratch, &bed.error),
            STATUS_INTERNAL);
        assert_non_null(strstr(bed.error.message, wrong[i].why));
    }
    assert_int_equal(device_keep(bed.device, NULL, 0, buffer, shape.heads, 1, &bed.error), STATUS_INTERNAL);
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slice_has_the_bits_of_the_whole),
        cmocka_unit_test(keys_and_values_are_kept),
        cmocka_unit_test(what_is_no_slice_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
