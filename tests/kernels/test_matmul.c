// SPDX-License-Identifier: MIT
// Matmuls of every path against double precision; parts and formats of loading. Sizes that are
// multiples of 8, as all models have, come first and by themselves: a GPU's library may have no algorithm for
// others.
#include <sched.h>

#include "device_testing.h"
#include "kernels/cpu/cpu_device.h"

struct numbers_of_case {
    float *x;
    float *weights;
    float *bias;
    float *before;
};

static void check_matmul(struct bed *bed, const struct numbers_of_case *in, const float *got, size_t tokens,
                         size_t rows, size_t columns, bool biased, enum device_store store) {
    for (size_t t = 0; t < tokens; t++) {
        for (size_t n = 0; n < rows; n++) {
            double matmul = biased ? (double)in->bias[n] : 0;
            double size = fabs(matmul);
            for (size_t k = 0; k < columns; k++) {
                double term = (double)in->x[t * columns + k] * (double)in->weights[n * columns + k];
                matmul += term;
                size += fabs(term);
            }
            double want = store == DEVICE_ADD ? (double)in->before[t * rows + n] + matmul : matmul;
            // One float32 rounding an addition, of sums no larger than `size`; then one rounding to the dtype
            // of the matmul and one of the residual sum.
            double bound = (double)(columns + 2) * F32_EPSILON * size;
            bound += 1.01 * bed_epsilon(bed) * (fabs(matmul) + (store == DEVICE_ADD ? fabs(want) : 0)) +
                     2 * bed_least(bed) + 1e-30;
            assert_close(bed, "matmul", t * rows + n, got[t * rows + n], want, bound);
        }
    }
}

static void try_matmul(struct bed *bed, size_t tokens, size_t rows, size_t columns, bool biased,
                       enum device_store store) {
    if (!bed_multiplies(bed, rows, columns, biased, store)) {
        return;
    }
    struct numbers_of_case in = {
        random_numbers(tokens * 7 + rows, tokens * columns, 1.0f, bed->dtype),
        random_numbers(rows * 11 + columns, rows * columns, 0.5f, bed->dtype),
        random_numbers(rows, rows, 3.0f, bed->dtype),
        random_numbers(rows + 5, tokens * rows, 3.0f, bed->dtype),
    };
    struct device_matrix matrix = bed_matrix(bed, in.weights, rows, columns);
    void *x = bed_put_rows(bed, in.x, tokens, columns);
    void *bias = biased ? bed_put(bed, in.bias, rows) : NULL;
    void *out = bed_put_rows(bed, in.before, tokens, rows);
    int status = device_matmul(bed->device, out, x, &matrix, bias, tokens, store, &bed->error);
    if (!bed_lacks(bed, status, rows, columns)) {
        float *got = bed_get(bed, out, tokens * rows);
        check_matmul(bed, &in, got, tokens, rows, columns, biased, store);
        free(got);
    }
    free(in.x);
    free(in.weights);
    free(in.bias);
    free(in.before);
}

// Each stored and added, with a bias and without.
static void try_shapes(const char *path, enum dtype dtype, const size_t (*shapes)[3], size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct bed bed = bed_open_rows(path, dtype, 2, shapes[i][0] + i % 3);
        enum device_store store = i % 2 == 0 ? DEVICE_STORE : DEVICE_ADD;
        try_matmul(&bed, shapes[i][0], shapes[i][1], shapes[i][2], i % 3 == 1, store);
        try_matmul(&bed, shapes[i][0], shapes[i][1], shapes[i][2], i % 3 != 1, DEVICE_STORE);
        bed_close(&bed);
    }
}

static void matmuls(const char *path, enum dtype dtype) {
    static const size_t shapes[][3] = {
        {1, 8, 8},     {2, 8, 16},    {5, 16, 24},   {6, 64, 64},   {13, 136, 40},  {47, 80, 504},
        {49, 24, 512}, {50, 40, 520}, {193, 72, 32}, {3, 16, 2048}, {100, 520, 32}, {9, 72, 4104},
    };
    try_shapes(path, dtype, shapes, sizeof shapes / sizeof shapes[0]);
}

static void test_matmuls(void **state) {
    (void)state;
    on_every_path(matmuls);
}

static void odd_matmuls(const char *path, enum dtype dtype) {
    // [tokens, rows, columns]: single numbers, odd depths, edges of tiles, panels, row blocks and depth
    // blocks.
    static const size_t shapes[][3] = {
        {1, 1, 1},     {1, 1, 2},     {2, 3, 5},      {5, 7, 24},    {7, 65, 63},
        {13, 129, 40}, {47, 80, 511}, {50, 33, 513},  {193, 70, 31}, {385, 5, 17},
        {3, 11, 2047}, {4, 70, 2049}, {100, 520, 30}, {9, 66, 4099},
    };
    try_shapes(path, dtype, shapes, sizeof shapes / sizeof shapes[0]);
}

