// Attention of every path against double precision: grouped heads, windows, odd head sizes, many texts.
#include "device_testing.h"

struct attention_case {
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t window;
    float spread; // of queries and keys: large ones make sharp softmaxes
    size_t texts;
    int32_t lengths[5];
};

// On a GPU heads are multiples of 8 up to 256; there the other cases are left out.
static const struct attention_case cases[] = {
    {1, 1, 2, 0, 1.0f, 1, {1}},
    {2, 1, 8, 0, 1.0f, 3, {1, 2, 7, 0}},
    {4, 2, 10, 3, 2.0f, 4, {5, 1, 13, 66}},
    {3, 1, 24, 1, 1.0f, 2, {9, 70}},
    {6, 6, 66, 0, 1.0f, 2, {65, 130}},
    {33, 11, 16, 40, 1.0f, 2, {50, 97}},
    {2, 1, 128, 0, 1.0f, 2, {300, 3}},
    {2, 2, 64, 100, 4.0f, 3, {257, 0, 513, 0}},
    {1, 1, 64, 256, 1.0f, 1, {700}},
    {12, 1, 40, 0, 3.0f, 1, {290}},
    {500, 1, 4, 5, 1.0f, 1, {20}},
    {3, 3, 80, 0, 1.0f, 3, {64, 63, 65, 0}},
    {4, 2, 96, 64, 1.0f, 2, {129, 128}},
    {2, 1, 256, 0, 1.0f, 2, {70, 1}},
};

static bool is_for_device(size_t head_dim) {
    return test_on_cpu() || head_dim % 8 == 0;
}

// One query of one head in double precision.
static void check_query(struct bed *bed, const struct attention_case *c, const float *text, size_t head,
                        size_t query, float scale, const float *got) {
    size_t kv_head = head / (c->heads / c->kv_heads);
    size_t stride = (c->heads + 2 * c->kv_heads) * c->head_dim;
    size_t low = c->window > 0 && query + 1 > c->window ? query + 1 - c->window : 0;
    const float *q = text + query * stride + head * c->head_dim;
    double scores[1024];
    double largest = -INFINITY;
    double size = 0; // of the terms of a score
    for (size_t j = low; j <= query; j++) {
        const float *k = text + j * stride + (c->heads + kv_head) * c->head_dim;
        double dot = 0;
        double absolute = 0;
        for (size_t d = 0; d < c->head_dim; d++) {
            dot += (double)q[d] * (double)k[d];
            absolute += fabs((double)q[d] * (double)k[d]);
        }
        scores[j] = dot * (double)scale;
        largest = fmax(largest, scores[j]);
        size = fmax(size, absolute * (double)scale);
    }
    double total = 0;
    for (size_t j = low; j <= query; j++) {
        scores[j] = exp(scores[j] - largest);
        total += scores[j];
    }
    for (size_t d = 0; d < c->head_dim; d++) {
        double want = 0;
        double absolute = 0;
        for (size_t j = low; j <= query; j++) {
            const float *v = text + j * stride + (c->heads + c->kv_heads + kv_head) * c->head_dim;
            want += scores[j] / total * (double)v[d];
            absolute += scores[j] / total * fabs((double)v[d]);
        }
        // A score's error shifts its probability by as much relatively, twice for the sum; exp and the
        // additions are good to a few roundings each; halves round probabilities, which the
        // CPU keeps in float32 but for bfloat16, and the result.
        double relative = 2 * (double)(c->head_dim + 4) * F32_EPSILON * (size + 1);
        relative += (double)(query - low + 16) * F32_EPSILON;
        relative += bed->dtype == DTYPE_F32 ? 0 : 1.01 * bed_epsilon(bed);
        assert_close(bed, "attention", d, got[d], want,
                     relative * absolute + 1.01 * bed_epsilon(bed) * fabs(want) +
                         (double)(query - low + 2) * bed_least(bed));
    }
}

