// SPDX-License-Identifier: MIT
// Activations, gates, and rows that are scaled and added, on every path against double precision; rounding
// points of the halves, NaN and infinities.
#include "device_testing.h"

enum { TOKENS = 5 };

static const size_t lengths[] = {1, 7, 8, 24, 66, 130, 1030, 4100};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

// got against what is exact within a bound each, and in halves mostly the very bits of `rounded`: where a
// computation rounds at other points than asked, far more numbers differ. Frees all four.
static void assert_all(const struct bed *bed, const char *what, float *got, double *exact, double *bounds,
                       float *rounded, size_t count) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++) {
        assert_close(bed, what, i, got[i], exact[i], bounds[i]);
        different += got[i] != rounded[i];
    }
    if (bed->dtype != DTYPE_F32 && count >= 320 && different * 50 > count) {
        fail_msg("%s, path %s, %s: %zu of %zu numbers are rounded differently", what, bed->path,
                 dtype_name(bed->dtype), different, count);
    }
    free(rounded);
    free(bounds);
    free(exact);
    free(got);
}

struct outcome {
    double *exact;
    double *bounds;
    float *rounded;
};

static struct outcome outcome_new(size_t count) {
    struct outcome out = {calloc(count, sizeof(double)), calloc(count, sizeof(double)),
                          calloc(count, sizeof(float))};
    assert_true(out.exact != NULL && out.bounds != NULL && out.rounded != NULL);
    return out;
}

// ---- activations ----

static double activated(double x, enum device_activation activation) {
    switch (activation) {
    case DEVICE_SILU:
        return x / (1 + exp(-x));
    case DEVICE_GELU:
        return x * 0.5 * erfc(-x * 0.70710678118654752440);
    case DEVICE_GELU_TANH:
        return x * 0.5 * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    case DEVICE_RELU:
        return x > 0 ? x : 0;
    case DEVICE_RELU_SQUARED:
        return x > 0 ? x * x : 0;
    case DEVICE_XIELU:
        break;
    }
    return NAN;
}

// 1 + erf and 1 + tanh, which models compute, lose what is below a rounding of 1.
static double activation_bound(const struct bed *bed, double x, enum device_activation activation) {
    bool of_sum = activation == DEVICE_GELU || activation == DEVICE_GELU_TANH;
    double value = activated(x, activation);
    return (12 * F32_EPSILON + 1.01 * bed_epsilon(bed)) * fabs(value) + bed_least(bed) + 1e-33 +
           (of_sum ? 3 * F32_EPSILON * fabs(x) : 0);
}

static void try_activation(struct bed *bed, enum device_activation activation, bool gated, size_t n) {
    size_t stride = gated ? 2 * n : n;
    float *in = random_numbers(n, TOKENS * stride, n % 2 == 0 ? 3.0f : 1.0f, bed->dtype);
    void *out = bed_take(bed, TOKENS * n * sizeof(float));
    in[0] = 100.0f;
    in[stride] = -100.0f;
    in[2 * stride] = round_to(1e-3f, bed->dtype);
    must(bed, device_activate(bed->device, out, bed_put(bed, in, TOKENS * stride), activation, gated, TOKENS,
                              n, &bed->error));
    struct outcome want = outcome_new(TOKENS * n);
    for (size_t i = 0; i < TOKENS * n; i++) {
        double x = (double)in[i / n * stride + i % n];
        float up = gated ? in[i / n * stride + n + i % n] : 1;
        float value = round_to((float)activated(x, activation), bed->dtype);
        want.exact[i] = activated(x, activation) * (double)up;
        want.rounded[i] = round_to(value * up, bed->dtype);
        want.bounds[i] = activation_bound(bed, x, activation) * fabs((double)up) +
                         (gated ? 1.02 * bed_epsilon(bed) * fabs(want.exact[i]) + bed_least(bed) : 0);
    }
    float *got = bed_get(bed, out, TOKENS * n);
    if (gated) { // the same from gates alone, by factors that lie in rows of another length
        float *gates = malloc(TOKENS * n * sizeof *gates);
        assert_non_null(gates);
        for (size_t t = 0; t < TOKENS; t++) {
            memcpy(gates + t * n, in + t * stride, n * sizeof *gates);
        }
        must(bed, device_activate_by(bed->device, out, bed_put(bed, gates, TOKENS * n),
                                     bed_put(bed, in + n, TOKENS * stride - n), stride, activation, TOKENS, n,
                                     &bed->error));
        float *apart = bed_get(bed, out, TOKENS * n);
        assert_memory_equal(apart, got, TOKENS * n * sizeof *got);
        free(apart);
        free(gates);
    }
    assert_all(bed, "activate", got, want.exact, want.bounds, want.rounded, TOKENS * n);
    free(in);
}

