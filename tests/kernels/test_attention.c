// SPDX-License-Identifier: MIT
// Attention of every path against double precision: grouped heads, windows, chunks, capped scores, sinks,
// slopes, odd head sizes, many texts.
#include "device_testing.h"

struct attention_case {
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t window;
    float spread; // of queries and keys: large ones make sharp softmaxes
    size_t texts;
    int32_t lengths[5];
    size_t chunk;
    float softcap;
    bool sinks;
    bool slopes;
    size_t gap;
    float scale; // 0: head_dim^-1/2
};

// On a GPU heads are multiples of 8 up to 256; there the other cases are left out. Chunks end within tiles
// and blocks of keys, and at their ends; texts have several of them, or less than one.
static const struct attention_case cases[] = {
    {1, 1, 2, 0, 1.0f, 1, .lengths = {1}},
    {2, 1, 8, 0, 1.0f, 3, .lengths = {1, 2, 7, 0}},
    {4, 2, 10, 3, 2.0f, 4, .lengths = {5, 1, 13, 66}},
    {3, 1, 24, 1, 1.0f, 2, .lengths = {9, 70}},
    {6, 6, 66, 0, 1.0f, 2, .lengths = {65, 130}},
    {33, 11, 16, 40, 1.0f, 2, .lengths = {50, 97}},
    {2, 1, 128, 0, 1.0f, 2, .lengths = {300, 3}},
    {2, 2, 64, 100, 4.0f, 3, .lengths = {257, 0, 513, 0}},
    {1, 1, 64, 256, 1.0f, 1, .lengths = {700}},
    {12, 1, 40, 0, 3.0f, 1, .lengths = {290}},
    {500, 1, 4, 5, 1.0f, 1, .lengths = {20}},
    {3, 3, 80, 0, 1.0f, 3, .lengths = {64, 63, 65, 0}},
    {4, 2, 96, 64, 1.0f, 2, .lengths = {129, 128}},
    {2, 1, 256, 0, 1.0f, 2, .lengths = {70, 1}},
    {2, 1, 512, 0, 1.0f, 1, .lengths = {67}},
    {1, 1, 600, 20, 1.0f, 1, .lengths = {40}},
    {2, 1, 16, 0, 1.0f, 4, .lengths = {1, 7, 50, 150}, .chunk = 7},
    {2, 2, 64, 0, 2.0f, 2, .lengths = {300, 99}, .chunk = 100},
    {1, 1, 32, 70, 1.0f, 1, .lengths = {290}, .chunk = 100},
    {1, 1, 8, 0, 1.0f, 1, .lengths = {530}, .chunk = 256},
    {1, 1, 16, 400, 1.0f, 1, .lengths = {600}, .chunk = 300},
    {5, 1, 128, 0, 1.0f, 2, .lengths = {67, 600}, .chunk = 290},
    {5, 1, 128, 0, 2.0f, 2, .lengths = {1, 130}, .chunk = 64},
    {2, 1, 24, 0, 1.0f, 2, .lengths = {19, 260}, .chunk = 1},
    {1, 1, 40, 0, 1.0f, 1, .lengths = {90}, .chunk = 8192},
    {4, 2, 64, 0, 4.0f, 2, .lengths = {70, 260}, .softcap = 5.0f},
    {2, 1, 256, 33, 3.0f, 1, .lengths = {97}, .softcap = 50.0f, .scale = 0.0625f},
    {6, 2, 64, 0, 1.5f, 3, .lengths = {1, 66, 270}, .sinks = true},
    {4, 4, 24, 16, 1.0f, 1, .lengths = {90}, .sinks = true},
    {4, 4, 32, 0, 1.0f, 2, .lengths = {65, 280}, .slopes = true},
    {3, 1, 40, 5, 1.0f, 2, .lengths = {30, 65}, .gap = 40},
    {2, 2, 10, 0, 1.0f, 1, .lengths = {67}, .gap = 7},
    {2, 1, 48, 60, 2.0f, 2, {129, 3}, 50, 20.0f, true, true, 96, 0.25f},
};

static float slope_of(size_t head) {
    return 0.25f / (float)(head + 1);
}

static float sink_of(size_t head) { // far below the scores, among them, and above
    return (float)head * 2.5f - 4.0f;
}

static size_t case_width(const struct attention_case *c) {
    return (c->heads + 2 * c->kv_heads) * c->head_dim + c->heads * c->gap;
}

static size_t first_key(const struct attention_case *c, size_t query) {
    size_t low = c->window > 0 && query + 1 > c->window ? query + 1 - c->window : 0;
    size_t chunk = c->chunk > 0 ? query / c->chunk * c->chunk : 0;
    return low > chunk ? low : chunk;
}

static bool is_for_device(size_t head_dim) {
    return test_on_cpu() || (head_dim % 8 == 0 && head_dim <= 256);
}

