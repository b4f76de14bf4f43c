// SPDX-License-Identifier: MIT
// Embedding, norms, rotation, SwiGLU and pooling of every path against double precision; rounding points
// of the halves.
#include "device_testing.h"

// Lengths of rows: below, at and beyond the vectors of every path, and beyond a block of a GPU.
static const size_t lengths[] = {1, 2, 7, 8, 17, 24, 40, 64, 66, 130, 1024, 8195, 8200};
enum { LENGTHS = sizeof lengths / sizeof lengths[0], TOKENS = 5 };

// Share of numbers that are not the very bits wanted: where a computation in halves rounds at other points
// than asked, a fifth to a half of the numbers differ; float32 sums in another order move only a few across a
// rounding boundary.
static void assert_mostly_equal(const struct bed *bed, const char *what, const float *got, const float *want,
                                size_t count) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(got[i]));
        different += got[i] != want[i];
    }
    if (different * 50 > count) {
        fail_msg("%s, path %s, %s: %zu of %zu numbers are rounded differently", what, bed->path,
                 dtype_name(bed->dtype), different, count);
    }
}

static double inverse_rms(const float *x, size_t n, double epsilon) {
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)x[i] * (double)x[i];
    }
    return 1 / sqrt(square / (double)n + epsilon);
}

static void embed(const char *path, enum dtype dtype) {
    enum { VOCABULARY = 9, HIDDEN = 13 };
    struct bed bed = bed_open(path, dtype, 2);
    float *table = random_numbers(1, VOCABULARY * HIDDEN, 2.0f, dtype);
    static const int32_t ids[TOKENS] = {8, 0, 3, 3, 7};
    void *out = bed_take(&bed, TOKENS * HIDDEN * sizeof(float));
    must(&bed, device_embed(bed.device, out, bed_put(&bed, table, VOCABULARY * HIDDEN),
                            bed_upload(&bed, ids, sizeof ids), 1, DEVICE_STORE, TOKENS, HIDDEN, &bed.error));
    float *got = bed_get(&bed, out, TOKENS * HIDDEN);
    for (size_t i = 0; i < TOKENS * HIDDEN; i++) {
        assert_true(got[i] == table[(size_t)ids[i / HIDDEN] * HIDDEN + i % HIDDEN]);
    }
    free(got);
    free(table);
    bed_close(&bed);
}

static void test_embed(void **state) {
    (void)state;
    on_every_path(embed);
}

static void try_norm(struct bed *bed, size_t hidden) {
    const float epsilon = 1e-5f;
    float *x = random_numbers(hidden, TOKENS * hidden, 3.0f, bed->dtype);
    float *weight = random_numbers(hidden + 1, hidden, 1.5f, bed->dtype);
    float *want = malloc(TOKENS * hidden * sizeof *want);
    assert_non_null(want);
    void *out = bed_take(bed, TOKENS * hidden * sizeof(float));
    must(bed, device_norm(bed->device, out, bed_put(bed, x, TOKENS * hidden),
                          &(struct device_norm){.epsilon = epsilon, .weight = bed_put(bed, weight, hidden)},
                          DEVICE_STORE, TOKENS, hidden, &bed->error));
    float *got = bed_get(bed, out, TOKENS * hidden);
    for (size_t i = 0; i < TOKENS * hidden; i++) {
        double inverse = inverse_rms(x + i / hidden * hidden, hidden, (double)epsilon);
        double value = (double)x[i] * inverse * (double)weight[i % hidden];
        float normalised = round_to((float)((double)x[i] * inverse), bed->dtype);
        want[i] = round_to(normalised * weight[i % hidden], bed->dtype);
        // The sum of squares: a rounding an addition along one lane; then four more roundings, two of them to
        // halves.
        double relative = (double)(hidden / 4 + 12) * F32_EPSILON + 2.02 * bed_epsilon(bed);
        assert_close(bed, "rms_norm", i, got[i], value, relative * fabs(value) + 3 * bed_least(bed) + 1e-30);
    }
    void *place = bed_put(bed, x, TOKENS * hidden); // in which it is normalised
    must(bed, device_norm(bed->device, place, place,
                          &(struct device_norm){.epsilon = epsilon, .weight = bed_put(bed, weight, hidden)},
                          DEVICE_STORE, TOKENS, hidden, &bed->error));
    float *in_place = bed_get(bed, place, TOKENS * hidden);
    assert_memory_equal(in_place, got, TOKENS * hidden * sizeof *got);
    free(in_place);
    if (bed->dtype != DTYPE_F32 && hidden >= 64) {
        assert_mostly_equal(bed, "rms_norm", got, want, TOKENS * hidden);
    }
    free(got);
    free(want);
    free(weight);
    free(x);
}

