// SPDX-License-Identifier: MIT
// Norms of every kind, of rows, groups and heads, and every rotation of heads, on every path against double
// precision; rounding points of the halves.
#include "base/size.h"
#include "device_testing.h"

enum { TOKENS = 5, POSITIONS = 11 };

// As in test_rows.c: where halves are rounded at other points than asked, far more numbers differ.
static void assert_mostly_equal(const struct bed *bed, const char *what, const float *got, const float *want,
                                size_t count) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        different += got[i] != want[i];
    }
    if (different * 50 > count) {
        fail_msg("%s, path %s, %s: %zu of %zu numbers are rounded differently", what, bed->path,
                 dtype_name(bed->dtype), different, count);
    }
}

// ---- what norms are ----

static bool has_mean(enum device_norm_kind kind) {
    return kind == DEVICE_NORM_LAYER || kind == DEVICE_NORM_LAYER_PLUS_ONE;
}

struct norm_case {
    enum device_norm_kind kind;
    float epsilon;
    const float *weight; // [n] or NULL
    const float *bias;
};

struct wanted {
    double exact;
    float rounded; // at each point that is named
    double bound;  // between a float32 computation with these roundings and the exact number
};

static struct wanted exactly(float x) {
    return (struct wanted){(double)x, x, 0};
}

static void norm_wanted(const struct bed *bed, const struct norm_case *c, const float *x, size_t n,
                        struct wanted *out) {
    double mean = 0;
    double largest = 0;
    double square = 0;
    bool layer = has_mean(c->kind);
    for (size_t i = 0; i < n; i++) {
        mean += layer ? (double)x[i] / (double)n : 0;
        largest = fmax(largest, fabs((double)x[i]));
    }
    for (size_t i = 0; i < n; i++) {
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    }
    double inverse = 1 / sqrt(square / (double)n + (double)c->epsilon);
    double sums = (double)(n / 4 + 16) * F32_EPSILON; // a rounding an addition along one lane
    for (size_t i = 0; i < n; i++) {
        double value = ((double)x[i] - mean) * inverse;
        double factor = c->weight == NULL ? 1 : (double)c->weight[i];
        factor += c->weight != NULL && c->kind == DEVICE_NORM_RMS_PLUS_ONE ? 1 : 0;
        if (c->weight != NULL && c->kind == DEVICE_NORM_LAYER_PLUS_ONE) {
            factor = (double)round_to(1 + c->weight[i], bed->dtype);
        }
        double bias = c->bias == NULL ? 0 : (double)c->bias[i];
        bool twice = c->kind == DEVICE_NORM_RMS && c->weight != NULL;
        float once = twice ? round_to((float)value, bed->dtype) : (float)value;
        double size = fabs(value * factor) + (layer ? largest * inverse * fabs(factor) : 0);
        out[i].exact = value * factor + bias;
        out[i].rounded = round_to((float)((double)once * factor + bias), bed->dtype);
        out[i].bound = sums * (size + fabs(bias)) + 2.02 * bed_epsilon(bed) * fabs(value * factor) +
                       1.01 * bed_epsilon(bed) * fabs(out[i].exact) + (2 + fabs(factor)) * bed_least(bed) +
                       1e-30;
    }
}

static struct wanted added(const struct bed *bed, float before, struct wanted value) {
    struct wanted sum = {(double)before + value.exact, round_to(before + value.rounded, bed->dtype), 0};
    sum.bound = value.bound + 1.01 * bed_epsilon(bed) * (fabs(sum.exact) + value.bound) + bed_least(bed);
    return sum;
}

static void assert_wanted(const struct bed *bed, const char *what, const float *got, struct wanted *want,
                          size_t count) {
    float *rounded = malloc(count * sizeof *rounded);
    assert_non_null(rounded);
    for (size_t i = 0; i < count; i++) {
        assert_close(bed, what, i, got[i], want[i].exact, want[i].bound);
        rounded[i] = want[i].rounded;
    }
    if (bed->dtype != DTYPE_F32 && count >= 320) {
        assert_mostly_equal(bed, what, got, rounded, count);
    }
    free(rounded);
    free(want);
}

static struct wanted *wanted_new(size_t count) {
    struct wanted *out = calloc(count, sizeof *out);
    assert_non_null(out);
    return out;
}

static struct device_norm norm_put(struct bed *bed, const struct norm_case *c, size_t n) {
    return (struct device_norm){.kind = c->kind,
                                .epsilon = c->epsilon,
                                .weight = c->weight != NULL ? bed_put(bed, c->weight, n) : NULL,
                                .bias = c->bias != NULL ? bed_put(bed, c->bias, n) : NULL};
}

