// SPDX-License-Identifier: MIT
// What a device says it supports and what its operations take are the same: every size of heads, and
// many of a delta net's, are tried, whether admitted or refused, in every dtype, on every path and device.
#include "device_testing.h"

enum { TOKENS = 3, HEAD_DIM_MOST = 530, HEADS = 2, GROUP_MOST = 12, DELTA_SCRATCH = 1 << 16 };

static struct device_shape shape_of(size_t heads, size_t kv_heads, size_t head_dim) {
    return (struct device_shape){.heads = {heads, kv_heads, head_dim, 0}, .hidden = 64, .intermediate = 64};
}

struct heads_work { // memory for heads of every size
    void *qkv;
    void *out;
    void *norm;
    void *turns;
    void *rows;
    void *starts;
    void *scratch;
};

static struct device_attention attention_of(struct device_heads heads) {
    return (struct device_attention){.heads = heads, .scale = 0.1f, .longest = TOKENS};
}

// Scratch for any of the shapes.
static void *take_scratch(struct bed *bed) {
    size_t most = 0;
    void *scratch;
    for (size_t head_dim = 1; head_dim <= HEAD_DIM_MOST; head_dim++) {
        for (size_t heads = HEADS; heads <= GROUP_MOST; heads += GROUP_MOST - HEADS) {
            struct device_attention shape = attention_of((struct device_heads){heads, 1, head_dim, 0});
            size_t bytes;
            if (device_attention_scratch(bed->device, &shape, &bytes) && bytes > most) {
                most = bytes;
            }
        }
    }
    must(bed, device_take(bed->device, DEVICE_SCRATCH, most, &scratch, &bed->error));
    return scratch;
}

static struct heads_work take_work(struct bed *bed) {
    static const int32_t rows[TOKENS] = {0, 1, 2};
    static const int32_t starts[2] = {0, TOKENS};
    size_t numbers = (HEADS + 2) * HEAD_DIM_MOST * TOKENS; // enough for every shape
    float *random = random_numbers(1, numbers, 1.0f, DTYPE_F32);
    struct heads_work work = {
        .qkv = bed_put(bed, random, numbers),
        .out = bed_take(bed, HEADS * HEAD_DIM_MOST * TOKENS * sizeof(float)),
        .norm = bed_put(bed, random, HEAD_DIM_MOST),
        .turns = bed_upload(bed, random, HEAD_DIM_MOST / 2 * TOKENS * sizeof(float)),
        .rows = bed_upload(bed, rows, sizeof rows),
        .starts = bed_upload(bed, starts, sizeof starts),
        .scratch = take_scratch(bed),
    };
    free(random);
    return work;
}

// Whether every operation on heads takes them, and gives numbers.
static bool computes(struct bed *bed, const struct heads_work *work, struct device_heads heads) {
    static const int32_t starts[2] = {0, TOKENS};
    const struct device_attention shape = attention_of(heads);
    struct device_fence fence;
    size_t bytes;
    if (!device_attention_scratch(bed->device, &shape, &bytes)) {
        return false;
    }
    int status = device_qk_norm_rope(bed->device, work->qkv,
                                     &(struct device_rope){.q_norm = {.epsilon = 1e-6f, .weight = work->norm},
                                                           .k_norm = {.epsilon = 1e-6f, .weight = work->norm},
                                                           .cosine = work->turns,
                                                           .sine = work->turns,
                                                           .row = work->rows,
                                                           .part = heads.head_dim},
                                     heads, TOKENS, &bed->error);
    status = status == STATUS_OK
                 ? device_attention(
                       bed->device, work->out, work->qkv, &shape,
                       (struct device_texts){.starts = work->starts, .host_starts = starts, .count = 1},
                       work->scratch, &bed->error)
                 : status;
    if (status != STATUS_OK) {
        return false;
    }
    must(bed, device_fence(bed->device, &fence, &bed->error));
    must(bed, device_wait(bed->device, fence, NULL, &bed->error));
    size_t count = TOKENS * heads.heads * heads.head_dim;
    float *numbers = bed_get(bed, work->out, count);
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(numbers[i]));
    }
    free(numbers);
    return true;
}