static void norm(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < LENGTHS; i++) {
        try_norm(&bed, lengths[i]);
    }
    bed_close(&bed);
}

static void test_norm(void **state) {
    (void)state;
    on_every_path(norm);
}

// ---- rotation ----

enum { POSITIONS = 11 };

struct rope_case {
    struct device_heads heads;
    bool normed;
    float *qkv;
    float *norms[2]; // of queries, of keys
    float *cosine;   // [POSITIONS, head_dim / 2]
    float *sine;
    int32_t rows[TOKENS];
};

// What one head becomes: in double precision, and with the dtype's rounding at every step.
static void check_head(struct bed *bed, const struct rope_case *c, size_t t, size_t h, const float *got,
                       float *want) {
    size_t half = c->heads.head_dim / 2;
    const float *in = c->qkv + (t * (c->heads.heads + 2 * c->heads.kv_heads) + h) * c->heads.head_dim;
    const float *norm = c->norms[h < c->heads.heads ? 0 : 1];
    double inverse = inverse_rms(in, c->heads.head_dim, 1e-6);
    enum dtype dtype = bed->dtype;
    for (size_t i = 0; i < half; i++) {
        double exact[2];
        float steps[2];
        for (size_t side = 0; side < 2; side++) {
            size_t at = i + side * half;
            exact[side] = (double)in[at] * (c->normed ? inverse * (double)norm[at] : 1);
            float normalised = round_to((float)((double)in[at] * inverse), dtype);
            steps[side] = c->normed ? round_to(normalised * norm[at], dtype) : in[at];
        }
        float cosine = round_to(c->cosine[(size_t)c->rows[t] * half + i], dtype);
        float sine = round_to(c->sine[(size_t)c->rows[t] * half + i], dtype);
        want[i] = round_to(round_to(steps[0] * cosine, dtype) - round_to(steps[1] * sine, dtype), dtype);
        want[i + half] =
            round_to(round_to(steps[1] * cosine, dtype) + round_to(steps[0] * sine, dtype), dtype);
        double left = exact[0] * (double)cosine - exact[1] * (double)sine;
        double right = exact[1] * (double)cosine + exact[0] * (double)sine;
        // Two roundings of the norm, one of each matmul, one of the sum.
        double bound = fabs(exact[0]) + fabs(exact[1]);
        bound *= (double)(half + 12) * F32_EPSILON + 4.05 * bed_epsilon(bed);
        bound += 8 * bed_least(bed) + 1e-30;
        assert_close(bed, "rope", i, got[i], left, bound);
        assert_close(bed, "rope", i + half, got[i + half], right, bound);
    }
}