static void test_odd_matmuls(void **state) {
    (void)state;
    on_every_path(odd_matmuls);
}

static void some_matmuls(const char *path, enum dtype dtype) {
    static const size_t tokens[] = {1, 13, 70};
    size_t rows = test_on_cpu() ? 300 : 304; // no whole panels, where there are panels
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        struct bed bed = bed_open_rows(path, dtype, 3, tokens[i]);
        try_matmul(&bed, tokens[i], rows, 40, false, DEVICE_STORE);
        bed_close(&bed);
    }
}

// Members of the team that do not get to run: the work of those that are missing is done all the same. With
// one processor for three threads most of it is.
static void test_fewer_threads(void **state) {
    (void)state;
    cpu_set_t before;
    cpu_set_t one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    size_t first = 0;
    while (!CPU_ISSET(first, &before)) {
        first++;
    }
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    on_every_path(some_matmuls);
    sched_setaffinity(0, sizeof before, &before);
}

// A matrix filled in parts, in any order, from any number format, gives the same matmul as one filled at
// once.
static void parts_of(const char *path, enum dtype dtype, size_t rows, size_t columns) {
    enum { TOKENS = 5, FORMATS = 3 };
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    if (!bed_multiplies(&bed, rows, columns, false, DEVICE_STORE)) {
        bed_close(&bed);
        return;
    }
    float *weights = random_numbers(3, rows * columns, 0.5f, DTYPE_BF16);
    for (size_t i = 0; i < rows * columns; i++) {
        weights[i] = f16_to_f32(f32_to_f16(weights[i])); // numbers that all three formats hold
    }
    float *x = random_numbers(4, TOKENS * columns, 1.0f, dtype);
    void *device_x = bed_put(&bed, x, TOKENS * columns);
    struct device_matrix whole = bed_matrix(&bed, weights, rows, columns);
    void *out = bed_take(&bed, TOKENS * rows * sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &whole, NULL, TOKENS, DEVICE_STORE, &bed.error));
    void *wanted = bed_bytes(&bed, out, TOKENS * rows * dtype_size(dtype));
    const size_t pieces[][2] = {{100, rows - 100}, {0, 1}, {1, 66}, {67, 33}};
    for (int format = 0; format < FORMATS; format++) {
        uint32_t *converted = malloc(rows * columns * sizeof *converted);
        assert_non_null(converted);
        dtype_convert(converted, (enum dtype)format, weights, DTYPE_F32, rows * columns);
        struct device_matrix matrix;
        matrix = (struct device_matrix){.rows = rows, .columns = columns};
        must(&bed, device_matrix_take(bed.device, &matrix, &bed.error));
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
            const unsigned char *source = (const unsigned char *)converted;
            source += pieces[i][0] * columns * dtype_size((enum dtype)format);
            must(&bed, device_matrix_load(bed.device, &matrix, pieces[i][0], pieces[i][1], source,
                                          weight_format_of((enum dtype)format), &bed.error));
        }
        must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
        void *got = bed_bytes(&bed, out, TOKENS * rows * dtype_size(dtype));
        assert_memory_equal(got, wanted, TOKENS * rows * dtype_size(dtype));
        free(got);
        free(converted);
    }
    free(wanted);
    free(x);
    free(weights);
    bed_close(&bed);
}

static void parts(const char *path, enum dtype dtype) {
    parts_of(path, dtype, 152, 72);
}

static void odd_parts(const char *path, enum dtype dtype) {
    parts_of(path, dtype, 150, 71);
}

static void test_parts(void **state) {
    (void)state;
    on_every_path(parts);
    on_every_path(odd_parts);
}

// float32 matmuls are computed in float32: numbers that bfloat16 cannot tell apart stay apart.
static void exact_f32(const char *path, enum dtype dtype) {
    enum { ROWS = 8, COLUMNS = 8 };
    if (dtype != DTYPE_F32) {
        return;
    }
    struct bed bed = bed_open_rows(path, dtype, 1, 1);
    float weights[ROWS * COLUMNS] = {1.0f + 0x1p-20f, -1.0f};
    float x[COLUMNS] = {1.0f, 1.0f};
    struct device_matrix matrix = bed_matrix(&bed, weights, ROWS, COLUMNS);
    void *device_x = bed_put(&bed, x, COLUMNS);
    void *out = bed_take(&bed, ROWS * sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, 1, DEVICE_STORE, &bed.error));
    float *got = bed_get(&bed, out, ROWS);
    assert_true(got[0] == 0x1p-20f && got[1] == 0);
    free(got);
    bed_close(&bed);
}

