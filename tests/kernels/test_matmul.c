// Matrix products of every path against double precision on odd shapes; parts and formats of loading.
#include <sched.h>

#include "device_testing.h"

struct numbers_of_case {
    float *x;
    float *weights;
    float *bias;
    float *before;
};

static void check_product(struct bed *bed, const struct numbers_of_case *in, const float *got, size_t tokens,
                          size_t rows, size_t columns, bool biased, enum device_store store) {
    for (size_t t = 0; t < tokens; t++) {
        for (size_t n = 0; n < rows; n++) {
            double product = biased ? (double)in->bias[n] : 0;
            double size = fabs(product);
            for (size_t k = 0; k < columns; k++) {
                double term = (double)in->x[t * columns + k] * (double)in->weights[n * columns + k];
                product += term;
                size += fabs(term);
            }
            double want = store == DEVICE_ADD ? (double)in->before[t * rows + n] + product : product;
            // One float32 rounding an addition, of sums no larger than `size`; then one rounding to the dtype
            // of the product and one of the residual sum.
            double bound = (double)(columns + 2) * F32_EPSILON * size;
            bound +=
                1.01 * bed_epsilon(bed) * (fabs(product) + (store == DEVICE_ADD ? fabs(want) : 0)) + 1e-30;
            assert_close(bed, "matmul", t * rows + n, got[t * rows + n], want, bound);
        }
    }
}

static void try_product(struct bed *bed, size_t tokens, size_t rows, size_t columns, bool biased,
                        enum device_store store) {
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
    must(bed, device_matmul(bed->device, out, x, &matrix, bias, tokens, store, &bed->error));
    float *got = bed_get(bed, out, tokens * rows);
    check_product(bed, &in, got, tokens, rows, columns, biased, store);
    free(got);
    free(in.x);
    free(in.weights);
    free(in.bias);
    free(in.before);
}

static void products(const char *path, enum dtype dtype) {
    // [tokens, rows, columns]: single numbers, odd depths, edges of tiles, panels, row blocks and depth
    // blocks.
    static const size_t shapes[][3] = {
        {1, 1, 1},     {1, 1, 2},     {2, 3, 5},      {5, 7, 24},    {6, 64, 64},   {7, 65, 63},
        {13, 129, 40}, {47, 80, 511}, {49, 24, 512},  {50, 33, 513}, {193, 70, 31}, {385, 5, 17},
        {3, 11, 2047}, {4, 70, 2049}, {100, 520, 30}, {9, 66, 4099},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct bed bed = bed_open_rows(path, dtype, 2, shapes[i][0] + i % 3);
        enum device_store store = i % 2 == 0 ? DEVICE_STORE : DEVICE_ADD;
        try_product(&bed, shapes[i][0], shapes[i][1], shapes[i][2], i % 3 == 1, store);
        try_product(&bed, shapes[i][0], shapes[i][1], shapes[i][2], i % 3 != 1, DEVICE_STORE);
        bed_close(&bed);
    }
}

static void test_products(void **state) {
    (void)state;
    on_every_path(products);
}

static void some_products(const char *path, enum dtype dtype) {
    static const size_t shapes[][3] = {{1, 300, 40}, {13, 300, 40}, {70, 300, 40}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct bed bed = bed_open_rows(path, dtype, 3, shapes[i][0]);
        try_product(&bed, shapes[i][0], shapes[i][1], shapes[i][2], false, DEVICE_STORE);
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
    on_every_path(some_products);
    sched_setaffinity(0, sizeof before, &before);
}

// A matrix filled in parts, in any order, from any number format, gives the same product as one filled at
// once.
static void parts(const char *path, enum dtype dtype) {
    enum { TOKENS = 5, ROWS = 150, COLUMNS = 71, FORMATS = 3 };
    struct bed bed = bed_open_rows(path, dtype, 2, TOKENS);
    float *weights = random_numbers(3, ROWS * COLUMNS, 0.5f, DTYPE_BF16);
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        weights[i] = f16_to_f32(f32_to_f16(weights[i])); // numbers that all three formats hold
    }
    float *x = random_numbers(4, TOKENS * COLUMNS, 1.0f, dtype);
    void *device_x = bed_put(&bed, x, TOKENS * COLUMNS);
    struct device_matrix whole = bed_matrix(&bed, weights, ROWS, COLUMNS);
    void *out = bed_take(&bed, TOKENS * ROWS * sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &whole, NULL, TOKENS, DEVICE_STORE, &bed.error));
    void *wanted = bed_bytes(&bed, out, TOKENS * ROWS * dtype_size(dtype));
    static const size_t pieces[][2] = {{100, 50}, {0, 1}, {1, 66}, {67, 33}};
    for (int format = 0; format < FORMATS; format++) {
        uint32_t *converted = malloc(ROWS * COLUMNS * sizeof *converted);
        assert_non_null(converted);
        dtype_convert(converted, (enum dtype)format, weights, DTYPE_F32, ROWS * COLUMNS);
        struct device_matrix matrix;
        must(&bed, device_matrix_take(bed.device, &matrix, ROWS, COLUMNS, &bed.error));
        for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
            const unsigned char *source = (const unsigned char *)converted;
            source += pieces[i][0] * COLUMNS * dtype_size((enum dtype)format);
            must(&bed, device_matrix_load(bed.device, &matrix, pieces[i][0], pieces[i][1], source,
                                          (enum dtype)format, &bed.error));
        }
        must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
        void *got = bed_bytes(&bed, out, TOKENS * ROWS * dtype_size(dtype));
        assert_memory_equal(got, wanted, TOKENS * ROWS * dtype_size(dtype));
        free(got);
        free(converted);
    }
    free(wanted);
    free(x);
    free(weights);
    bed_close(&bed);
}

