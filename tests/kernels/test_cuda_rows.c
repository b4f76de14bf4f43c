// SPDX-License-Identifier: MIT
// The operations on rows on CUDA in every kind and with every flag, against plain references that round where
// operations.h says and compute in double between: rows of odd lengths, of one block's chunks and of more.
#include "device_testing.h"

enum { TOKENS = 3 };

// What is there, and what it should become. A sum in another order may move a number across a rounding
// boundary: one in fifty may differ, by two units in its last place.
static void assert_rounded(const struct bed *bed, const char *what, void *place, const double *want,
                           size_t count) {
    float *got = bed_get((struct bed *)bed, place, count);
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        double bound = (bed->dtype == DTYPE_F32 ? 40 : 4) * bed_epsilon(bed) * (fabs(want[i]) + 0.5);
        assert_close(bed, what, i, got[i], want[i], bound);
        different += got[i] != round_to((float)want[i], bed->dtype);
    }
    if (bed->dtype != DTYPE_F32 && different * 50 > count + 100) {
        fail_msg("%s, %s: %zu of %zu numbers are rounded differently", what, dtype_name(bed->dtype),
                 different, count);
    }
    free(got);
}

static double rounds(const struct bed *bed, double x) {
    return (double)round_to((float)x, bed->dtype);
}

static double *take_doubles(size_t count) {
    double *out = malloc(count * sizeof *out);
    assert_non_null(out);
    return out;
}

// ---- norms ----

struct norm_case {
    enum device_norm_kind kind;
    bool weighted;
    bool biased;
};

static const struct norm_case norm_cases[] = {
    {DEVICE_NORM_RMS, true, false},          {DEVICE_NORM_RMS, false, false},
    {DEVICE_NORM_RMS_ONCE, true, false},     {DEVICE_NORM_RMS_ONCE, false, false},
    {DEVICE_NORM_RMS_PLUS_ONE, true, false}, {DEVICE_NORM_RMS_PLUS_ONE, false, false},
    {DEVICE_NORM_LAYER, true, true},         {DEVICE_NORM_LAYER, true, false},
    {DEVICE_NORM_LAYER, false, false},
};
enum { NORM_CASES = sizeof norm_cases / sizeof norm_cases[0] };

static void norm_row(const struct bed *bed, double *out, const float *x, size_t n,
                     const struct norm_case *kind, const float *weight, const float *bias, double epsilon) {
    double mean = 0;
    double square = 0;
    for (size_t i = 0; kind->kind == DEVICE_NORM_LAYER && i < n; i++) {
        mean += (double)x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    }
    double inverse = 1 / sqrt(square / (double)n + epsilon);
    for (size_t i = 0; i < n; i++) {
        double y = ((double)x[i] - mean) * inverse;
        if (kind->weighted) {
            y = kind->kind == DEVICE_NORM_RMS ? rounds(bed, y) : y;
            y *= (double)weight[i] + (kind->kind == DEVICE_NORM_RMS_PLUS_ONE);
        }
        out[i] = y + (kind->biased ? (double)bias[i] : 0);
    }
}

static void try_norm(struct bed *bed, const struct norm_case *kind, size_t hidden) {
    const size_t count = TOKENS * hidden;
    float *x = random_numbers(hidden, count, 3, bed->dtype);
    float *there = random_numbers(hidden + 1, count, 2, bed->dtype);
    float *weight = random_numbers(hidden + 2, hidden, 1.5f, bed->dtype);
    float *bias = random_numbers(hidden + 3, hidden, 1, bed->dtype);
    double *want = take_doubles(count);
    const struct device_norm norm = {.kind = kind->kind,
                                     .epsilon = 1e-5f,
                                     .weight = kind->weighted ? bed_put(bed, weight, hidden) : NULL,
                                     .bias = kind->biased ? bed_put(bed, bias, hidden) : NULL};
    void *out = bed_put(bed, there, count);
    void *place = bed_put(bed, x, count);
    for (size_t t = 0; t < TOKENS; t++) {
        norm_row(bed, want + t * hidden, x + t * hidden, hidden, kind, weight, bias, 1e-5);
        for (size_t i = t * hidden; i < (t + 1) * hidden; i++) {
            want[i] = rounds(bed, want[i]) + (double)there[i];
        }
    }
    must(bed, device_norm(bed->device, out, place, &norm, DEVICE_ADD, TOKENS, hidden, &bed->error));
    assert_rounded(bed, "norm, added", out, want, count);
    for (size_t t = 0; t < TOKENS; t++) {
        norm_row(bed, want + t * hidden, x + t * hidden, hidden, kind, weight, bias, 1e-5);
    }
    must(bed, device_norm(bed->device, out, place, &norm, DEVICE_STORE, TOKENS, hidden, &bed->error));
    assert_rounded(bed, "norm", out, want, count);
    must(bed, device_norm(bed->device, place, place, &norm, DEVICE_STORE, TOKENS, hidden, &bed->error));
    assert_rounded(bed, "norm in place", place, want, count);
    free(want), free(bias), free(weight), free(there), free(x);
}

