// SPDX-License-Identifier: MIT
// What families do with attention's scores on CUDA (softcap, sinks, chunks, slopes, gaps behind queries),
// for heads of every build: against double precision, and slices of a text bit for bit against the whole.
#include "device_testing.h"

enum { TEXTS = 3, LONGEST = 410, BEFORE = 192 };

struct scores_case {
    struct device_heads heads;
    float scale; // 0: head_dim^-1/2
    size_t window;
    size_t chunk;
    float softcap;
    bool sinks;
    bool slopes;
};

static const struct scores_case cases[] = {
    {{4, 2, 64, 0}, 0, 0, 0, 5, false, false},    {{3, 1, 32, 0}, 0.6f, 20, 0, 0, true, false},
    {{4, 2, 64, 64}, 0, 0, 0, 0, false, false},   {{2, 2, 128, 0}, 0, 0, 50, 0, false, false},
    {{3, 3, 80, 0}, 0, 0, 0, 0, false, true},     {{2, 1, 256, 0}, 0.05f, 70, 0, 30, false, false},
    {{2, 1, 136, 8}, 0, 90, 130, 4, true, true},  {{8, 2, 16, 0}, 1, 33, 65, 0, true, false},
    {{2, 1, 128, 128}, 0, 65, 0, 9, true, false}, {{4, 1, 8, 32}, 0, 0, 7, 0, false, true},
    {{2, 1, 512, 0}, 0, 0, 0, 0, false, false},   {{2, 2, 264, 8}, 0, 75, 100, 6, true, false},
    {{1, 1, 384, 0}, 0, 0, 0, 0, true, true},     {{5, 1, 128, 0}, 0, 0, 64, 0, false, false},
    {{2, 1, 64, 0}, 0, 0, 1, 0, false, false},    {{5, 1, 128, 0}, 0, 0, 290, 0, false, false},
    {{2, 1, 96, 0}, 0, 0, 8192, 0, false, false},
};
enum { CASES = sizeof cases / sizeof cases[0] };

struct scores_numbers {
    int32_t starts[TEXTS + 1];
    float *qkv;
    float *sinks;
    float *slopes;
};

static double score_of(const struct scores_case *c, const struct scores_numbers *n, const float *q,
                       const float *k, size_t head, size_t key) {
    double scale = c->scale > 0 ? (double)c->scale : 1 / sqrt((double)c->heads.head_dim);
    double score = 0;
    for (size_t d = 0; d < c->heads.head_dim; d++) {
        score += (double)q[d] * (double)k[d];
    }
    score *= scale;
    score = c->softcap > 0 ? (double)c->softcap * tanh(score / (double)c->softcap) : score;
    return c->slopes ? score + (double)n->slopes[head] * (double)key : score;
}

static bool sees(const struct scores_case *c, size_t query, size_t key) {
    return key <= query && (c->window == 0 || key + c->window > query) &&
           (c->chunk == 0 || key / c->chunk == query / c->chunk);
}

static void check_query(const struct bed *bed, const struct scores_case *c, const struct scores_numbers *n,
                        const float *text, const float *got, size_t query, size_t head) {
    static double p[LONGEST];
    const size_t width = device_heads_width(c->heads);
    const size_t head_dim = c->heads.head_dim;
    const size_t kv_head = head / (c->heads.heads / c->heads.kv_heads);
    const float *keys = text + device_heads_key(c->heads) + kv_head * head_dim;
    const float *values = keys + c->heads.kv_heads * head_dim;
    double most = c->sinks ? (double)n->sinks[head] : -INFINITY;
    for (size_t key = 0; key <= query; key++) {
        p[key] = sees(c, query, key)
                     ? score_of(c, n, text + query * width + head * device_heads_apart(c->heads),
                                keys + key * width, head, key)
                     : -INFINITY;
        most = fmax(most, p[key]);
    }
    double sum = c->sinks ? exp((double)n->sinks[head] - most) : 0;
    for (size_t key = 0; key <= query; key++) {
        p[key] = exp(p[key] - most);
        sum += p[key];
    }
    for (size_t d = 0; d < head_dim; d++) {
        double want = 0;
        for (size_t key = 0; key <= query; key++) {
            want += p[key] / sum * (double)values[key * width + d];
        }
        // Values are below 2. Probabilities are rounded, and so is what comes out.
        double bound = bed->dtype == DTYPE_F32 ? 4e-5 : 4 * bed_epsilon(bed);
        assert_close(bed, "attention", d, got[d], want, bound);
    }
}