// Far from 0 where a mean is taken away: a variance from sums of squares would be none.
static float *norm_input(const struct bed *bed, enum device_norm_kind kind, uint64_t seed, size_t count) {
    float *x = random_numbers(seed, count, 3.0f, bed->dtype);
    for (size_t i = 0; i < count && has_mean(kind); i++) {
        x[i] = round_to(x[i] + 20.0f, bed->dtype);
    }
    return x;
}

// ---- rows ----

static void try_norm(struct bed *bed, const struct norm_case *c, enum device_store store, size_t n) {
    float *x = norm_input(bed, c->kind, n, TOKENS * n);
    float *before = random_numbers(n + 7, TOKENS * n, 2.0f, bed->dtype);
    struct device_norm norm = norm_put(bed, c, n);
    void *device_x = bed_put(bed, x, TOKENS * n);
    void *out = bed_put(bed, before, TOKENS * n);
    must(bed, device_norm(bed->device, out, device_x, &norm, store, TOKENS, n, &bed->error));
    must(bed, device_norm(bed->device, device_x, device_x, &norm, DEVICE_STORE, TOKENS, n, &bed->error));
    struct wanted *want = wanted_new(TOKENS * n);
    struct wanted *in_place = wanted_new(TOKENS * n);
    for (size_t t = 0; t < TOKENS; t++) {
        norm_wanted(bed, c, x + t * n, n, in_place + t * n);
    }
    for (size_t i = 0; i < TOKENS * n; i++) {
        want[i] = store == DEVICE_ADD ? added(bed, before[i], in_place[i]) : in_place[i];
    }
    float *got = bed_get(bed, out, TOKENS * n);
    float *placed = bed_get(bed, device_x, TOKENS * n);
    assert_wanted(bed, "norm", got, want, TOKENS * n);
    assert_wanted(bed, "norm in place", placed, in_place, TOKENS * n);
    free(placed);
    free(got);
    free(before);
    free(x);
}

static void norms_of(const char *path, enum dtype dtype, size_t n) {
    struct bed bed = bed_open(path, dtype, 2);
    float *weight = random_numbers(n + 1, n, 1.5f, dtype);
    float *bias = random_numbers(n + 2, n, 1.0f, dtype);
    for (int kind = DEVICE_NORM_RMS; kind <= DEVICE_NORM_LAYER_PLUS_ONE; kind++) {
        for (int parts = 0; parts < (has_mean((enum device_norm_kind)kind) ? 4 : 2);
             parts++) { // weight, then bias
            struct norm_case c = {(enum device_norm_kind)kind, 1e-5f, parts % 2 == 0 ? weight : NULL,
                                  parts > 1 ? bias : NULL};
            try_norm(&bed, &c, DEVICE_STORE, n);
            try_norm(&bed, &c, DEVICE_ADD, n);
        }
    }
    free(bias);
    free(weight);
    bed_close(&bed);
}

static void norms(const char *path, enum dtype dtype) {
    static const size_t lengths[] = {1, 2, 7, 8, 24, 66, 130, 1030, 4100};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        norms_of(path, dtype, lengths[i]);
    }
}

static void test_norms(void **state) {
    (void)state;
    on_every_path(norms);
}

// ---- groups ----

static void try_groups(struct bed *bed, const struct device_groups *groups, enum device_norm_kind kind) {
    size_t count = TOKENS * groups->stride;
    float *x = norm_input(bed, kind, groups->stride, count);
    size_t rows = groups->own_weights ? groups->count : 1;
    bool has_weight = kind != DEVICE_NORM_RMS_ONCE || groups->own_weights;
    float *weight = random_numbers(4, rows * groups->width, 1.5f, bed->dtype);
    struct norm_case c = {kind, 1e-6f, has_weight ? weight : NULL, NULL};
    struct device_norm norm = norm_put(bed, &c, rows * groups->width);
    void *device_x = bed_put(bed, x, count);
    must(bed, device_norm_groups(bed->device, device_x, groups, &norm, TOKENS, &bed->error));
    struct wanted *want = wanted_new(count);
    for (size_t i = 0; i < count; i++) {
        want[i] = exactly(x[i]);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t g = 0; g < groups->count; g++) {
            size_t at = t * groups->stride + g * groups->width;
            c.weight = has_weight ? weight + g % rows * groups->width : NULL;
            norm_wanted(bed, &c, x + at + groups->from, groups->width, want + at + groups->first);
        }
    }
    float *got = bed_get(bed, device_x, count);
    assert_wanted(bed, "norm_groups", got, want, count);
    free(got);
    free(weight);
    free(x);
}