static void every_head_dim(const char *path, enum dtype dtype) {
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    struct heads_work work = take_work(&bed);
    for (size_t head_dim = 1; head_dim <= HEAD_DIM_MOST; head_dim++) {
        struct device_shape shape = shape_of(HEADS, 1, head_dim);
        struct device_refusal refusal = {0};
        bool admitted = device_supports(bed.device, &shape, &refusal);
        if (admitted != computes(&bed, &work, shape.heads)) {
            fail_msg("path %s, %s: heads of %zu numbers are %s, and the operations say: %s", path,
                     dtype_name(dtype), head_dim, admitted ? "admitted" : "refused", bed.error.message);
        }
        assert_true(admitted || (refusal.dimension == DEVICE_HEAD_DIM && refusal.can[0] != 0));
    }
    bed_close(&bed);
}

static void test_every_head_dim(void **state) {
    (void)state;
    on_every_path(every_head_dim);
}

static void every_group(const char *path, enum dtype dtype) {
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    struct heads_work work = take_work(&bed);
    for (size_t heads = 0; heads <= GROUP_MOST; heads++) {
        for (size_t kv_heads = 0; kv_heads <= GROUP_MOST; kv_heads++) {
            struct device_shape shape = shape_of(heads, kv_heads, 8);
            struct device_refusal refusal;
            bool divides = heads > 0 && kv_heads > 0 && heads % kv_heads == 0;
            assert_int_equal(device_supports(bed.device, &shape, &refusal), divides);
            assert_int_equal(computes(&bed, &work, shape.heads), divides);
            if (heads > 0 && !divides) {
                assert_int_equal(refusal.dimension, DEVICE_KV_HEADS);
            }
        }
    }
    bed_close(&bed);
}

static void test_every_group(void **state) {
    (void)state;
    on_every_path(every_group);
}

// Whether a delta net of these sizes is computed, and gives numbers.
static bool computes_delta_net(struct bed *bed, const struct heads_work *work, size_t key_dim,
                               size_t value_dim) {
    static const int32_t starts[2] = {0, TOKENS};
    const struct device_delta_net net = {.key_heads = 1,
                                         .value_heads = 1,
                                         .key_dim = key_dim,
                                         .value_dim = value_dim,
                                         .taps = 2,
                                         .convolution = work->qkv,
                                         .decay = work->norm,
                                         .step_bias = work->norm,
                                         .norm = work->norm,
                                         .epsilon = 1e-6f};
    struct device_texts texts = {.starts = work->starts, .host_starts = starts, .count = 1};
    size_t bytes;
    if (!device_delta_net_scratch(bed->device, &net, TOKENS, &bytes)) {
        return false;
    }
    assert_true(bytes <= DELTA_SCRATCH);
    if (device_delta_net(bed->device, work->out, work->qkv, &net, texts, NULL, work->scratch, &bed->error) !=
        STATUS_OK) {
        return false;
    }
    float *numbers = bed_get(bed, work->out, TOKENS * value_dim);
    for (size_t i = 0; i < TOKENS * value_dim; i++) {
        assert_true(isfinite(numbers[i]));
    }
    free(numbers);
    return true;
}

static void delta_nets(const char *path, enum dtype dtype) {
    static const size_t dims[] = {1, 2, 4, 8, 12, 16, 24, 60, 100, 128, 200, 252, 256, 258, 264};
    enum { DIMS = sizeof dims / sizeof dims[0], USUAL = 8 };
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    struct heads_work work = take_work(&bed);
    must(&bed, device_take(bed.device, DEVICE_SCRATCH, DELTA_SCRATCH, &work.scratch, &bed.error));
    for (size_t i = 0; i < 2 * DIMS; i++) {
        struct device_shape shape = shape_of(HEADS, 1, 8);
        shape.key_dim = i < DIMS ? dims[i] : USUAL;
        shape.value_dim = i < DIMS ? USUAL : dims[i - DIMS];
        struct device_refusal refusal = {0};
        bool admitted = device_supports(bed.device, &shape, &refusal);
        if (admitted != computes_delta_net(&bed, &work, shape.key_dim, shape.value_dim)) {
            fail_msg("path %s, %s: keys of %zu and values of %zu are %s, and the operation says: %s", path,
                     dtype_name(dtype), shape.key_dim, shape.value_dim, admitted ? "admitted" : "refused",
                     bed.error.message);
        }
        assert_true(admitted || (refusal.dimension == (i < DIMS ? DEVICE_KEY_DIM : DEVICE_VALUE_DIM) &&
                                 refusal.can[0] != 0));
    }
    bed_close(&bed);
}

static void test_delta_nets(void **state) {
    (void)state;
    on_every_path(delta_nets);
}