static void norms(const char *path, enum dtype dtype) {
    static const size_t lengths[] = {1, 7, 64, 130, 1024, 8200};
    for (size_t i = 0; i < NORM_CASES; i++) {
        struct bed bed = bed_open(path, dtype, 1);
        for (size_t l = norm_cases[i].kind == DEVICE_NORM_LAYER; l < sizeof lengths / sizeof lengths[0];
             l++) {
            try_norm(&bed, &norm_cases[i], lengths[l]);
        }
        bed_close(&bed);
    }
}

static void test_norms(void **state) {
    (void)state;
    on_every_path(norms);
}

static void try_groups(struct bed *bed, const struct norm_case *kind, struct device_groups g) {
    const size_t count = TOKENS * g.stride;
    float *x = random_numbers(g.stride, count, 3, bed->dtype);
    float *weight = random_numbers(2, g.width, 1.5f, bed->dtype);
    float *bias = random_numbers(3, g.width, 1, bed->dtype);
    double *want = take_doubles(count);
    const struct device_norm norm = {.kind = kind->kind,
                                     .epsilon = 1e-5f,
                                     .weight = kind->weighted ? bed_put(bed, weight, g.width) : NULL,
                                     .bias = kind->biased ? bed_put(bed, bias, g.width) : NULL};
    void *place = bed_put(bed, x, count);
    for (size_t i = 0; i < count; i++) {
        want[i] = (double)x[i];
    }
    for (size_t i = 0; i < TOKENS * g.count; i++) {
        size_t row = i / g.count * g.stride + i % g.count * g.width;
        norm_row(bed, want + row + g.first, x + row + g.from, g.width, kind, weight, bias, 1e-5);
    }
    must(bed, device_norm_groups(bed->device, place, &g, &norm, TOKENS, &bed->error));
    assert_rounded(bed, "norm_groups", place, want, count);
    free(want), free(bias), free(weight), free(x);
}

static void groups(const char *path, enum dtype dtype) {
    static const struct device_groups places[] = {{96, 0, 0, 6, 16, false},
                                                  {200, 64, 128, 2, 32, false},
                                                  {37, 3, 3, 4, 7, false},
                                                  {2080, 8, 8, 1, 2064, false},
                                                  {40, 2, 22, 2, 9, false}};
    struct bed bed = bed_open(path, dtype, 1);
    for (size_t i = 0; i < NORM_CASES * 5; i++) {
        try_groups(&bed, &norm_cases[i / 5], places[i % 5]);
    }
    bed_close(&bed);
}

static void test_groups(void **state) {
    (void)state;
    on_every_path(groups);
}

// ---- embedding, sums and products ----