static void activations(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (int activation = DEVICE_SILU; activation <= DEVICE_RELU_SQUARED; activation++) {
        for (size_t i = 0; i < LENGTHS; i++) {
            try_activation(&bed, (enum device_activation)activation, false, lengths[i]);
            try_activation(&bed, (enum device_activation)activation, true, lengths[i]);
        }
    }
    bed_close(&bed);
}

static void test_activations(void **state) {
    (void)state;
    on_every_path(activations);
}

// ---- xIELU, and a limit ----

static const float xielu_numbers[DEVICE_XIELU_NUMBERS] = {0.7f, 0.4f, 0.5f, -1e-6f};

static float xielu_rounded(float x, const float *of, enum dtype dtype) {
    float beta = of[2];
    float line = round_to(beta * x, dtype);
    float alpha = round_to((float)log1p(exp((double)of[x > 0 ? 0 : 1])), dtype);
    if (x > 0) {
        return round_to(round_to(round_to(alpha * x, dtype) * x, dtype) + line, dtype);
    }
    float power = round_to((float)expm1((double)(x > of[3] ? of[3] : x)), dtype);
    float bent = round_to(round_to(power - x, dtype) * round_to(beta + alpha, dtype), dtype);
    return round_to(bent + line, dtype);
}

static void try_xielu(struct bed *bed, size_t n) {
    size_t count = TOKENS * n;
    float of[DEVICE_XIELU_NUMBERS];
    float *in = random_numbers(n, count, n % 2 == 0 ? 3.0f : 0.1f, bed->dtype);
    void *out = bed_take(bed, count * sizeof(float));
    in[0] = 0;
    in[count - 1] = -40;
    for (size_t i = 0; i < DEVICE_XIELU_NUMBERS; i++) {
        of[i] = round_to(xielu_numbers[i], bed->dtype);
    }
    must(bed, device_xielu(bed->device, out, bed_put(bed, in, count), bed_put(bed, of, DEVICE_XIELU_NUMBERS),
                           TOKENS, n, &bed->error));
    struct outcome want = outcome_new(count);
    for (size_t i = 0; i < count; i++) {
        double x = (double)in[i];
        double alpha = log1p(exp((double)of[x > 0 ? 0 : 1]));
        double bent = x > 0 ? alpha * x * x : (expm1(fmin(x, (double)of[3])) - x) * ((double)of[2] + alpha);
        want.exact[i] = bent + (double)of[2] * x;
        want.rounded[i] = xielu_rounded(in[i], of, bed->dtype);
        want.bounds[i] =
            (12 * F32_EPSILON + 3 * bed_epsilon(bed)) * (fabs(bent) + fabs(x)) + 4 * bed_least(bed) + 1e-33;
    }
    assert_all(bed, "xielu", bed_get(bed, out, count), want.exact, want.bounds, want.rounded, count);
    free(in);
}

static void try_clamp(struct bed *bed, size_t n) {
    size_t count = TOKENS * n;
    float *x = random_numbers(n + 5, count, 3.0f, bed->dtype);
    x[0] = NAN;
    x[n] = INFINITY;
    x[2 * n] = -INFINITY;
    void *place = bed_put(bed, x, count);
    must(bed, device_clamp(bed->device, place, 1.3f, TOKENS, n, &bed->error));
    float *got = bed_get(bed, place, count);
    float limit = round_to(1.3f, bed->dtype);
    assert_true(isnan(got[0]));
    for (size_t i = 1; i < count; i++) {
        float want = x[i] > 1.3f ? limit : x[i] < -1.3f ? -limit : x[i];
        assert_true(got[i] == want);
    }
    free(got);
    free(x);
}

