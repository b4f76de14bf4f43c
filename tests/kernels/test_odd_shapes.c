// SPDX-License-Identifier: MIT
// Shapes at the edges of what kernels are cut into, on every path and device: each operation beside the CPU's
// portable path, and attention on inputs whose answer is known to the bit.
#include "device_testing.h"

enum { TEXTS_MOST = 70, TOKENS = 3 };

// ---- two devices ----

struct pair {
    struct bed tested;
    struct bed reference; // the CPU's portable path
};

static struct bed reference_open(enum dtype dtype) {
    struct bed bed = {.dtype = dtype, .path = "portable"};
    struct device_options options = {.dtype = dtype, .threads = 1, .cpu_path = bed.path};
    struct device_plan plan = {.tokens = TOKENS};
    must(&bed, device_open(&bed.device, "cpu", &options, &bed.error));
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        must(&bed, device_plan_add(&plan, (enum device_purpose)p, POOL_BYTES, &bed.error));
    }
    must(&bed, device_reserve(bed.device, &plan, &bed.error));
    must(&bed, device_take(bed.device, DEVICE_STAGING, POOL_BYTES, &bed.staging, &bed.error));
    return bed;
}

static struct pair pair_open(const char *path, enum dtype dtype) {
    return (struct pair){bed_open(path, dtype, 2), reference_open(dtype)};
}

static void pair_close(struct pair *pair) {
    bed_close(&pair->tested);
    bed_close(&pair->reference);
}

// What an operation makes of a bed, `count` numbers that the caller frees.
typedef float *(*operation)(struct bed *bed, const void *shape, size_t *count);

// The tested device's numbers are within `relative` of the reference's (and `absolute` where they cancel),
// and in halves at most one in 50 is rounded differently: sums in another order move few across a rounding
// boundary.
static void compare(struct pair *pair, const char *what, operation run, const void *shape, double relative,
                    double absolute, bool mostly_equal) {
    size_t count;
    float *got = run(&pair->tested, shape, &count);
    float *want = run(&pair->reference, shape, &count);
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        assert_close(&pair->tested, what, i, got[i], (double)want[i],
                     relative * fabs((double)want[i]) + absolute);
        different += got[i] != want[i];
    }
    if (mostly_equal && pair->tested.dtype != DTYPE_F32 && different > count / 50 + 2) {
        fail_msg("%s, path %s: %zu of %zu numbers are rounded differently", what, pair->tested.path,
                 different, count);
    }
    free(got);
    free(want);
}

static void *put_random(struct bed *bed, uint64_t seed, size_t count, float scale) {
    float *numbers = random_numbers(seed, count, scale, bed->dtype);
    void *out = bed_put(bed, numbers, count);
    free(numbers);
    return out;
}

// ---- rows ----

static float *run_norm(struct bed *bed, const void *shape, size_t *count) {
    size_t hidden = *(const size_t *)shape;
    *count = TOKENS * hidden;
    void *out = bed_take(bed, *count * sizeof(float));
    must(bed, device_norm(bed->device, out, put_random(bed, hidden, *count, 3.0f),
                          &(struct device_norm){.epsilon = 1e-5f, .weight = put_random(bed, 1, hidden, 1.5f)},
                          DEVICE_STORE, TOKENS, hidden, &bed->error));
    return bed_get(bed, out, *count);
}

static float *run_swiglu(struct bed *bed, const void *shape, size_t *count) {
    size_t intermediate = *(const size_t *)shape;
    *count = TOKENS * intermediate;
    void *out = bed_take(bed, *count * sizeof(float));
    must(bed, device_activate(bed->device, out, put_random(bed, intermediate, 2 * *count, 12.0f), DEVICE_SILU,
                              true, TOKENS, intermediate, &bed->error));
    return bed_get(bed, out, *count);
}

static float *run_embed(struct bed *bed, const void *shape, size_t *count) {
    static const int32_t ids[TOKENS] = {4, 0, 3};
    size_t hidden = *(const size_t *)shape;
    *count = TOKENS * hidden;
    void *out = bed_take(bed, *count * sizeof(float));
    must(bed, device_embed(bed->device, out, put_random(bed, hidden, 5 * hidden, 2.0f),
                           bed_upload(bed, ids, sizeof ids), 1, DEVICE_STORE, TOKENS, hidden, &bed->error));
    return bed_get(bed, out, *count);
}