static void test_parts(void **state) {
    (void)state;
    on_every_path(parts);
}

// float32 products are computed in float32: numbers that bfloat16 cannot tell apart stay apart.
static void exact_f32(const char *path, enum dtype dtype) {
    if (dtype != DTYPE_F32) {
        return;
    }
    struct bed bed = bed_open_rows(path, dtype, 1, 1);
    float weights[2] = {1.0f + 0x1p-20f, -1.0f};
    float x[2] = {1.0f, 1.0f};
    struct device_matrix matrix = bed_matrix(&bed, weights, 1, 2);
    void *device_x = bed_put(&bed, x, 2);
    void *out = bed_take(&bed, sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, 1, DEVICE_STORE, &bed.error));
    float *got = bed_get(&bed, out, 1);
    assert_true(got[0] == 0x1p-20f);
    free(got);
    bed_close(&bed);
}

static void test_exact_f32(void **state) {
    (void)state;
    on_every_path(exact_f32);
}

// A NaN in one row of x reaches every output of that row and none of another row.
static void nan_stays(const char *path, enum dtype dtype) {
    enum { TOKENS = 9, ROWS = 70, COLUMNS = 33 };
    struct bed bed = bed_open_rows(path, dtype, 1, TOKENS);
    float *weights = random_numbers(1, ROWS * COLUMNS, 1.0f, dtype);
    float *x = random_numbers(2, TOKENS * COLUMNS, 1.0f, dtype);
    x[4 * COLUMNS] = NAN; // the first of row 4: beside the end of row 3, whose depth is padded
    struct device_matrix matrix = bed_matrix(&bed, weights, ROWS, COLUMNS);
    void *device_x = bed_put(&bed, x, TOKENS * COLUMNS);
    void *out = bed_take(&bed, TOKENS * ROWS * sizeof(float));
    must(&bed, device_matmul(bed.device, out, device_x, &matrix, NULL, TOKENS, DEVICE_STORE, &bed.error));
    float *got = bed_get(&bed, out, TOKENS * ROWS);
    for (size_t i = 0; i < TOKENS * ROWS; i++) {
        assert_int_equal(isnan(got[i]) != 0, i / ROWS == 4);
    }
    free(got);
    free(x);
    free(weights);
    bed_close(&bed);
}

// What an earlier product left in scratch reaches no later one: NaN everywhere, then numbers of a depth that
// leaves padding.
static void nan_leaves(const char *path, enum dtype dtype) {
    enum { TOKENS = 40, ROWS = 70, COLUMNS = 96, FEWER = 33 };
    struct bed bed = bed_open(path, dtype, 1);
    float *weights = random_numbers(1, ROWS * COLUMNS, 1.0f, dtype);
    float *x = random_numbers(2, TOKENS * COLUMNS, 1.0f, dtype);
    struct device_matrix wide = bed_matrix(&bed, weights, ROWS, COLUMNS);
    struct device_matrix narrow = bed_matrix(&bed, weights, ROWS, FEWER);
    void *device_x = bed_put(&bed, x, TOKENS * COLUMNS);
    for (size_t i = 0; i < TOKENS * COLUMNS; i++) {
        x[i] = NAN;
    }
    void *device_nan = bed_put(&bed, x, TOKENS * COLUMNS);
    void *out = bed_take(&bed, TOKENS * ROWS * sizeof(float));
    for (size_t tokens = 1; tokens <= TOKENS; tokens += 13) {
        must(&bed, device_matmul(bed.device, out, device_nan, &wide, NULL, TOKENS, DEVICE_STORE, &bed.error));
        must(&bed, device_matmul(bed.device, out, device_x, &narrow, NULL, tokens, DEVICE_STORE, &bed.error));
        float *got = bed_get(&bed, out, tokens * ROWS);
        for (size_t i = 0; i < tokens * ROWS; i++) {
            assert_true(isfinite(got[i]));
        }
        free(got);
    }
    free(x);
    free(weights);
    bed_close(&bed);
}

static void test_nan_leaves(void **state) {
    (void)state;
    on_every_path(nan_leaves);
}

static void test_nan_stays(void **state) {
    (void)state;
    on_every_path(nan_stays);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),  cmocka_unit_test(test_fewer_threads),
        cmocka_unit_test(test_parts),     cmocka_unit_test(test_exact_f32),
        cmocka_unit_test(test_nan_stays), cmocka_unit_test(test_nan_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