static struct device_attention shape_for(struct bed *bed, const struct scores_case *c,
                                         const struct scores_numbers *n) {
    const size_t heads = c->heads.heads;
    return (struct device_attention){
        .heads = c->heads,
        .scale = c->scale > 0 ? c->scale : (float)(1 / sqrt((double)c->heads.head_dim)),
        .window = c->window,
        .chunk = c->chunk,
        .softcap = c->softcap,
        .sinks = c->sinks ? bed_put(bed, n->sinks, heads) : NULL,
        .slopes = c->slopes ? bed_upload(bed, n->slopes, heads * sizeof(float)) : NULL,
        .longest = LONGEST};
}

static struct scores_numbers take_numbers(const struct scores_case *c, enum dtype dtype) {
    struct scores_numbers n = {.starts = {0, 1, 98, 98 + LONGEST}};
    n.qkv = random_numbers(1, (size_t)n.starts[TEXTS] * device_heads_width(c->heads), 2, dtype);
    n.sinks = random_numbers(2, c->heads.heads, 4, dtype);
    n.slopes = random_numbers(3, c->heads.heads, 0.5f, DTYPE_F32);
    return n;
}

// The last text once more, in two slices: the second alone, over what was kept of both.
static void check_slice(struct bed *bed, const struct scores_case *c, const struct device_attention *shape,
                        const unsigned char *qkv, const unsigned char *out) {
    const size_t bytes = dtype_size(bed->dtype);
    const size_t width = device_heads_width(c->heads) * bytes;
    const size_t kept_width = 2 * c->heads.kv_heads * c->heads.head_dim * bytes;
    const size_t row = c->heads.heads * c->heads.head_dim * bytes;
    const size_t first = 98;
    const size_t count = LONGEST - BEFORE;
    const int32_t starts[2] = {0, (int32_t)count};
    void *kept = bed_take(bed, LONGEST * kept_width);
    void *slice = bed_take(bed, count * row);
    must(bed, device_keep(bed->device, kept, 0, qkv + first * width, c->heads, LONGEST, &bed->error));
    const struct device_texts texts = {.starts = bed_upload(bed, starts, sizeof starts),
                                       .host_starts = starts,
                                       .count = 1,
                                       .kept = kept,
                                       .before = BEFORE};
    must(bed, device_attention(bed->device, slice, qkv + (first + BEFORE) * width, shape, texts, NULL,
                               &bed->error));
    void *got = bed_bytes(bed, slice, count * row);
    void *want = bed_bytes(bed, out + (first + BEFORE) * row, count * row);
    assert_memory_equal(got, want, count * row);
    free(want), free(got);
}

static void try_scores(struct bed *bed, const struct scores_case *c) {
    struct scores_numbers n = take_numbers(c, bed->dtype);
    const size_t tokens = (size_t)n.starts[TEXTS];
    const size_t width = device_heads_width(c->heads);
    const size_t row = c->heads.heads * c->heads.head_dim;
    const struct device_attention shape = shape_for(bed, c, &n);
    void *qkv = bed_put(bed, n.qkv, tokens * width);
    void *out = bed_take(bed, tokens * row * dtype_size(bed->dtype));
    const struct device_texts texts = {
        .starts = bed_upload(bed, n.starts, sizeof n.starts), .host_starts = n.starts, .count = TEXTS};
    must(bed, device_attention(bed->device, out, qkv, &shape, texts, NULL, &bed->error));
    float *got = bed_get(bed, out, tokens * row);
    for (size_t i = 0; i < TEXTS; i++) {
        const size_t first = (size_t)n.starts[i];
        for (size_t q = 0; q < (size_t)n.starts[i + 1] - first; q += q % 64 == 62 ? 1 : 7) {
            for (size_t h = 0; h < c->heads.heads; h++) {
                check_query(bed, c, &n, n.qkv + first * width,
                            got + (first + q) * row + h * c->heads.head_dim, q, h);
            }
        }
    }
    check_slice(bed, c, &shape, qkv, out);
    free(got), free(n.slopes), free(n.sinks), free(n.qkv);
}

static void scores(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < CASES; i++) {
        struct bed bed = bed_open_rows(path, dtype, 1, 98 + LONGEST);
        try_scores(&bed, &cases[i]);
        bed_close(&bed);
    }
}

static void test_scores(void **state) {
    (void)state;
    on_every_path(scores);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