static void rows(const char *path, enum dtype dtype) {
    // Below, at and beyond groups of 8, warps of groups, and blocks of 1,024 groups; 16-byte rows and others.
    static const size_t widths[] = {1, 7, 8, 9, 255, 256, 257, 1001, 1030, 8192, 8197, 8200};
    struct pair pair = pair_open(path, dtype);
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        double epsilon = bed_epsilon(&pair.tested);
        compare(&pair, "embed", run_embed, &widths[i], 0, 0, true);
        double sums = (double)(widths[i] / 2 + 24) * F32_EPSILON; // a rounding an addition, on either side
        double least = bed_least(&pair.tested); // of either side, and a factor of up to 1.5 or 12 after it
        compare(&pair, "rms_norm", run_norm, &widths[i], sums + 4.04 * epsilon, 5 * least + 1e-30, true);
        compare(&pair, "swiglu", run_swiglu, &widths[i], 12 * F32_EPSILON + 4.04 * epsilon,
                26 * least + 1e-30, true);
    }
    pair_close(&pair);
}

static void test_rows(void **state) {
    (void)state;
    on_every_path(rows);
}

// ---- rotation ----

static float *run_rope(struct bed *bed, const void *shape, size_t *count) {
    static const int32_t positions[TOKENS] = {6, 0, 2};
    const struct device_heads *heads = shape;
    size_t width = (heads->heads + 2 * heads->kv_heads) * heads->head_dim;
    size_t angles = 7 * heads->head_dim / 2;
    float *turns = random_numbers(9, 2 * angles, 1.0f, DTYPE_F32);
    *count = TOKENS * width;
    void *qkv = put_random(bed, width, *count, 2.0f);
    must(bed, device_qk_norm_rope(
                  bed->device, qkv,
                  &(struct device_rope){
                      .q_norm = {.epsilon = 1e-6f, .weight = put_random(bed, 2, heads->head_dim, 1.5f)},
                      .k_norm = {.epsilon = 1e-6f, .weight = put_random(bed, 3, heads->head_dim, 1.5f)},
                      .cosine = bed_upload(bed, turns, angles * sizeof *turns),
                      .sine = bed_upload(bed, turns + angles, angles * sizeof *turns),
                      .row = bed_upload(bed, positions, sizeof positions),
                      .part = (*heads).head_dim},
                  *heads, TOKENS, &bed->error));
    free(turns);
    return bed_get(bed, qkv, *count);
}

static void rope(const char *path, enum dtype dtype) {
    static const struct device_heads heads[] = {
        {1, 1, 8, 0},   {33, 11, 16, 0}, {5, 5, 34, 0},  {3, 1, 80, 0},   {7, 7, 96, 0},
        {8, 2, 112, 0}, {2, 1, 192, 0},  {9, 3, 256, 0}, {40, 8, 128, 0}, {1, 1, 6, 0}};
    struct pair pair = pair_open(path, dtype);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        // Numbers up to 2 * 1.5 * sqrt(head_dim): the bound of what cancels is of their size.
        double size = 6 * sqrt((double)heads[i].head_dim);
        double bound = size * (8.08 * bed_epsilon(&pair.tested) + 200 * F32_EPSILON);
        compare(&pair, "rope", run_rope, &heads[i], 0, bound, true);
    }
    pair_close(&pair);
}

static void test_rope(void **state) {
    (void)state;
    on_every_path(rope);
}

// ---- attention ----

struct attention_case {
    struct device_heads heads;
    size_t window;
    size_t texts;
    int32_t lengths[7]; // of the first texts; the others have one token
};