static void xielu_and_limits(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < LENGTHS; i++) {
        try_xielu(&bed, lengths[i]);
        try_clamp(&bed, lengths[i]);
    }
    float ends[] = {NAN, INFINITY, -INFINITY};
    void *out = bed_put(&bed, ends, 3);
    must(&bed, device_xielu(bed.device, out, out, bed_put(&bed, xielu_numbers, DEVICE_XIELU_NUMBERS), 1, 3,
                            &bed.error));
    float *got = bed_get(&bed, out, 3);
    assert_true(isnan(got[0]) && got[1] == INFINITY && !isfinite(got[2]));
    free(got);
    assert_int_equal(device_activate(bed.device, out, out, DEVICE_XIELU, false, 1, 3, &bed.error),
                     STATUS_INTERNAL);
    bed_close(&bed);
}

static void test_xielu_and_limits(void **state) {
    (void)state;
    on_every_path(xielu_and_limits);
}

// ---- where activations are hardest ----

// Every float32 step of a range that matters, to a unit or two in the last place: near 0, where series begin,
// and where they end.
static void fine_activations(const char *path, enum dtype dtype) {
    enum { COUNT = 4000 };
    if (dtype != DTYPE_F32) {
        return;
    }
    struct bed bed = bed_open(path, dtype, 1);
    float in[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        in[i] = (float)pow(10, -6 + 7.2 * (double)i / COUNT); // up to 15
    }
    void *device_in = bed_put(&bed, in, COUNT);
    void *out = bed_take(&bed, COUNT * sizeof(float));
    for (int activation = DEVICE_SILU; activation <= DEVICE_GELU_TANH; activation++) {
        must(&bed, device_activate(bed.device, out, device_in, (enum device_activation)activation, false, 1,
                                   COUNT, &bed.error));
        float *got = bed_get(&bed, out, COUNT);
        for (size_t i = 0; i < COUNT; i++) {
            double want = activated((double)in[i], (enum device_activation)activation);
            assert_close(&bed, "activation of a positive number", i, got[i], want, 6 * F32_EPSILON * want);
        }
        free(got);
    }
    bed_close(&bed);
}

static void test_fine_activations(void **state) {
    (void)state;
    on_every_path(fine_activations);
}

static void extremes(const char *path, enum dtype dtype) {
    enum { COUNT = 6 };
    struct bed bed = bed_open(path, dtype, 1);
    const float in[COUNT] = {NAN, INFINITY, -INFINITY, 0, 60000, -60000};
    void *device_in = bed_put(&bed, in, COUNT);
    void *out = bed_take(&bed, COUNT * sizeof(float));
    for (int activation = DEVICE_SILU; activation <= DEVICE_RELU_SQUARED; activation++) {
        must(&bed, device_activate(bed.device, out, device_in, (enum device_activation)activation, false, 1,
                                   COUNT, &bed.error));
        float *got = bed_get(&bed, out, COUNT);
        bool relu = activation == DEVICE_RELU || activation == DEVICE_RELU_SQUARED;
        float large = round_to(60000, dtype);
        float squared = round_to(large * large, dtype);
        assert_true(isnan(got[0]));
        assert_true(got[1] == INFINITY);
        assert_true(relu ? got[2] == 0 : !isfinite(got[2]) || activation == DEVICE_SILU);
        assert_true(got[3] == 0 && fabsf(got[5]) < 1e-30f);
        assert_true(got[4] == (activation == DEVICE_RELU_SQUARED ? squared : large));
        free(got);
    }
    void *ones = bed_put(&bed, (const float[COUNT]){1, 1, 1, 1, 1, 1}, COUNT);
    const struct device_gates gates = {COUNT, COUNT, 1, COUNT};
    must(&bed, device_gate(bed.device, ones, device_in, &gates, 1, &bed.error));
    float *got = bed_get(&bed, ones, COUNT);
    assert_true(isnan(got[0]) && got[1] == 1 && got[2] == 0 && got[3] == 0.5f && got[4] == 1 && got[5] == 0);
    free(got);
    bed_close(&bed);
}

static void test_extremes(void **state) {
    (void)state;
    on_every_path(extremes);
}

// ---- gates, sums and factors ----