// Rows of any length are computed: none of them is refused.
static void every_width(const char *path, enum dtype dtype) {
    static const int32_t ids[TOKENS] = {0, 1, 1};
    static const struct device_span spans[1] = {{0, TOKENS}};
    enum { WIDTH_MOST = 300 };
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    struct device *device = bed.device;
    struct device_fence fence;
    float *random = random_numbers(1, 2 * TOKENS * WIDTH_MOST, 1.0f, DTYPE_F32);
    void *x = bed_put(&bed, random, 2 * TOKENS * WIDTH_MOST);
    void *out = bed_take(&bed, TOKENS * WIDTH_MOST * sizeof(float));
    void *checks = bed_take(&bed, sizeof(struct device_row_check));
    void *device_ids = bed_upload(&bed, ids, sizeof ids);
    void *device_spans = bed_upload(&bed, spans, sizeof spans);
    for (size_t width = 0; width <= WIDTH_MOST; width += 1 + width / 40) {
        struct device_refusal refusal;
        struct device_shape wide = {.heads = {2, 1, 8, 0}, .hidden = width, .intermediate = 64};
        struct device_shape deep = {.heads = {2, 1, 8, 0}, .hidden = 64, .intermediate = width};
        assert_int_equal(device_supports(device, &wide, &refusal), width > 0);
        assert_int_equal(device_supports(device, &deep, &refusal), width > 0);
        int expected = width > 0 ? STATUS_OK : STATUS_INTERNAL;
        struct error *err = &bed.error;
        assert_int_equal(device_embed(device, out, x, device_ids, 1, DEVICE_STORE, TOKENS, width, err),
                         expected);
        assert_int_equal(device_norm(device, out, x, &(struct device_norm){.epsilon = 1e-6f, .weight = x},
                                     DEVICE_STORE, TOKENS, width, err),
                         expected);
        assert_int_equal(device_activate(device, out, x, DEVICE_SILU, true, TOKENS, width, err), expected);
        assert_int_equal(device_pool(device, out, DTYPE_F32, checks, x, device_spans, NULL, 1, width, err),
                         expected);
    }
    must(&bed, device_fence(device, &fence, &bed.error));
    must(&bed, device_wait(device, fence, NULL, &bed.error));
    free(random);
    bed_close(&bed);
}

static void test_every_width(void **state) {
    (void)state;
    on_every_path(every_width);
}

// Far beyond what any model has.
static void test_huge(void **state) {
    (void)state;
    struct bed bed = bed_open_rows("portable", DTYPE_F32, 1, TOKENS);
    struct device_attention attention = {
        .heads = {2, 1, ((size_t)1 << 20) + 8, 0}, .scale = 0.1f, .longest = TOKENS};
    struct device_shape shape = {.heads = attention.heads, .hidden = 64, .intermediate = 64};
    struct device_refusal refusal;
    size_t bytes;
    assert_false(device_supports(bed.device, &shape, &refusal));
    assert_int_equal(refusal.dimension, DEVICE_HEAD_DIM);
    if (test_on_cpu()) {
        assert_false(device_attention_scratch(bed.device, &attention, &bytes));
    }
    bed_close(&bed);
}

// Matmuls of sizes that are multiples of 8 are never refused, and nothing is taken for the answer.
static void matmuls(const char *path, enum dtype dtype) {
    const struct device_options options = {
        .dtype = dtype, .threads = 1, .cpu_path = test_on_cpu() ? path : NULL};
    struct bed bed = {.dtype = dtype, .path = path};
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    for (size_t rows = 8; rows <= 4096; rows *= 4) {
        for (size_t columns = 8; columns <= 4096; columns *= 4) {
            for (int bias = 0; bias <= 1; bias++) {
                must(&bed,
                     device_check_matmul(bed.device, 256, rows, columns, bias, DEVICE_STORE, &bed.error));
                must(&bed, device_check_matmul(bed.device, 256, rows, columns, bias, DEVICE_ADD, &bed.error));
            }
        }
    }
    assert_int_equal(device_check_matmul(bed.device, 0, 8, 8, false, DEVICE_STORE, &bed.error),
                     STATUS_INTERNAL);
    bed_close(&bed);
}

static void test_matmuls(void **state) {
    (void)state;
    on_every_path(matmuls);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_head_dim), cmocka_unit_test(test_every_group),
        cmocka_unit_test(test_every_width),    cmocka_unit_test(test_huge),
        cmocka_unit_test(test_matmuls),        cmocka_unit_test(test_delta_nets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