static void try_sums(struct bed *bed, size_t hidden, float scale) {
    enum { VOCABULARY = 5 };
    static const int32_t ids[TOKENS] = {4, 0, 4};
    const size_t count = TOKENS * hidden;
    float *table = random_numbers(1, VOCABULARY * hidden, 2, bed->dtype);
    float *x = random_numbers(2, count, 2, bed->dtype);
    double *want = take_doubles(count);
    void *tables = bed_put(bed, table, VOCABULARY * hidden);
    void *place = bed_put(bed, x, count);
    void *other = bed_put(bed, x, count);
    const void *numbers = bed_upload(bed, ids, sizeof ids);
    struct error *err = &bed->error;
    must(bed, device_embed(bed->device, place, tables, numbers, scale, DEVICE_ADD, TOKENS, hidden, err));
    for (size_t i = 0; i < count; i++) {
        double row = (double)table[(size_t)ids[i / hidden] * hidden + i % hidden];
        want[i] = (double)x[i] + rounds(bed, row * (double)scale);
    }
    assert_rounded(bed, "embed, added", place, want, count);
    must(bed, device_embed(bed->device, place, tables, numbers, scale, DEVICE_STORE, TOKENS, hidden, err));
    for (size_t i = 0; i < count; i++) {
        want[i] = (double)table[(size_t)ids[i / hidden] * hidden + i % hidden] * (double)scale;
    }
    assert_rounded(bed, "embed", place, want, count);
    must(bed, device_add(bed->device, other, place, scale, TOKENS, hidden, err));
    for (size_t i = 0; i < count; i++) {
        want[i] = (double)x[i] + rounds(bed, rounds(bed, want[i]) * (double)scale);
    }
    assert_rounded(bed, "add", other, want, count);
    must(bed, device_scale(bed->device, other, tables, TOKENS, hidden, err));
    for (size_t i = 0; i < count; i++) {
        want[i] = rounds(bed, want[i]) * (double)table[0];
    }
    assert_rounded(bed, "scale", other, want, count);
    free(want), free(x), free(table);
}

static void sums(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 1);
    static const size_t lengths[] = {1, 13, 64, 2056};
    for (size_t i = 0; i < 8; i++) {
        try_sums(&bed, lengths[i / 2], i % 2 ? 1 : 0.3f);
    }
    bed_close(&bed);
}

static void test_sums(void **state) {
    (void)state;
    on_every_path(sums);
}

// ---- activations ----

static double activated(enum device_activation activation, double x) {
    switch (activation) {
    case DEVICE_SILU:
        return x / (1 + exp(-x));
    case DEVICE_GELU:
        return x * 0.5 * erfc(-x * 0.70710678118654752);
    case DEVICE_GELU_TANH:
        return x / (1 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x))); // x (1 + tanh) / 2
    case DEVICE_RELU:
        return x > 0 ? x : 0;
    case DEVICE_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case DEVICE_XIELU:
        break; // device_xielu's
    }
    return NAN;
}

static void try_activation(struct bed *bed, enum device_activation activation, bool gated, size_t width) {
    const size_t stride = gated ? 2 * width : width;
    float *in = random_numbers(width, TOKENS * stride, 9, bed->dtype);
    double *want = take_doubles(TOKENS * width);
    void *out = bed_take(bed, TOKENS * width * sizeof(float));
    for (size_t i = 0; i < TOKENS * width; i++) {
        size_t at = i / width * stride + i % width;
        want[i] = activated(activation, (double)in[at]);
        want[i] = gated ? rounds(bed, want[i]) * (double)in[at + width] : want[i];
    }
    must(bed, device_activate(bed->device, out, bed_put(bed, in, TOKENS * stride), activation, gated, TOKENS,
                              width, &bed->error));
    assert_rounded(bed, "activate", out, want, TOKENS * width);

    if (gated) { // the same by factors that lie in rows of another length
        float *alone = random_numbers(width + 1, TOKENS * width, 9, bed->dtype);
        for (size_t i = 0; i < TOKENS * width; i++) {
            want[i] = rounds(bed, activated(activation, (double)alone[i])) *
                      (double)in[i / width * stride + i % width];
        }
        must(bed, device_activate_by(bed->device, out, bed_put(bed, alone, TOKENS * width),
                                     bed_put(bed, in, TOKENS * stride), stride, activation, TOKENS, width,
                                     &bed->error));
        assert_rounded(bed, "activate_by", out, want, TOKENS * width);
        free(alone);
    }
    in[0] = NAN;
    must(bed, device_activate(bed->device, out, bed_put(bed, in, TOKENS * stride), activation, gated, TOKENS,
                              width, &bed->error));
    float *got = bed_get(bed, out, 1);
    assert_true(isnan(got[0]));
    free(got), free(want), free(in);
}

static void try_gate(struct bed *bed, struct device_gates form) {
    size_t width = form.groups * form.width;
    size_t stride = form.stride;
    float *x = random_numbers(1, TOKENS * width, 2, bed->dtype);
    float *gates = random_numbers(2, TOKENS * stride, 12, bed->dtype);
    double *want = take_doubles(TOKENS * width);
    void *place = bed_put(bed, x, TOKENS * width);
    for (size_t i = 0; i < TOKENS * width; i++) {
        double gate =
            (double)gates[i / width * stride + i % width / form.width * form.apart + i % form.width];
        want[i] = (double)x[i] * rounds(bed, 1 / (1 + exp(-gate)));
    }
    must(bed,
         device_gate(bed->device, place, bed_put(bed, gates, TOKENS * stride), &form, TOKENS, &bed->error));
    assert_rounded(bed, "gate", place, want, TOKENS * width);
    free(want), free(gates), free(x);
}