static void try_gate(struct bed *bed, struct device_gates form) {
    size_t n = form.groups * form.width;
    size_t stride = form.stride;
    float *x = random_numbers(n, TOKENS * n, 3.0f, bed->dtype);
    float *gate = random_numbers(n + 1, TOKENS * stride, 12.0f, bed->dtype);
    void *device_x = bed_put(bed, x, TOKENS * n);
    void *device_gates = bed_put(bed, gate, TOKENS * stride);
    must(bed, device_gate(bed->device, device_x, device_gates, &form, TOKENS, &bed->error));
    struct outcome want = outcome_new(TOKENS * n);
    for (size_t i = 0; i < TOKENS * n; i++) {
        double sigmoid =
            1 / (1 + exp(-(double)gate[i / n * stride + i % n / form.width * form.apart + i % form.width]));
        want.exact[i] = (double)x[i] * sigmoid;
        want.rounded[i] = round_to(x[i] * round_to((float)sigmoid, bed->dtype), bed->dtype);
        want.bounds[i] = (8 * F32_EPSILON + 2.02 * bed_epsilon(bed)) * fabs(want.exact[i]) +
                         bed_least(bed) * (fabs((double)x[i]) + 1);
    }
    assert_all(bed, "gate", bed_get(bed, device_x, TOKENS * n), want.exact, want.bounds, want.rounded,
               TOKENS * n);
    free(gate);
    free(x);
}

// x + y * scale, the product rounded first; x is 0 where nothing is added.
static struct outcome sums_wanted(const struct bed *bed, const float *x, const float *y, float scale,
                                  size_t count) {
    struct outcome want = outcome_new(count);
    for (size_t i = 0; i < count; i++) {
        double product = (double)y[i] * (double)scale;
        double before = x != NULL ? (double)x[i] : 0;
        float rounded = round_to((float)product, bed->dtype);
        want.exact[i] = before + product;
        want.rounded[i] = x != NULL ? round_to(x[i] + rounded, bed->dtype) : rounded;
        want.bounds[i] = (1.01 * bed_epsilon(bed) + 2 * F32_EPSILON) * (fabs(product) + fabs(want.exact[i])) +
                         2 * bed_least(bed);
    }
    return want;
}

static void try_sums(struct bed *bed, size_t n, float scale) {
    size_t count = TOKENS * n;
    float *x = random_numbers(n, count, 3.0f, bed->dtype);
    float *y = random_numbers(n + 1, count, 5.0f, bed->dtype);
    void *device_x = bed_put(bed, x, count);
    must(bed, device_add(bed->device, device_x, bed_put(bed, y, count), scale, TOKENS, n, &bed->error));
    struct outcome want = sums_wanted(bed, x, y, scale, count);
    assert_all(bed, "add", bed_get(bed, device_x, count), want.exact, want.bounds, want.rounded, count);

    float factor = round_to(scale, bed->dtype);
    void *device_y = bed_put(bed, y, count);
    must(bed, device_scale(bed->device, device_y, bed_put(bed, &factor, 1), TOKENS, n, &bed->error));
    want = sums_wanted(bed, NULL, y, factor, count);
    assert_all(bed, "scale", bed_get(bed, device_y, count), want.exact, want.bounds, want.rounded, count);
    free(y);
    free(x);
}

static void try_embed(struct bed *bed, size_t n, float scale, enum device_store store) {
    static const int32_t ids[TOKENS] = {8, 0, 3, 3, 7};
    float *table = random_numbers(n, 9 * n, 2.0f, bed->dtype);
    float *before = random_numbers(n + 1, TOKENS * n, 2.0f, bed->dtype);
    float *rows = calloc(TOKENS * n, sizeof *rows);
    assert_non_null(rows);
    for (size_t t = 0; t < TOKENS; t++) {
        memcpy(rows + t * n, table + (size_t)ids[t] * n, n * sizeof *rows);
    }
    void *out = bed_put(bed, before, TOKENS * n);
    must(bed, device_embed(bed->device, out, bed_put(bed, table, 9 * n), bed_upload(bed, ids, sizeof ids),
                           scale, store, TOKENS, n, &bed->error));
    struct outcome want = sums_wanted(bed, store == DEVICE_ADD ? before : NULL, rows, scale, TOKENS * n);
    assert_all(bed, "embed", bed_get(bed, out, TOKENS * n), want.exact, want.bounds, want.rounded,
               TOKENS * n);
    free(rows);
    free(before);
    free(table);
}