static void try_rope(struct bed *bed, struct device_heads heads, bool normed) {
    size_t all = heads.heads + 2 * heads.kv_heads;
    size_t turned = heads.heads + heads.kv_heads;
    size_t angles = POSITIONS * heads.head_dim / 2;
    struct rope_case c = {
        .heads = heads,
        .normed = normed,
        .qkv = random_numbers(heads.head_dim, TOKENS * all * heads.head_dim, 2.0f, bed->dtype),
        .norms = {random_numbers(5, heads.head_dim, 1.5f, bed->dtype),
                  random_numbers(6, heads.head_dim, 1.5f, bed->dtype)},
        .cosine = random_numbers(7, angles, 1.0f, DTYPE_F32),
        .sine = random_numbers(8, angles, 1.0f, DTYPE_F32),
        .rows = {10, 0, 4, 4, 9},
    };
    void *qkv = bed_put(bed, c.qkv, TOKENS * all * heads.head_dim);
    must(bed, device_qk_norm_rope(
                  bed->device, qkv,
                  &(struct device_rope){
                      .q_norm = {.epsilon = 1e-6f,
                                 .weight = normed ? bed_put(bed, c.norms[0], heads.head_dim) : NULL},
                      .k_norm = {.epsilon = 1e-6f,
                                 .weight = normed ? bed_put(bed, c.norms[1], heads.head_dim) : NULL},
                      .cosine = bed_upload(bed, c.cosine, angles * sizeof(float)),
                      .sine = bed_upload(bed, c.sine, angles * sizeof(float)),
                      .row = bed_upload(bed, c.rows, sizeof c.rows),
                      .part = heads.head_dim},
                  heads, TOKENS, &bed->error));
    float *got = bed_get(bed, qkv, TOKENS * all * heads.head_dim);
    float *want = malloc(TOKENS * all * heads.head_dim * sizeof *want);
    assert_non_null(want);
    memcpy(want, c.qkv, TOKENS * all * heads.head_dim * sizeof *want);
    for (size_t i = 0; i < TOKENS * all; i++) {
        if (i % all < turned) {
            check_head(bed, &c, i / all, i % all, got + i * heads.head_dim, want + i * heads.head_dim);
        } else { // values are left alone
            assert_memory_equal(got + i * heads.head_dim, want + i * heads.head_dim,
                                heads.head_dim * sizeof *want);
        }
    }
    if (bed->dtype != DTYPE_F32 && heads.head_dim >= 64) {
        assert_mostly_equal(bed, "rope", got, want, TOKENS * all * heads.head_dim);
    }
    free(want);
    free(got);
    free(c.qkv);
    free(c.norms[0]);
    free(c.norms[1]);
    free(c.cosine);
    free(c.sine);
}

static void rope(const char *path, enum dtype dtype) {
    static const struct device_heads heads[] = {{1, 1, 2, 0},  {3, 1, 8, 0},  {4, 2, 10, 0},
                                                {2, 2, 34, 0}, {6, 3, 64, 0}, {4, 2, 128, 0}};
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        try_rope(&bed, heads[i], false);
        try_rope(&bed, heads[i], true);
    }
    bed_close(&bed);
}

static void test_rope(void **state) {
    (void)state;
    on_every_path(rope);
}

// ---- SwiGLU ----

static void try_swiglu(struct bed *bed, size_t n) {
    float *in = random_numbers(n, TOKENS * 2 * n, 30.0f, bed->dtype);
    float *want = malloc(TOKENS * n * sizeof *want);
    assert_non_null(want);
    in[0] = 200.0f;      // e^-gate underflows
    in[2 * n] = -200.0f; // and overflows
    void *out = bed_take(bed, TOKENS * n * sizeof(float));
    must(bed, device_activate(bed->device, out, bed_put(bed, in, TOKENS * 2 * n), DEVICE_SILU, true, TOKENS,
                              n, &bed->error));
    float *got = bed_get(bed, out, TOKENS * n);
    for (size_t i = 0; i < TOKENS * n; i++) {
        double gate = (double)in[i / n * 2 * n + i % n];
        float up = in[i / n * 2 * n + n + i % n];
        double silu = gate / (1 + exp(-gate));
        want[i] = round_to(round_to((float)silu, bed->dtype) * up, bed->dtype);
        // e^x to 2 roundings, sum, quotient, matmul; two roundings to halves. Beyond e^88 silu is 0 to
        // 1e-35.
        double bound = (6 * F32_EPSILON + 2.02 * bed_epsilon(bed)) * fabs(silu * (double)up) + 1e-33;
        bound += bed_least(bed) * (fabs((double)up) + 1);
        assert_close(bed, "swiglu", i, got[i], silu * (double)up, bound);
    }
    if (bed->dtype != DTYPE_F32 && n >= 64) {
        assert_mostly_equal(bed, "swiglu", got, want, TOKENS * n);
    }
    free(got);
    free(want);
    free(in);
}