static void groups(const char *path, enum dtype dtype) {
    static const struct device_groups shapes[] = {
        {40, 0, 0, 1, 40, false},  {300, 4, 4, 4, 66, true},       {128, 64, 0, 2, 32, false},
        {110, 8, 60, 3, 16, true}, {2088, 32, 32, 1, 2048, false}, {9, 2, 5, 1, 3, false},
        {200, 8, 8, 5, 32, true},
    };
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        try_groups(&bed, &shapes[i], (enum device_norm_kind)(i % 5));
        try_groups(&bed, &shapes[i], (enum device_norm_kind)((i + 2) % 5));
    }
    bed_close(&bed);
}

static void test_groups(void **state) {
    (void)state;
    on_every_path(groups);
}

// ---- rotation ----

enum { NOT_NORMED = -1 };

struct rope_case {
    struct device_heads heads;
    size_t first;
    size_t part;
    enum device_pairing pairing;
    enum device_rope_rounding rounding;
    int norm; // enum device_norm_kind, or NOT_NORMED
    bool scales;
    bool wide; // scales are not rounded
};

// clang-format off
static const struct rope_case rope_cases[] = {
    {{2, 1, 64, 0}, 0, 64, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ALL, NOT_NORMED, false, false},
    {{3, 3, 80, 0}, 0, 32, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, NOT_NORMED, false, false},
    {{4, 2, 64, 256}, 0, 16, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_TABLES, DEVICE_NORM_RMS_PLUS_ONE, false, false},
    {{2, 2, 192, 0}, 128, 64, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_TABLES, NOT_NORMED, false, false},
    {{4, 1, 128, 0}, 0, 128, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_TABLES, DEVICE_NORM_RMS, true, false},
    {{2, 1, 128, 8}, 0, 128, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ONCE, NOT_NORMED, true, false},
    {{2, 1, 96, 0}, 32, 34, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ONCE, DEVICE_NORM_LAYER, false, false},
    {{2, 1, 64, 0}, 0, 0, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, NOT_NORMED, true, false},
    {{5, 1, 72, 16}, 0, 0, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, DEVICE_NORM_RMS_ONCE, false, false},
    {{3, 1, 10, 6}, 2, 6, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ALL, DEVICE_NORM_RMS, true, false},
    {{1, 1, 34, 0}, 0, 34, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, DEVICE_NORM_RMS_ONCE, false, false},
    {{3, 1, 64, 0}, 0, 0, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ONCE, NOT_NORMED, true, true},
    {{2, 1, 40, 0}, 0, 40, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ONCE, NOT_NORMED, true, true},
};
// clang-format on

struct rope_numbers {
    float *cosine; // [POSITIONS, part / 2]
    float *sine;
    float *scales; // [POSITIONS]
    struct norm_case norms[2];
    int32_t rows[TOKENS];
};

static void turn_wanted(const struct bed *bed, const struct rope_case *c, float cosine, float sine,
                        struct wanted *a, struct wanted *b) {
    enum dtype dtype = bed->dtype;
    enum dtype products = c->rounding == DEVICE_ROPE_ROUNDS_ALL ? dtype : DTYPE_F32;
    cosine = c->rounding == DEVICE_ROPE_ROUNDS_ONCE ? cosine : round_to(cosine, dtype);
    sine = c->rounding == DEVICE_ROPE_ROUNDS_ONCE ? sine : round_to(sine, dtype);
    struct wanted in[2] = {*a, *b};
    a->exact = in[0].exact * (double)cosine - in[1].exact * (double)sine;
    b->exact = in[1].exact * (double)cosine + in[0].exact * (double)sine;
    a->rounded = round_to(
        round_to(in[0].rounded * cosine, products) - round_to(in[1].rounded * sine, products), dtype);
    b->rounded = round_to(
        round_to(in[1].rounded * cosine, products) + round_to(in[0].rounded * sine, products), dtype);
    double size = fabs(in[0].exact) + fabs(in[1].exact); // cosine and sine are below 1
    a->bound = in[0].bound + in[1].bound + size * (4 * F32_EPSILON + 2.1 * bed_epsilon(bed)) +
               4 * bed_least(bed) + 1e-30;
    b->bound = a->bound;
}