static void test_exact_f32(void **state) {
    (void)state;
    on_every_path(exact_f32);
}

// float16 numbers of every kind: subnormal ones count, what rounds beyond the largest becomes infinite, and
// sums that pass it on the way come back.
static void edges_of_f16(const char *path, enum dtype dtype) {
    enum { ROWS = 8, COLUMNS = 40, TOKENS = 7 };
    if (dtype != DTYPE_F16) {
        return;
    }
    static const struct {
        float weights[3];
        float x[3];
        float want;
    } cases[ROWS] = {
        {{0x1p-24f, 0, 0}, {1, 0, 0}, 0x1p-24f},
        {{0x1p-14f, -0x3ffp-24f, 0}, {1, 1, 0}, 0x1p-24f},
        {{65504, 15, 0}, {1, 1, 0}, 65504},
        {{65504, 16, 0}, {1, 1, 0}, INFINITY},
        {{-256, 0, 0}, {256, 0, 0}, -INFINITY},
        {{65504, 65504, -65504}, {2, -1, 1}, 0},
        {{0x1p-24f, 0x1p-24f, 0}, {0.5f, 0.5f, 0}, 0x1p-24f},
        {{0x1p-24f, 0, 0}, {0x1p-24f, 0, 0}, 0},
    };
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    float weights[ROWS * COLUMNS] = {0};
    for (size_t n = 0; n < ROWS; n++) {
        memcpy(weights + n * COLUMNS + 3 * n, cases[n].weights, sizeof cases[n].weights);
    }
    float x[TOKENS * COLUMNS] = {0};
    for (size_t i = 0; i < TOKENS * ROWS; i++) {
        memcpy(x + i / ROWS * COLUMNS + i % ROWS * 3, cases[i % ROWS].x, sizeof cases->x);
    }
    struct device_matrix matrix = bed_matrix(&bed, weights, ROWS, COLUMNS);
    void *device_x = bed_put_rows(&bed, x, TOKENS, COLUMNS);
    void *out = bed_take_rows(&bed, ROWS);
    for (size_t tokens = 1; tokens <= TOKENS; tokens += TOKENS - 1) {
        must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, tokens, DEVICE_STORE, &bed.error));
        float *got = bed_get(&bed, out, tokens * ROWS);
        for (size_t i = 0; i < tokens * ROWS; i++) {
            if (got[i] != cases[i % ROWS].want) {
                fail_msg("path %s: case %zu gives %g", path, i % ROWS, (double)got[i]);
            }
        }
        free(got);
    }
    bed_close(&bed);
}

static void test_edges_of_f16(void **state) {
    (void)state;
    on_every_path(edges_of_f16);
}