static void swiglu(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < LENGTHS; i++) {
        try_swiglu(&bed, lengths[i]);
    }
    bed_close(&bed);
}

static void test_swiglu(void **state) {
    (void)state;
    on_every_path(swiglu);
}

// ---- pooling ----

enum { POOL_HIDDEN = 300, POOL_TOKENS = 40, POOL_ROWS = 5 };
static const struct device_span spans[POOL_ROWS] = {{0, 1}, {1, 3}, {3, 40}, {0, 40}, {7, 8}};

static void try_pool(struct bed *bed, const float *x, void *device_x, enum dtype out_dtype) {
    void *out = bed_take(bed, POOL_ROWS * POOL_HIDDEN * sizeof(float));
    struct device_row_check *checks = bed_take(bed, POOL_ROWS * sizeof *checks);
    must(bed, device_pool(bed->device, out, out_dtype, checks, device_x, bed_upload(bed, spans, sizeof spans),
                          NULL, POOL_ROWS, POOL_HIDDEN, &bed->error));
    void *bytes = bed_bytes(bed, out, POOL_ROWS * POOL_HIDDEN * dtype_size(out_dtype));
    float *got = numbers_widen(bytes, out_dtype, POOL_ROWS * POOL_HIDDEN);
    for (size_t r = 0; r < POOL_ROWS; r++) {
        for (size_t i = 0; i < POOL_HIDDEN; i++) {
            float sum = 0; // in token order: the very bits are promised
            for (int32_t t = spans[r].start; t < spans[r].end; t++) {
                sum += x[(size_t)t * POOL_HIDDEN + i];
            }
            float want = sum / (float)(spans[r].end - spans[r].start);
            float stored;
            uint32_t converted = 0;
            dtype_convert(&converted, out_dtype, &want, DTYPE_F32, 1);
            dtype_convert(&stored, DTYPE_F32, &converted, out_dtype, 1);
            assert_true(got[r * POOL_HIDDEN + i] == stored);
        }
    }
    struct device_row_check *counts = bed_bytes(bed, checks, POOL_ROWS * sizeof *checks);
    for (size_t r = 0; r < POOL_ROWS; r++) {
        assert_int_equal(counts[r].not_finite, 0);
        assert_int_equal(counts[r].overflowed, 0);
    }
    free(counts);
    free(got);
}

static void pool(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    float *x = random_numbers(1, POOL_TOKENS * POOL_HIDDEN, 5.0f, dtype);
    void *device_x = bed_put(&bed, x, POOL_TOKENS * POOL_HIDDEN);
    for (enum dtype out = DTYPE_F32; out <= DTYPE_BF16; out++) {
        try_pool(&bed, x, device_x, out);
    }
    free(x);
    bed_close(&bed);
}

static void test_pool(void **state) {
    (void)state;
    on_every_path(pool);
}