static void gates_and_sums(const char *path, enum dtype dtype) {
    struct bed bed = bed_open(path, dtype, 2);
    for (size_t i = 0; i < LENGTHS; i++) {
        size_t apart = lengths[i] + i % 3 * 4;
        try_gate(&bed, (struct device_gates){apart, apart, 1, lengths[i]});
        try_gate(&bed, (struct device_gates){3 * apart + 5, apart, 3, lengths[i]});
        try_sums(&bed, lengths[i], 1);
        try_sums(&bed, lengths[i], 0.22f);
        try_embed(&bed, lengths[i], 12.3f, DEVICE_STORE);
        try_embed(&bed, lengths[i], 1, DEVICE_ADD);
        try_embed(&bed, lengths[i], 0.3f, DEVICE_ADD);
    }
    bed_close(&bed);
}

static void test_gates_and_sums(void **state) {
    (void)state;
    on_every_path(gates_and_sums);
}

// ---- gates of rows ----

static float *gate_rows(struct bed *bed, const float *x, const float *in, const float *weight, size_t tokens,
                        size_t width, size_t hidden) {
    void *out = bed_put(bed, x, tokens * width);
    must(bed, device_gate_rows(bed->device, out, bed_put(bed, in, tokens * hidden),
                               bed_put(bed, weight, hidden), tokens, width, hidden, &bed->error));
    return bed_get(bed, out, tokens * width);
}

// Rows against double precision. In halves the product, its sigmoid and the result are rounded, unless a GPU
// leaves some of that out.
static void check_gated(const struct bed *bed, const float *got, const float *x, const float *in,
                        const float *weight, size_t tokens, size_t width, size_t hidden) {
    size_t different = 0;
    for (size_t t = 0; t < tokens; t++) {
        double dot = 0;
        double size = 0;
        for (size_t i = 0; i < hidden; i++) {
            dot += (double)weight[i] * (double)in[t * hidden + i];
            size += fabs((double)weight[i] * (double)in[t * hidden + i]);
        }
        double off = (double)(hidden + 2) * F32_EPSILON * size + 1.01 * bed_epsilon(bed) * fabs(dot);
        double gate = 1 / (1 + exp(-dot)); // whose slope is at most itself
        double product = bed->dtype == DTYPE_F32 ? dot : (double)round_to((float)dot, bed->dtype);
        float factor = round_to((float)(1 / (1 + exp(-product))), bed->dtype);
        for (size_t j = 0; j < width; j++) {
            size_t at = t * width + j;
            double want = (double)x[at] * gate;
            double bound = fabs(want) * (expm1(1.01 * off) + 3 * bed_epsilon(bed) + 8 * F32_EPSILON);
            assert_close(bed, "gate of rows", at, got[at], want, bound + 6 * bed_least(bed) + 1e-30);
            different += got[at] != round_to(x[at] * factor, bed->dtype);
        }
    }
    if (test_on_cpu() && bed->dtype != DTYPE_F32 && different * 20 > tokens * width) {
        fail_msg("gate of rows, path %s, %s: %zu of %zu numbers are rounded differently", bed->path,
                 dtype_name(bed->dtype), different, tokens * width);
    }
}

static void check_gate_rows(const char *path, enum dtype dtype) {
    static const size_t shapes[][2] = {{1, 1}, {8, 40}, {35, 7}, {96, 264}, {16, 1030}}; // width, hidden
    enum { ROWS = 37 };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        size_t width = shapes[s][0];
        size_t hidden = shapes[s][1];
        struct bed bed = bed_open_rows(path, dtype, 2, ROWS);
        float *x = random_numbers(1, ROWS * width, 3.0f, dtype);
        float *in = random_numbers(2, ROWS * hidden, 2.0f, dtype);
        float *weight = random_numbers(3, hidden, 1.0f, dtype);
        in[0] = 200; // shut or open altogether
        float *got = gate_rows(&bed, x, in, weight, ROWS, width, hidden);
        check_gated(&bed, got, x, in, weight, ROWS, width, hidden);
        for (size_t t = 0; t < ROWS; t += 6) { // alone, then with those after it
            size_t count = t % 12 == 0 ? 1 : ROWS - t;
            float *some = gate_rows(&bed, x + t * width, in + t * hidden, weight, count, width, hidden);
            assert_memory_equal(some, got + t * width, count * width * sizeof *some);
            free(some);
        }
        free(got);
        free(weight);
        free(in);
        free(x);
        bed_close(&bed);
    }
}

static void test_gate_rows(void **state) {
    (void)state;
    on_every_path(check_gate_rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activations),      cmocka_unit_test(test_xielu_and_limits),
        cmocka_unit_test(test_fine_activations), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_gates_and_sums),   cmocka_unit_test(test_gate_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