static void activations(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 1);
    for (int a = DEVICE_SILU; a <= DEVICE_RELU_SQUARED; a++) {
        for (int gated = 0; gated <= 1; gated++) {
            try_activation(&bed, (enum device_activation)a, gated, 19);
            try_activation(&bed, (enum device_activation)a, gated, 2056);
        }
    }
    try_gate(&bed, (struct device_gates){64, 64, 1, 64});
    try_gate(&bed, (struct device_gates){200, 48, 4, 16});
    try_gate(&bed, (struct device_gates){47, 17, 3, 11});
    bed_close(&bed);
}

static void test_activations(void **state) {
    (void)state;
    on_every_path(activations);
}

// ---- rotation ----

enum { POSITIONS = 4 };

struct turn_case {
    struct device_heads heads;
    size_t first;
    size_t part;
    enum device_pairing pairing;
    enum device_rope_rounding rounding;
    int norm; // of norm_cases; -1: none
    bool scaled;
    bool wide; // scales are not rounded
};

static const struct turn_case turns[] = {
    {{4, 2, 16, 0}, 0, 16, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ALL, -1, false, false},
    {{4, 2, 16, 32}, 0, 16, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, 0, false, false},
    {{3, 1, 64, 0}, 0, 16, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ONCE, 4, true, false},
    {{3, 3, 80, 5}, 20, 32, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_TABLES, 2, true, false},
    {{6, 2, 128, 64}, 64, 64, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_TABLES, 6, false, false},
    {{2, 1, 10, 0}, 4, 6, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, 7, true, false},
    {{5, 1, 192, 0}, 0, 0, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, 2, false, false},
    {{2, 1, 64, 0}, 0, 0, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ALL, -1, true, false},
    {{2, 2, 512, 0}, 0, 128, DEVICE_PAIR_HALVES, DEVICE_ROPE_ROUNDS_ONCE, 4, false, false},
    {{5, 1, 128, 0}, 0, 0, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ONCE, -1, true, true},
    {{2, 2, 66, 0}, 0, 66, DEVICE_PAIR_NEIGHBOURS, DEVICE_ROPE_ROUNDS_ONCE, -1, true, true},
};

struct turn_numbers {
    float *qkv;
    float *weights[2];
    float *biases[2];
    float *cosine;
    float *sine;
    float scales[POSITIONS];
    int32_t rows[TOKENS];
};

// One head as it should become; in `x` what it was normalised to.
static void turn_head(const struct bed *bed, double *out, const double *x, const struct turn_case *c,
                      const struct turn_numbers *n, size_t row, bool query) {
    const size_t half = c->part / 2;
    for (size_t i = 0; i < c->heads.head_dim; i++) {
        size_t at = i - c->first;
        out[i] = x[i];
        if (at < c->part) { // below first it wraps around
            bool halves = c->pairing == DEVICE_PAIR_HALVES;
            bool left = halves ? at < half : at % 2 == 0;
            size_t pair = halves ? at % half : at / 2;
            double other = x[left ? i + (halves ? half : 1) : i - (halves ? half : 1)];
            double cosine = (double)n->cosine[row * half + pair];
            double sine = (double)n->sine[row * half + pair];
            if (c->rounding != DEVICE_ROPE_ROUNDS_ONCE) {
                cosine = rounds(bed, cosine);
                sine = rounds(bed, sine);
            }
            bool all = c->rounding == DEVICE_ROPE_ROUNDS_ALL;
            double along = all ? rounds(bed, x[i] * cosine) : x[i] * cosine;
            double across = all ? rounds(bed, other * sine) : other * sine;
            out[i] = left ? along - across : along + across;
        }
        if (query && c->scaled) {
            double scale = (double)n->scales[row];
            out[i] = rounds(bed, out[i]) * (c->wide ? scale : rounds(bed, scale));
        }
    }
}