static const struct attention_case cases[] = {
    {{1, 1, 64, 0}, 0, 1, {1}},
    {{2, 1, 8, 0}, 0, 7, {1, 63, 64, 65, 127, 128, 129}},
    {{33, 11, 16, 0}, 0, 2, {3, 67}},
    {{2, 2, 80, 0}, 1, 3, {65, 1, 129, 0}},
    {{3, 1, 96, 0}, 64, 2, {191, 64}},
    {{2, 1, 112, 0}, 65, 2, {65, 193}},
    {{1, 1, 128, 0}, 63, 2, {150, 64}},
    {{2, 1, 192, 0}, 33, 3, {33, 2, 97, 0}},
    {{1, 1, 256, 0}, 0, 3, {31, 33, 95, 0}},
    {{4, 4, 32, 0}, 0, TEXTS_MOST, {1}},
    {{3, 1, 40, 0}, 7, TEXTS_MOST, {1, 1, 90, 1, 2}},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static size_t case_starts(const struct attention_case *c, int32_t *starts) {
    starts[0] = 0;
    for (size_t i = 0; i < c->texts; i++) {
        starts[i + 1] = starts[i] + (i < 7 && c->lengths[i] > 0 ? c->lengths[i] : 1);
    }
    return (size_t)starts[c->texts];
}

static size_t case_width(const struct attention_case *c) {
    return (c->heads.heads + 2 * c->heads.kv_heads) * c->heads.head_dim;
}

static float *attend(struct bed *bed, const struct attention_case *c, const float *qkv, float scale) {
    int32_t starts[TEXTS_MOST + 1];
    size_t tokens = case_starts(c, starts);
    size_t count = tokens * c->heads.heads * c->heads.head_dim;
    struct device_attention shape = {.heads = c->heads, .scale = scale, .window = c->window, .longest = 200};
    size_t bytes;
    void *scratch;
    assert_true(device_attention_scratch(bed->device, &shape, &bytes));
    must(bed, device_take(bed->device, DEVICE_SCRATCH, bytes, &scratch, &bed->error));
    void *out = bed_take(bed, count * dtype_size(bed->dtype));
    const struct device_texts texts = {.starts = bed_upload(bed, starts, (c->texts + 1) * sizeof *starts),
                                       .host_starts = starts,
                                       .count = c->texts};
    must(bed, device_attention(bed->device, out, bed_put(bed, qkv, tokens * case_width(c)), &shape, texts,
                               scratch, &bed->error));
    return bed_get(bed, out, count);
}

static float *run_attention(struct bed *bed, const void *shape, size_t *count) {
    const struct attention_case *c = shape;
    int32_t starts[TEXTS_MOST + 1];
    size_t tokens = case_starts(c, starts);
    *count = tokens * c->heads.heads * c->heads.head_dim;
    float *qkv = random_numbers(tokens, tokens * case_width(c), 1.0f, bed->dtype);
    float *out = attend(bed, c, qkv, 1.0f / sqrtf((float)c->heads.head_dim));
    free(qkv);
    return out;
}

static void attention(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < CASES; i++) {
        struct pair pair = pair_open(path, dtype);
        double terms = (double)cases[i].heads.head_dim;
        // Either side: a score's error, of up to sqrt(head_dim) in terms, moves its probability; halves
        // round probabilities (values are below 1) and the result.
        double absolute = 4 * (terms + 4) * (sqrt(terms) + 1) * F32_EPSILON + 400 * F32_EPSILON;
        absolute += dtype == DTYPE_F32 ? 0 : 2.02 * bed_epsilon(&pair.tested);
        compare(&pair, "attention", run_attention, &cases[i], 2.02 * bed_epsilon(&pair.tested), absolute,
                false);
        pair_close(&pair);
    }
}

static void test_attention(void **state) {
    (void)state;
    on_every_path(attention);
}

// The columns of q | k | v of one token.
static float *head_of(float *qkv, const struct attention_case *c, size_t token, size_t head) {
    return qkv + token * case_width(c) + head * c->heads.head_dim;
}

static size_t lowest_key(const struct attention_case *c, size_t query) {
    return c->window > 0 && query + 1 > c->window ? query + 1 - c->window : 0;
}