// One query of one head in double precision.
static void check_query(struct bed *bed, const struct attention_case *c, const float *text, size_t head,
                        size_t query, float scale, const float *got) {
    size_t kv_head = head / (c->heads / c->kv_heads);
    size_t stride = case_width(c);
    size_t keys = c->heads * (c->head_dim + c->gap);
    size_t low = first_key(c, query);
    const float *q = text + query * stride + head * (c->head_dim + c->gap);
    double sink = (double)sink_of(head);
    double scores[1024];
    double largest = c->sinks ? sink : -INFINITY;
    double size = 0; // of the terms of a score
    for (size_t j = low; j <= query; j++) {
        const float *k = text + j * stride + keys + kv_head * c->head_dim;
        double dot = 0;
        double absolute = 0;
        for (size_t d = 0; d < c->head_dim; d++) {
            dot += (double)q[d] * (double)k[d];
            absolute += fabs((double)q[d] * (double)k[d]);
        }
        double added = c->slopes ? (double)slope_of(head) * (double)j : 0;
        double cap = (double)c->softcap;
        scores[j] = dot * (double)scale;
        scores[j] = (cap > 0 ? cap * tanh(scores[j] / cap) : scores[j]) + added;
        largest = fmax(largest, scores[j]);
        size = fmax(size, absolute * (double)scale + cap + added);
    }
    double total = c->sinks ? exp(sink - largest) : 0;
    for (size_t j = low; j <= query; j++) {
        scores[j] = exp(scores[j] - largest);
        total += scores[j];
    }
    for (size_t d = 0; d < c->head_dim; d++) {
        double want = 0;
        double absolute = 0;
        for (size_t j = low; j <= query; j++) {
            const float *v = text + j * stride + keys + (c->kv_heads + kv_head) * c->head_dim;
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

static struct device_attention case_shape(struct bed *bed, const struct attention_case *c) {
    float sinks[64];
    float slopes[64];
    assert_true((!c->sinks && !c->slopes) || c->heads <= 64);
    for (size_t h = 0; h < c->heads && h < 64; h++) {
        sinks[h] = sink_of(h);
        slopes[h] = slope_of(h);
    }
    return (struct device_attention){
        .heads = {c->heads, c->kv_heads, c->head_dim, c->gap},
        .scale = c->scale > 0 ? c->scale : 1.0f / sqrtf((float)c->head_dim),
        .window = c->window,
        .chunk = c->chunk,
        .softcap = c->softcap,
        .sinks = c->sinks ? bed_put(bed, sinks, c->heads) : NULL,
        .slopes = c->slopes ? bed_upload(bed, slopes, c->heads * sizeof *slopes) : NULL,
    };
}

static void try_case(struct bed *bed, const struct attention_case *c) {
    size_t stride = case_width(c);
    int32_t starts[6] = {0};
    struct device_attention shape = case_shape(bed, c);
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

// A sink of -infinity is as none, to the bit; one far above every score takes all weight; and NaN, in a sink
// or in a score that is capped, is seen.
static void extreme_sinks(const char *path, enum dtype dtype) {
    enum { HEAD = 8, TOKENS = 5 };
    struct bed bed = bed_open(path, dtype, 1);
    float *qkv = random_numbers(3, TOKENS * 3 * HEAD, 1.0f, dtype);
    void *in = bed_put(&bed, qkv, TOKENS * 3 * HEAD);
    int32_t starts[2] = {0, TOKENS};
    const float sinks[4] = {0, -INFINITY, 1000, NAN}; // 0: none
    float *got[5];
    for (size_t i = 0; i < 5; i++) {
        struct device_attention shape = {.heads = {1, 1, HEAD, 0}, .scale = 1.0f, .longest = TOKENS};
        shape.sinks = i > 0 && i < 4 ? bed_put(&bed, &sinks[i], 1) : NULL;
        shape.softcap = i == 4 ? 2.0f : 0;
        size_t bytes;
        void *scratch;
        assert_true(device_attention_scratch(bed.device, &shape, &bytes));
        must(&bed, device_take(bed.device, DEVICE_SCRATCH, bytes, &scratch, &bed.error));
        void *out = bed_take(&bed, TOKENS * HEAD * sizeof(float));
        qkv[0] = NAN;
        const void *from = i == 4 ? bed_put(&bed, qkv, TOKENS * 3 * HEAD) : in;
        struct device_texts texts = {
            .starts = bed_upload(&bed, starts, sizeof starts), .host_starts = starts, .count = 1};
        must(&bed, device_attention(bed.device, out, from, &shape, texts, scratch, &bed.error));
        got[i] = bed_get(&bed, out, TOKENS * HEAD);
    }
    assert_memory_equal(got[0], got[1], TOKENS * HEAD * sizeof(float));
    for (size_t i = 0; i < TOKENS * HEAD; i++) {
        assert_true(got[2][i] == 0);
        assert_true(isnan(got[3][i]));
        assert_true(i < HEAD ? isnan(got[4][i]) : isfinite(got[4][i]));
    }
    for (size_t i = 0; i < 5; i++) {
        free(got[i]);
    }
    free(qkv);
    bed_close(&bed);
}

static void test_extreme_sinks(void **state) {
    (void)state;
    on_every_path(extreme_sinks);
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
        cmocka_unit_test(test_extreme_sinks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