static void head_wanted(const struct bed *bed, const struct rope_case *c, const struct rope_numbers *n,
                        size_t token, bool query, const float *in, struct wanted *out) {
    size_t row = (size_t)n->rows[token];
    for (size_t i = 0; i < c->heads.head_dim; i++) {
        out[i] = exactly(in[i]);
    }
    if (c->norm != NOT_NORMED) {
        norm_wanted(bed, &n->norms[query ? 0 : 1], in, c->heads.head_dim, out);
    }
    for (size_t i = 0; i < c->part / 2; i++) {
        bool halves = c->pairing == DEVICE_PAIR_HALVES;
        struct wanted *a = out + c->first + (halves ? i : 2 * i);
        struct wanted *b = halves ? a + c->part / 2 : a + 1;
        size_t angle = row * (c->part / 2) + i;
        turn_wanted(bed, c, n->cosine[angle], n->sine[angle], a, b);
    }
    float scale = round_to(n->scales[row], c->wide ? DTYPE_F32 : bed->dtype);
    for (size_t i = 0; i < c->heads.head_dim && query && c->scales; i++) {
        out[i].exact *= (double)scale;
        out[i].rounded = round_to(out[i].rounded * scale, bed->dtype);
        out[i].bound = out[i].bound * fabs((double)scale) * 1.01 +
                       1.01 * bed_epsilon(bed) * fabs(out[i].exact) + bed_least(bed);
    }
}

static struct device_rope rope_put(struct bed *bed, const struct rope_case *c, const struct rope_numbers *n) {
    size_t angles = POSITIONS * c->part / 2;
    struct device_rope rope = {.row = bed_upload(bed, n->rows, sizeof n->rows),
                               .first = c->first,
                               .part = c->part,
                               .pairing = c->pairing,
                               .rounding = c->rounding,
                               .wide_query_scale = c->wide};
    if (c->part > 0) {
        rope.cosine = bed_upload(bed, n->cosine, angles * sizeof(float));
        rope.sine = bed_upload(bed, n->sine, angles * sizeof(float));
    }
    if (c->norm != NOT_NORMED) {
        rope.q_norm = norm_put(bed, &n->norms[0], c->heads.head_dim);
        rope.k_norm = norm_put(bed, &n->norms[1], c->heads.head_dim);
    }
    if (c->scales) {
        rope.query_scale = bed_upload(bed, n->scales, POSITIONS * sizeof(float));
    }
    return rope;
}

static void try_rope(struct bed *bed, const struct rope_case *c) {
    size_t angles = POSITIONS * c->part / 2;
    size_t head_dim = c->heads.head_dim;
    size_t stride = device_heads_width(c->heads);
    float *weights[2] = {random_numbers(5, head_dim, 1.5f, bed->dtype),
                         random_numbers(6, head_dim, 1.5f, bed->dtype)};
    enum device_norm_kind kind = c->norm != NOT_NORMED ? (enum device_norm_kind)c->norm : DEVICE_NORM_RMS;
    struct rope_numbers n = {.cosine = random_numbers(7, angles, 1.0f, DTYPE_F32),
                             .sine = random_numbers(8, angles, 1.0f, DTYPE_F32),
                             .scales = random_numbers(9, POSITIONS, 2.0f, DTYPE_F32),
                             .norms = {{kind, 1e-6f, weights[0], NULL}, {kind, 1e-3f, weights[1], NULL}},
                             .rows = {10, 0, 4, 4, 9}};
    float *qkv = random_numbers(head_dim, TOKENS * stride, 2.0f, bed->dtype);
    void *device_qkv = bed_put(bed, qkv, TOKENS * stride);
    struct device_rope rope = rope_put(bed, c, &n);
    must(bed, device_qk_norm_rope(bed->device, device_qkv, &rope, c->heads, TOKENS, &bed->error));
    struct wanted *want = wanted_new(TOKENS * stride);
    for (size_t i = 0; i < TOKENS * stride; i++) { // the gap and the values are left alone
        want[i] = exactly(qkv[i]);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t h = 0; h < c->heads.heads + c->heads.kv_heads; h++) {
            bool query = h < c->heads.heads;
            size_t key = device_heads_key(c->heads) + (h - c->heads.heads) * head_dim;
            size_t at = t * stride + (query ? h * device_heads_apart(c->heads) : key);
            head_wanted(bed, c, &n, t, query, qkv + at, want + at);
        }
    }
    float *got = bed_get(bed, device_qkv, TOKENS * stride);
    assert_wanted(bed, "rope", got, want, TOKENS * stride);
    free(got);
    free(qkv);
    free(n.scales);
    free(n.sine);
    free(n.cosine);
    free(weights[1]);
    free(weights[0]);
}

static void rope(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < sizeof rope_cases / sizeof rope_cases[0]; i++) {
        try_rope(&bed, &rope_cases[i]);
    }
    bed_close(&bed);
}

static void test_rope(void **state) {
    (void)state;
    on_every_path(rope);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_rope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