// With all scores 0 a query's output is the mean of the values it sees. Value j has a 1 in column (j + head)
// modulo head_dim and is 0 elsewhere: every key missed or seen too much is a count that is off by one.
static void count_keys(struct bed *bed, const struct attention_case *c) {
    int32_t starts[TEXTS_MOST + 1];
    size_t tokens = case_starts(c, starts);
    size_t head_dim = c->heads.head_dim;
    float *qkv = calloc(tokens * case_width(c), sizeof *qkv);
    assert_non_null(qkv);
    for (size_t i = 0; i < c->texts; i++) {
        for (size_t j = 0; (int32_t)j < starts[i + 1] - starts[i]; j++) {
            for (size_t h = 0; h < c->heads.kv_heads; h++) {
                size_t value_head = c->heads.heads + c->heads.kv_heads + h;
                head_of(qkv, c, (size_t)starts[i] + j, value_head)[(j + h) % head_dim] = 1.0f;
            }
        }
    }
    float *got = attend(bed, c, qkv, 1.0f);
    for (size_t i = 0; i < c->texts; i++) {
        for (size_t q = 0; (int32_t)q < starts[i + 1] - starts[i]; q++) {
            for (size_t n = 0; n < c->heads.heads * head_dim; n++) {
                size_t kv_head = n / head_dim / (c->heads.heads / c->heads.kv_heads);
                size_t count = 0;
                for (size_t j = lowest_key(c, q); j <= q; j++) {
                    count += (j + kv_head) % head_dim == n % head_dim;
                }
                double want = (double)count / (double)(q + 1 - lowest_key(c, q));
                assert_close(bed, "keys seen", n,
                             got[((size_t)starts[i] + q) * c->heads.heads * head_dim + n], want,
                             want * (1.01 * bed_epsilon(bed) + 2 * F32_EPSILON));
            }
        }
    }
    free(got);
    free(qkv);
}

// Keys are different vectors of +-1, so that a query equal to one of them has a score there that is greater
// than any other by 2 at least: with a scale of 30 nothing else is left of the softmax, and the output is
// that key's value to the bit.
static void pick_keys(struct bed *bed, const struct attention_case *c) {
    int32_t starts[TEXTS_MOST + 1];
    size_t tokens = case_starts(c, starts);
    size_t group = c->heads.heads / c->heads.kv_heads;
    size_t head_dim = c->heads.head_dim;
    float *qkv = random_numbers(tokens, tokens * case_width(c), 1.0f,
                                bed->dtype == DTYPE_F16 ? DTYPE_F16 : DTYPE_BF16);
    for (size_t t = 0; t < tokens; t++) {
        for (size_t n = 0; n < c->heads.kv_heads * head_dim; n++) {
            size_t d = n % head_dim;
            size_t bit = d < 8 ? t >> d : t * 7919 >> d % 16; // the token's number modulo 256, then anything
            head_of(qkv, c, t, c->heads.heads)[n] = bit % 2 == 0 ? 1.0f : -1.0f;
        }
    }
    size_t *picked = malloc(tokens * c->heads.heads * sizeof *picked);
    assert_non_null(picked);
    uint64_t seed = 11;
    for (size_t i = 0; i < c->texts; i++) {
        for (size_t q = 0; (int32_t)q < starts[i + 1] - starts[i]; q++) {
            for (size_t h = 0; h < c->heads.heads; h++) {
                size_t low = lowest_key(c, q);
                size_t token = (size_t)starts[i] + q;
                size_t key = (size_t)starts[i] + low + (size_t)random_below(&seed, q + 1 - low);
                picked[token * c->heads.heads + h] = key;
                memcpy(head_of(qkv, c, token, h), head_of(qkv, c, key, c->heads.heads + h / group),
                       head_dim * sizeof *qkv);
            }
        }
    }
    float *got = attend(bed, c, qkv, 30.0f);
    for (size_t n = 0; n < tokens * c->heads.heads; n++) {
        size_t value_head = c->heads.heads + c->heads.kv_heads + n % c->heads.heads / group;
        const float *want = head_of(qkv, c, picked[n], value_head);
        for (size_t d = 0; d < head_dim; d++) {
            assert_close(bed, "key picked", n * head_dim + d, got[n * head_dim + d], (double)want[d], 0);
        }
    }
    free(picked);
    free(got);
    free(qkv);
}

static void exact_attention(const char *path, enum dtype dtype) {
    for (size_t i = 0; i < CASES; i++) {
        struct bed bed = bed_open(path, dtype, 2);
        count_keys(&bed, &cases[i]);
        pick_keys(&bed, &cases[i]);
        bed_close(&bed);
    }
}

static void test_exact_attention(void **state) {
    (void)state;
    on_every_path(exact_attention);
}