static void turn_row(const struct bed *bed, double *want, const float *qkv, const struct turn_case *c,
                     const struct turn_numbers *n, size_t row) {
    double x[512];
    const struct norm_case *norm = c->norm < 0 ? NULL : &norm_cases[c->norm];
    for (size_t h = 0; h < c->heads.heads + c->heads.kv_heads; h++) {
        bool query = h < c->heads.heads;
        size_t at = query ? h * device_heads_apart(c->heads)
                          : device_heads_key(c->heads) + (h - c->heads.heads) * c->heads.head_dim;
        for (size_t i = 0; i < c->heads.head_dim; i++) {
            x[i] = (double)qkv[at + i];
        }
        if (norm != NULL) {
            norm_row(bed, x, qkv + at, c->heads.head_dim, norm, n->weights[!query], n->biases[!query], 1e-5);
        }
        for (size_t i = 0; i < c->heads.head_dim; i++) {
            x[i] = rounds(bed, x[i]);
        }
        turn_head(bed, want + at, x, c, n, row, query);
    }
}

static struct device_norm norm_on(struct bed *bed, const struct turn_case *c, const struct turn_numbers *n,
                                  int of_keys) {
    if (c->norm < 0) {
        return (struct device_norm){.weight = NULL};
    }
    return (struct device_norm){
        .kind = norm_cases[c->norm].kind,
        .epsilon = 1e-5f,
        .weight = bed_put(bed, n->weights[of_keys], c->heads.head_dim),
        .bias = norm_cases[c->norm].biased ? bed_put(bed, n->biases[of_keys], c->heads.head_dim) : NULL};
}

static void try_turn(struct bed *bed, const struct turn_case *c) {
    const size_t width = device_heads_width(c->heads);
    const size_t head_dim = c->heads.head_dim;
    const size_t angles = POSITIONS * c->part / 2;
    struct turn_numbers n = {
        .qkv = random_numbers(1, TOKENS * width, 2, bed->dtype),
        .weights = {random_numbers(2, head_dim, 1.5f, bed->dtype),
                    random_numbers(3, head_dim, 1.5f, bed->dtype)},
        .biases = {random_numbers(4, head_dim, 1, bed->dtype), random_numbers(5, head_dim, 1, bed->dtype)},
        .cosine = random_numbers(6, angles, 1, DTYPE_F32),
        .sine = random_numbers(7, angles, 1, DTYPE_F32),
        .scales = {1.1f, 0.7f, 1.9f, 1.3f},
        .rows = {3, 0, 2},
    };
    void *place = bed_put(bed, n.qkv, TOKENS * width);
    double *want = take_doubles(TOKENS * width);
    const struct device_rope rope = {
        .q_norm = norm_on(bed, c, &n, 0),
        .k_norm = norm_on(bed, c, &n, 1),
        .cosine = c->part > 0 ? bed_upload(bed, n.cosine, angles * sizeof(float)) : NULL,
        .sine = c->part > 0 ? bed_upload(bed, n.sine, angles * sizeof(float)) : NULL,
        .row = c->part > 0 || c->scaled ? bed_upload(bed, n.rows, sizeof n.rows) : NULL,
        .first = c->first,
        .part = c->part,
        .pairing = c->pairing,
        .rounding = c->rounding,
        .query_scale = c->scaled ? bed_upload(bed, n.scales, sizeof n.scales) : NULL,
        .wide_query_scale = c->wide};
    for (size_t i = 0; i < TOKENS * width; i++) { // values, and what lies between, stay
        want[i] = (double)n.qkv[i];
    }
    for (size_t t = 0; t < TOKENS; t++) {
        turn_row(bed, want + t * width, n.qkv + t * width, c, &n, (size_t)n.rows[t]);
    }
    must(bed, device_qk_norm_rope(bed->device, place, &rope, c->heads, TOKENS, &bed->error));
    assert_rounded(bed, "qk_norm_rope", place, want, TOKENS * width);
    free(want), free(n.qkv), free(n.cosine), free(n.sine);
    for (int i = 0; i < 2; i++) {
        free(n.weights[i]), free(n.biases[i]);
    }
}

static void rotation(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 1);
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        try_turn(&bed, &turns[i]);
    }
    bed_close(&bed);
}

static void test_rotation(void **state) {
    (void)state;
    on_every_path(rotation);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),       cmocka_unit_test(test_groups),   cmocka_unit_test(test_sums),
        cmocka_unit_test(test_activations), cmocka_unit_test(test_rotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