// A NaN in one row of x reaches every output of that row and none of another row.
static void nan_stays_in(const char *path, enum dtype dtype, size_t rows, size_t columns) {
    enum { TOKENS = 9 };
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    if (!bed_multiplies(&bed, rows, columns, false, DEVICE_STORE)) {
        bed_close(&bed);
        return;
    }
    float *weights = random_numbers(1, rows * columns, 1.0f, dtype);
    float *x = random_numbers(2, TOKENS * columns, 1.0f, dtype);
    x[4 * columns] = NAN; // the first of row 4: beside the end of row 3, whose depth is padded
    struct device_matrix matrix = bed_matrix(&bed, weights, rows, columns);
    void *device_x = bed_put(&bed, x, TOKENS * columns);
    void *out = bed_take(&bed, TOKENS * rows * sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
    float *got = bed_get(&bed, out, TOKENS * rows);
    for (size_t i = 0; i < TOKENS * rows; i++) {
        assert_int_equal(isnan(got[i]) != 0, i / rows == 4);
    }
    free(got);
    free(x);
    free(weights);
    bed_close(&bed);
}

static void nan_stays(const char *path, enum dtype dtype) {
    nan_stays_in(path, dtype, 72, 40);
}

static void odd_nan_stays(const char *path, enum dtype dtype) {
    nan_stays_in(path, dtype, 70, 33);
}

static void test_nan_stays(void **state) {
    (void)state;
    on_every_path(nan_stays);
    on_every_path(odd_nan_stays);
}

// What an earlier matmul left in scratch reaches no later one: NaN everywhere, then numbers of a depth that
// leaves padding.
static void nan_leaves_from(const char *path, enum dtype dtype, size_t rows, size_t fewer) {
    enum { TOKENS = 40, COLUMNS = 96 };
    struct bed bed = bed_open(path, dtype, 1);
    if (!bed_multiplies(&bed, rows, COLUMNS, false, DEVICE_STORE) ||
        !bed_multiplies(&bed, rows, fewer, false, DEVICE_STORE)) {
        bed_close(&bed);
        return;
    }
    float *weights = random_numbers(1, rows * COLUMNS, 1.0f, dtype);
    float *x = random_numbers(2, TOKENS * COLUMNS, 1.0f, dtype);
    struct device_matrix wide = bed_matrix(&bed, weights, rows, COLUMNS);
    struct device_matrix narrow = bed_matrix(&bed, weights, rows, fewer);
    void *device_x = bed_put(&bed, x, TOKENS * COLUMNS);
    for (size_t i = 0; i < TOKENS * COLUMNS; i++) {
        x[i] = NAN;
    }
    void *device_nan = bed_put(&bed, x, TOKENS * COLUMNS);
    void *out = bed_take(&bed, TOKENS * rows * sizeof(float));
    for (size_t tokens = 1; tokens <= TOKENS; tokens += 13) {
        must(&bed, device_matmul(bed.device, out, device_nan, &wide, NULL, TOKENS, DEVICE_STORE, &bed.error));
        must(&bed, device_matmul(bed.device, out, device_x, &narrow, NULL, tokens, DEVICE_STORE, &bed.error));
        float *got = bed_get(&bed, out, tokens * rows);
        for (size_t i = 0; i < tokens * rows; i++) {
            assert_true(isfinite(got[i]));
        }
        free(got);
    }
    free(x);
    free(weights);
    bed_close(&bed);
}

static void nan_leaves(const char *path, enum dtype dtype) {
    nan_leaves_from(path, dtype, 72, 40);
}

static void odd_nan_leaves(const char *path, enum dtype dtype) {
    nan_leaves_from(path, dtype, 70, 33);
}

static void test_nan_leaves(void **state) {
    (void)state;
    on_every_path(nan_leaves);
    on_every_path(odd_nan_leaves);
}

// Sizes of caches decide how a matmul is cut, never a bit of it. Tokens and features are many enough for
// whole work items of the largest kind, and the deeper matrix for sums that wait for the next depth.
static void any_caches(const char *path, enum dtype dtype) {
    static const struct {
        size_t level2;
        bool far_level3;
    } caches[] = {{0, false}, {256 << 10, true}, {1 << 20, false}, {1 << 20, true}, {2 << 20, true}};
    bool slow = strcmp(path, "portable") == 0; // smaller there: seconds in a debug build
    size_t tokens = slow ? 300 : 1500;
    size_t rows = slow ? 200 : 2100;
    size_t columns = slow ? 290 : 1100;
    struct bed bed = bed_open_rows(path, dtype, 1, tokens);
    struct cpu_device *cpu = cpu_of(bed.device);
    if (cpu->kernels->tiles != NULL) { // these have their own way to cut matmuls
        bed_close(&bed);
        return;
    }
    float *weights = random_numbers(1, rows * columns, 1.0f, dtype);
    float *x = random_numbers(2, tokens * columns, 1.0f, dtype);
    struct device_matrix matrix = bed_matrix(&bed, weights, rows, columns);
    void *device_x = bed_put_rows(&bed, x, tokens, columns);
    void *out = bed_take_rows(&bed, rows);
    unsigned char *wanted = NULL;
    for (size_t i = 0; i < sizeof caches / sizeof caches[0]; i++) {
        cpu->level2 = caches[i].level2;
        cpu->far_level3 = caches[i].far_level3;
        must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, tokens, DEVICE_STORE, &bed.error));
        unsigned char *got = bed_bytes(&bed, out, tokens * rows * dtype_size(dtype));
        if (wanted == NULL) {
            wanted = got;
            continue;
        }
        assert_memory_equal(got, wanted, tokens * rows * dtype_size(dtype));
        free(got);
    }
    free(wanted);
    free(x);
    free(weights);
    bed_close(&bed);
}

static void test_any_caches(void **state) {
    (void)state;
    if (test_on_cpu()) {
        on_every_path(any_caches);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmuls),       cmocka_unit_test(test_odd_matmuls),
        cmocka_unit_test(test_fewer_threads), cmocka_unit_test(test_parts),
        cmocka_unit_test(test_exact_f32),     cmocka_unit_test(test_nan_stays),
        cmocka_unit_test(test_nan_leaves),    cmocka_unit_test(test_any_caches),
        cmocka_unit_test(test_edges_of_f16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