// float16 keeps what is too large at its end and counts it; NaN and infinity are counted and stay.
static void pool_range(const char *path, enum dtype dtype) {
    if (dtype != DTYPE_F32) {
        return;
    }
    enum { HIDDEN = 8 };
    struct bed bed = bed_open(path, dtype, 1);
    float x[HIDDEN] = {65504.0f, 65519.0f, 65520.0f, -1e9f, NAN, INFINITY, -INFINITY, 1.0f};
    struct device_span span = {0, 1};
    void *out = bed_take(&bed, HIDDEN * sizeof(float));
    struct device_row_check *check = bed_take(&bed, sizeof *check);
    must(&bed, device_pool(bed.device, out, DTYPE_F16, check, bed_put(&bed, x, HIDDEN),
                           bed_upload(&bed, &span, sizeof span), NULL, 1, HIDDEN, &bed.error));
    struct device_row_check *counts = bed_bytes(&bed, check, sizeof *counts);
    assert_int_equal(counts->not_finite, 3);
    assert_int_equal(counts->overflowed, 2);
    float *got = numbers_widen(bed_bytes(&bed, out, HIDDEN * 2), DTYPE_F16, HIDDEN);
    assert_true(got[0] == 65504.0f && got[1] == 65504.0f && got[2] == 65504.0f && got[3] == -65504.0f);
    assert_true(isnan(got[4]) && got[5] == INFINITY && got[6] == -INFINITY && got[7] == 1.0f);
    free(got);
    free(counts);
    bed_close(&bed);
}

static void test_pool_range(void **state) {
    (void)state;
    on_every_path(pool_range);
}

// Numbers of every group are copied bit for bit; all others stay.
static void try_columns(struct bed *bed, const struct device_columns *columns, bool zeros) {
    size_t in_count = TOKENS * columns->in_stride;
    size_t count = TOKENS * columns->stride;
    float *in = random_numbers(1, in_count, 2.0f, bed->dtype);
    float *want = random_numbers(2, count, 2.0f, bed->dtype);
    void *out = bed_put(bed, want, count);
    must(bed, device_copy_columns(bed->device, out, zeros ? NULL : bed_put(bed, in, in_count), columns,
                                  TOKENS, &bed->error));
    for (size_t i = 0; i < TOKENS * columns->count * columns->width; i++) {
        size_t column = i % columns->width;
        size_t group = i / columns->width % columns->count;
        size_t token = i / columns->width / columns->count;
        size_t from = token * columns->in_stride + columns->in_first + group * columns->in_apart + column;
        want[token * columns->stride + columns->first + group * columns->apart + column] =
            zeros ? 0 : in[from];
    }
    float *got = bed_get(bed, out, count);
    for (size_t i = 0; i < count; i++) {
        assert_true(got[i] == want[i]);
    }
    free(got);
    free(want);
    free(in);
}

static void columns(const char *path, enum dtype dtype) {
    static const struct device_columns shapes[] = {
        {9, 2, 3, 20, 1, 6, 2, 3},          {576, 512, 0, 3072, 640, 192, 8, 64}, {5, 0, 0, 5, 0, 0, 1, 5},
        {1000, 3, 31, 2000, 7, 64, 30, 31}, {512, 0, 16, 384, 8, 24, 15, 16},
    };
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        try_columns(&bed, &shapes[i], false);
        try_columns(&bed, &shapes[i], true);
    }
    bed_close(&bed);
}

static void test_columns(void **state) {
    (void)state;
    on_every_path(columns);
}

static void test_columns_refused(void **state) {
    (void)state;
    static const struct device_columns wrong[] = {
        {8, 6, 0, 8, 0, 0, 1, 3}, {8, 0, 3, 8, 0, 4, 2, 8}, {8, 0, 4, 8, 5, 0, 1, 4},
        {8, 0, 4, 8, 0, 3, 2, 4}, {8, 0, 0, 8, 0, 8, 2, 1}, {8, 0, 0, 8, 0, 0, 0, 1},
    };
    struct bed bed = bed_open(NULL, DTYPE_F32, 1);
    float numbers[8] = {0};
    void *in = bed_put(&bed, numbers, 8);
    void *out = bed_put(&bed, numbers, 8);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(device_copy_columns(bed.device, out, in, &wrong[i], 1, &bed.error), STATUS_INTERNAL);
        assert_non_null(strstr(bed.error.message, "copy_columns"));
    }
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),   cmocka_unit_test(test_norm),
        cmocka_unit_test(test_rope),    cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_pool),    cmocka_unit_test(test_pool_range),
        cmocka_unit_test(test_columns), cmocka_unit_test(test_columns_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