// ---- pooling: the very bits, and counts of a row that several blocks share ----

static void pool(const char *path, enum dtype dtype) {
    enum { HIDDEN = 2500, LENGTH = 9, ROWS = 4 };
    static const struct device_span spans[ROWS] = {{0, 9}, {3, 4}, {8, 9}, {2, 7}};
    struct pair pair = pair_open(path, dtype);
    struct bed *beds[2] = {&pair.tested, &pair.reference};
    float *x = random_numbers(4, LENGTH * HIDDEN, 5.0f, dtype);
    for (size_t i = 0; i < HIDDEN; i += 500) { // of token 3
        x[3 * HIDDEN + i] = i % 1000 == 0 ? NAN : 1e6f;
    }
    for (enum dtype out_dtype = DTYPE_F32; out_dtype <= DTYPE_BF16; out_dtype++) {
        float *numbers[2];
        struct device_row_check *checks[2];
        for (int b = 0; b < 2; b++) {
            void *out = bed_take(beds[b], ROWS * HIDDEN * sizeof(float));
            void *device_checks = bed_take(beds[b], ROWS * sizeof(struct device_row_check));
            must(beds[b],
                 device_pool(beds[b]->device, out, out_dtype, device_checks,
                             bed_put(beds[b], x, LENGTH * HIDDEN), bed_upload(beds[b], spans, sizeof spans),
                             NULL, ROWS, HIDDEN, &beds[b]->error));
            checks[b] = bed_bytes(beds[b], device_checks, ROWS * sizeof(struct device_row_check));
            void *bytes = bed_bytes(beds[b], out, ROWS * HIDDEN * dtype_size(out_dtype));
            numbers[b] = numbers_widen(bytes, out_dtype, ROWS * HIDDEN);
        }
        for (size_t i = 0; i < ROWS * HIDDEN; i++) {
            assert_true(isnan(numbers[0][i]) ? isnan(numbers[1][i]) : numbers[0][i] == numbers[1][i]);
        }
        bool held = dtype != DTYPE_F16; // 1e6 as a number; otherwise it is infinite
        assert_int_equal(checks[0][1].not_finite, held ? 3 : 5);
        assert_int_equal(checks[0][1].overflowed, held && out_dtype == DTYPE_F16 ? 2 : 0);
        assert_memory_equal(checks[0], checks[1], ROWS * sizeof *checks[0]);
        for (int b = 0; b < 2; b++) {
            free(numbers[b]);
            free(checks[b]);
        }
    }
    free(x);
    pair_close(&pair);
}

static void test_pool(void **state) {
    (void)state;
    on_every_path(pool);
}

// ---- loading: every format into the computation dtype, at places that are not aligned ----

static void load(const char *path, enum dtype dtype) {
    enum { COUNT = 1027, ROOM = COUNT + 16 };
    struct pair pair = pair_open(path, dtype);
    struct bed *beds[2] = {&pair.tested, &pair.reference};
    uint32_t words[COUNT]; // bits of any kind: subnormal, huge, infinite, between two numbers
    uint64_t seed = 3;
    for (size_t i = 0; i < COUNT; i++) {
        words[i] = (uint32_t)random_next(&seed);
    }
    for (enum dtype source = DTYPE_F32; source <= DTYPE_BF16; source++) {
        for (size_t offset = 0; offset < 12; offset += 5) {
            float *numbers[2];
            for (int b = 0; b < 2; b++) {
                float *zeros = calloc(ROOM, sizeof *zeros);
                void *out = bed_put(beds[b], zeros, ROOM);
                must(beds[b], device_vector_load(beds[b]->device, out, offset, COUNT - offset, words,
                                                 weight_format_of(source), &beds[b]->error));
                numbers[b] = bed_get(beds[b], out, ROOM);
                free(zeros);
            }
            for (size_t i = 0; i < ROOM; i++) {
                assert_true(isnan(numbers[0][i]) ? isnan(numbers[1][i]) : numbers[0][i] == numbers[1][i]);
            }
            free(numbers[0]);
            free(numbers[1]);
        }
    }
    pair_close(&pair);
}

static void test_load(void **state) {
    (void)state;
    on_every_path(load);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_rope),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_exact_attention),
        cmocka_unit_test(test_pool),      cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