static void try_case(struct bed *bed, const struct attention_case *c) {
    size_t stride = (c->heads + 2 * c->kv_heads) * c->head_dim;
    int32_t starts[6] = {0};
    struct device_attention shape = {.heads = {c->heads, c->kv_heads, c->head_dim, 0},
                                     .scale = 1.0f / sqrtf((float)c->head_dim),
                                     .window = c->window};
    for (size_t i = 0; i < c->texts; i++) {
        starts[i + 1] = starts[i] + c->lengths[i];
        shape.longest = (size_t)c->lengths[i] > shape.longest ? (size_t)c->lengths[i] : shape.longest;
    }
    size_t tokens = (size_t)starts[c->texts];
    float *qkv = random_numbers(stride + tokens, tokens * stride, c->spread, bed->dtype);
    size_t bytes;
    void *scratch;
    assert_true(device_attention_scratch(bed->device, &shape, &bytes));
    must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &scratch, &bed->error));
    void *device_qkv = bed_put(bed, qkv, tokens * stride);
    void *device_starts = bed_upload(bed, starts, (c->texts + 1) * sizeof *starts);
    size_t width = c->heads * c->head_dim;
    void *out = bed_take(bed, tokens * width * dtype_size(bed->dtype));
    must(bed, device_attention(
                  bed->device, out, device_qkv, &shape,
                  (struct device_texts){.starts = device_starts, .host_starts = starts, .count = c->texts},
                  scratch, &bed->error));
    float *got = bed_get(bed, out, tokens * width);
    for (size_t i = 0; i < c->texts; i++) {
        const float *text = qkv + (size_t)starts[i] * stride;
        for (size_t t = 0; t < (size_t)c->lengths[i]; t++) {
            for (size_t h = 0; h < c->heads; h++) {
                const float *row = got + ((size_t)starts[i] + t) * width + h * c->head_dim;
                check_query(bed, c, text, h, t, shape.scale, row);
            }
        }
    }
    free(got);
    free(qkv);
}

static void attention(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!is_for_device(cases[i].head_dim)) {
            print_message("skipped: heads of %zu numbers on %s\n", cases[i].head_dim, path);
            continue;
        }
        struct bed bed = bed_open(path, dtype, 2);
        try_case(&bed, &cases[i]);
        bed_close(&bed);
    }
}

static void test_attention(void **state) {
    (void)state;
    on_every_path(attention);
}

// Scores far apart must neither overflow nor lose the winner; a NaN must be seen, not hidden by the maximum.
static void extremes(const char *path, enum dtype dtype) {
    enum { HEAD = 8, TOKENS = 3 };
    struct bed bed = bed_open(path, dtype, 1);
    struct device_attention shape = {.heads = {1, 1, HEAD, 0}, .scale = 1.0f, .longest = TOKENS};
    float qkv[TOKENS][3 * HEAD] = {
        {100, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
        {100, 0, 0, 0, 0, 0, 0, 0, -50, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9},
        {0, NAN, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9, 9, 9, 9, 9, 9, 9},
    };
    int32_t starts[2] = {0, TOKENS};
    size_t bytes;
    void *scratch;
    assert_true(device_attention_scratch(bed.device, &shape, &bytes));
    must(&bed, device_take(bed.device, DEVICE_SCRATCH, bytes, &scratch, &bed.error));
    void *in = bed_put(&bed, &qkv[0][0], TOKENS * 3 * HEAD);
    void *device_starts = bed_upload(&bed, starts, sizeof starts);
    void *out = bed_take(&bed, TOKENS * HEAD * sizeof(float));
    must(&bed,
         device_attention(bed.device, out, in, &shape,
                          (struct device_texts){.starts = device_starts, .host_starts = starts, .count = 1},
                          scratch, &bed.error));
    float *got = bed_get(&bed, out, TOKENS * HEAD);
    for (size_t i = 0; i < HEAD; i++) {
        assert_true(got[i] == (float)(i + 1));
        assert_true(got[HEAD + i] == (float)(i + 1)); // exp(-10000) is 0
        assert_true(isnan(got[2 * HEAD + i]));
    }
    free(got);
    bed_close(&bed);
}

static void test_extremes(void **state) {
    (void)state;
    on_every_path(extremes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
