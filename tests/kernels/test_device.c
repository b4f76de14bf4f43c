// SPDX-License-Identifier: MIT
// Opening, describing, memory plans, sealing, fences; the text of every refusal.
#include "device_testing.h"

static const struct device_options plain = {.dtype = DTYPE_F32, .threads = 2};

static void assert_refused(int status, int wanted, const struct error *error, const char *part) {
    assert_int_equal(status, wanted);
    if (strstr(error->message, part) == NULL) {
        fail_msg("'%s' does not say '%s'", error->message, part);
    }
}

static void test_names(void **state) {
    (void)state;
    struct device *device;
    struct error error = {0};
    // In every build and on every machine; the reasons are tested with the emulated driver.
    assert_refused(device_open(&device, "cuda:999", &plain, &error), STATUS_DEVICE, &error,
                   "device cuda:999 is not available: ");
    assert_null(device);
    assert_refused(device_open(&device, "cuda:x", &plain, &error), STATUS_DEVICE, &error,
                   "unknown device 'cuda:x'");
    assert_refused(device_open(&device, "gpu", &plain, &error), STATUS_DEVICE, &error, "cpu, cuda:N or auto");
    struct device_options nowhere = {.cpu_path = "sse9"};
    assert_refused(device_open(&device, "cpu", &nowhere, &error), STATUS_DEVICE, &error,
                   "unknown CPU path 'sse9'");
    device_close(NULL);
}

// `auto` takes the first GPU, or the CPU with the reason why there is none.
static void test_description(void **state) {
    (void)state;
    struct device *device;
    struct error error = {0};
    struct device_description description;
    bool gpu = device_open(&device, "cuda", &plain, &error) == STATUS_OK;
    device_close(device);
    assert_true(gpu || test_on_cpu());
    assert_int_equal(device_open(&device, "auto", &plain, &error), STATUS_OK);
    device_describe(device, &description);
    assert_string_equal(description.kind, gpu ? "cuda" : "cpu");
    assert_non_null(strstr(description.reason, gpu ? "auto took the first GPU" : "auto took the CPU: "));
    device_close(device);
    assert_int_equal(device_open(&device, test_device(), &plain, &error), STATUS_OK);
    device_describe(device, &description);
    assert_string_equal(description.kind, test_on_cpu() ? "cpu" : "cuda");
    assert_non_null(strstr(description.reason, "asked for"));
    assert_non_null(strstr(description.identity, description.path));
    assert_non_null(strstr(description.identity, "kernels="));
    assert_true(description.queues == !test_on_cpu());
    assert_true(!test_on_cpu() || description.threads == 2);
    assert_true(description.memory >= description.memory_free && description.memory_free > 0);
    device_close(device);
}

// Every path of the table opens or says that the processor lacks it; the last is portable and always there.
static void test_paths(void **state) {
    (void)state;
    const char *last = NULL;
    bool available = false;
    const char *path;
    for (int i = 0; (path = device_cpu_path(i, &available)) != NULL; i++) {
        struct device *device;
        struct error error = {0};
        struct device_options options = {.dtype = DTYPE_BF16, .cpu_path = path};
        int status = device_open(&device, "cpu", &options, &error);
        if (available) {
            struct device_description description;
            assert_int_equal(status, STATUS_OK);
            device_describe(device, &description);
            assert_string_equal(description.path, path);
            assert_non_null(strstr(description.reason, "asked for"));
        } else {
            assert_refused(status, STATUS_DEVICE, &error, "does not have the CPU path");
        }
        device_close(device);
        last = path;
    }
    assert_string_equal(last, "portable");
    assert_true(available);
}

static void test_plan(void **state) {
    (void)state;
    struct device_plan plan = {0};
    struct error error = {0};
    assert_int_equal(device_plan_add(&plan, DEVICE_WEIGHTS, 1, &error), STATUS_OK);
    assert_int_equal(plan.bytes[DEVICE_WEIGHTS], DEVICE_ALIGNMENT);
    assert_refused(device_plan_add(&plan, DEVICE_WEIGHTS, SIZE_MAX - 300, &error), STATUS_INTERNAL, &error,
                   "overflows");
    assert_int_equal(plan.bytes[DEVICE_WEIGHTS], DEVICE_ALIGNMENT);
}

static void test_take_and_seal(void **state) {
    (void)state;
    struct device *device;
    struct error error = {0};
    void *a;
    void *b;
    assert_int_equal(device_open(&device, test_device(), &plain, &error), STATUS_OK);
    assert_refused(device_take(device, DEVICE_WEIGHTS, 1, &a, &error), STATUS_INTERNAL, &error, "too small");
    struct device_plan plan = {.bytes = {[DEVICE_WEIGHTS] = 1024}, .tokens = 1};
    assert_int_equal(device_reserve(device, &plan, &error), STATUS_OK);
    assert_refused(device_reserve(device, &plan, &error), STATUS_INTERNAL, &error, "once");
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 100, &a, &error), STATUS_OK);
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 700, &b, &error), STATUS_OK);
    assert_int_equal((char *)b - (char *)a, DEVICE_ALIGNMENT);
    assert_int_equal((uintptr_t)a % DEVICE_ALIGNMENT, 0);
    assert_refused(device_take(device, DEVICE_WEIGHTS, 1, &a, &error), STATUS_INTERNAL, &error,
                   "too small: 1 bytes for weights, 0 left");
    assert_null(a);
    device_seal(device);
    assert_refused(device_take(device, DEVICE_SCRATCH, 0, &a, &error), STATUS_INTERNAL, &error,
                   "after the start");
    device_close(device);
}

// The weights' arena before the others: what fits is a matter of the memory that was free before it.
static void test_weights_first(void **state) {
    (void)state;
    struct device *device;
    struct error error = {0};
    void *weights;
    void *a;
    struct device_residency report;
    assert_int_equal(device_open(&device, test_device(), &plain, &error), STATUS_OK);
    struct device_plan plan = {.bytes = {[DEVICE_WEIGHTS] = (size_t)1 << 50}};
    assert_refused(device_reserve_weights(device, &plan, &error), STATUS_DEVICE, &error,
                   "weights 1048576.000 GiB");
    plan.bytes[DEVICE_WEIGHTS] = 1024; // the refusal took nothing
    assert_int_equal(device_reserve_weights(device, &plan, &error), STATUS_OK);
    assert_refused(device_reserve_weights(device, &plan, &error), STATUS_INTERNAL, &error, "once");
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 768, &weights, &error), STATUS_OK);
    assert_refused(device_take(device, DEVICE_ACTIVATIONS, 1, &a, &error), STATUS_INTERNAL, &error, "0 left");
    const float numbers[4] = {1, 2, 3, 4};
    assert_int_equal(device_vector_load(device, weights, 0, 4, numbers, weight_format_of(DTYPE_F32), &error),
                     STATUS_OK);
    struct device_plan whole = {
        .bytes = {[DEVICE_WEIGHTS] = 2048, [DEVICE_ACTIVATIONS] = 512, [DEVICE_STAGING] = 512}, .tokens = 1};
    assert_refused(device_reserve(device, &whole, &error), STATUS_INTERNAL, &error, "1024 bytes of weights");
    whole.bytes[DEVICE_WEIGHTS] = 1024;
    whole.bytes[DEVICE_ACTIVATIONS] = (size_t)1 << 50;
    assert_refused(device_reserve(device, &whole, &error), STATUS_DEVICE, &error,
                   "activations 1048576.000 GiB");
    whole.bytes[DEVICE_ACTIVATIONS] = 512;
    assert_int_equal(device_reserve(device, &whole, &error), STATUS_OK);
    assert_refused(device_reserve(device, &whole, &error), STATUS_INTERNAL, &error, "once");
    assert_refused(device_reserve_weights(device, &plan, &error), STATUS_INTERNAL, &error, "once");
    assert_int_equal(device_take(device, DEVICE_WEIGHTS, 256, &a, &error), STATUS_OK); // goes on behind
    assert_int_equal((char *)a - (char *)weights, 768);
    assert_int_equal(device_check_resident(device, weights, 1024, &error), STATUS_OK);
    assert_int_equal(device_take(device, DEVICE_ACTIVATIONS, 512, &a, &error), STATUS_OK);
    assert_int_equal(device_check_resident(device, a, 512, &error), STATUS_OK);
    assert_int_equal(device_take(device, DEVICE_STAGING, 512, &a, &error), STATUS_OK);
    assert_int_equal(device_download(device, a, weights, sizeof numbers, &error), STATUS_OK);
    struct device_fence fence;
    assert_int_equal(device_fence(device, &fence, &error), STATUS_OK);
    assert_int_equal(device_wait(device, fence, NULL, &error), STATUS_OK);
    assert_memory_equal(a, numbers, sizeof numbers);
    device_residency(device, &report);
    assert_int_equal(report.planned[DEVICE_WEIGHTS], 1024);
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        assert_int_equal(report.planned[p], report.taken[p]);
    }
    device_close(device);
}

static void test_too_large(void **state) {
    (void)state;
    struct device *device;
    struct error error = {0};
    assert_int_equal(device_open(&device, test_device(), &plain, &error), STATUS_OK);
    struct device_plan plan = {
        .bytes = {[DEVICE_WEIGHTS] = (size_t)1 << 50, [DEVICE_STAGING] = (size_t)3 << 30}, .tokens = 1};
    int status = device_reserve(device, &plan, &error);
    assert_refused(status, STATUS_DEVICE, &error, "weights 1048576.000 GiB");
    assert_refused(status, STATUS_DEVICE, &error, test_on_cpu() ? "staging 3.000 GiB" : " (host) | reserve");
    assert_refused(status, STATUS_DEVICE, &error, "needed 10485");
    assert_refused(status, STATUS_DEVICE, &error, "free ");
    plan.bytes[DEVICE_WEIGHTS] = SIZE_MAX - 100; // the sum overflows
    assert_refused(device_reserve(device, &plan, &error), STATUS_DEVICE, &error, "not enough memory");
    device_close(device);
}

// A limit counts what the process has already; what the caller takes beside the arenas is part of the plan.
static void test_memory_limit(void **state) {
    (void)state;
    const size_t limits[] = {1, (size_t)1 << 45, 0};
    struct device_plan plan = {.bytes = {[DEVICE_WEIGHTS] = 1024, [DEVICE_STAGING] = 1024}, .tokens = 1};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct device *device;
        struct error error = {0};
        struct device_options options = plain;
        options.memory_limit = limits[i];
        assert_int_equal(device_open(&device, test_device(), &options, &error), STATUS_OK);
        plan.beside = 0;
        int status = device_check_fits(device, &plan, &error);
        assert_int_equal(status, limits[i] == 1 ? STATUS_DEVICE : STATUS_OK);
        plan.beside = (size_t)1 << 50;
        status = device_check_fits(device, &plan, &error);
        assert_refused(status, STATUS_DEVICE, &error,
                       test_on_cpu() ? "reserve 10485" : " beside it are needed");
        plan.beside = SIZE_MAX - 100; // the sum overflows
        assert_refused(device_reserve(device, &plan, &error), STATUS_DEVICE, &error, "not enough memory");
        device_close(device);
    }
}

// Plans of several devices are compared with the host's memory as one when each counts the others beside.
static void test_host_bytes(void **state) {
    (void)state;
    struct device_plan plan = {.bytes = {[DEVICE_WEIGHTS] = 1 << 20, [DEVICE_STAGING] = 1 << 10},
                               .tokens = 1};
    struct device *device;
    struct error error = {0};
    size_t bytes;
    size_t more;
    struct device_options options = plain;
    options.memory_limit = (size_t)64 << 30;
    assert_int_equal(device_open(&device, test_device(), &options, &error), STATUS_OK);
    assert_int_equal(device_host_bytes(device, &plan, &bytes, &error), STATUS_OK);
    plan.bytes[DEVICE_STAGING] += 1 << 12;
    plan.bytes[DEVICE_WEIGHTS] += 1 << 16;
    assert_int_equal(device_host_bytes(device, &plan, &more, &error), STATUS_OK);
    assert_int_equal(more - bytes, test_on_cpu() ? (1 << 12) + (1 << 16) : 1 << 12);
    assert_true(bytes >= (test_on_cpu() ? (1 << 20) + (1 << 10) : 1 << 10));
    assert_int_equal(device_check_fits(device, &plan, &error), STATUS_OK);
    plan.beside = (size_t)64 << 30; // as another device's
    assert_refused(device_check_fits(device, &plan, &error), STATUS_DEVICE, &error, "not enough memory");
    plan.bytes[DEVICE_STAGING] = SIZE_MAX - 100; // the sum overflows
    assert_int_equal(device_host_bytes(device, &plan, &bytes, &error), STATUS_INTERNAL);
    device_close(device);
}

// Bytes of a matrix in memory of the caller's, and back in it after others were there: the products of one
// that has memory of its own.
static void matrix_in_turns(const char *path, enum dtype dtype) {
    enum { ROWS = 72, COLUMNS = 96, TOKENS = 3 };
    struct bed bed = bed_open(path, dtype, 2);
    struct device_matrix own = {.rows = ROWS, .columns = COLUMNS};
    struct device_matrix put = own;
    struct device_fence fence;
    float *numbers = random_numbers(5, ROWS * COLUMNS, 1.0f, dtype);
    float *others = random_numbers(6, ROWS * COLUMNS, 1.0f, dtype);
    float *x = random_numbers(7, TOKENS * COLUMNS, 1.0f, dtype);
    void *tokens = bed_put_rows(&bed, x, TOKENS, COLUMNS);
    void *wanted = bed_take_rows(&bed, ROWS);
    void *found = bed_take_rows(&bed, ROWS);
    const struct weight_format *plain_numbers = weight_format_of(DTYPE_F32);
    unsigned char *room;
    size_t bytes;
    assert_true(device_matrix_bytes(bed.device, &put, &bytes));
    must(&bed, device_matrix_take(bed.device, &own, &bed.error));
    must(&bed, device_take(bed.device, DEVICE_WEIGHTS, 2 * bytes, (void **)&room, &bed.error));
    must(&bed, device_matrix_put(bed.device, &put, room + DEVICE_ALIGNMENT, &bed.error));
    assert_ptr_equal(put.data, room + DEVICE_ALIGNMENT);
    must(&bed, device_matrix_load(bed.device, &own, 0, ROWS, numbers, plain_numbers, &bed.error));
    must(&bed, device_matrix_load(bed.device, &put, 0, ROWS, numbers, plain_numbers, &bed.error));
    must(&bed, device_matmul(bed.device, wanted, tokens, &own, NULL, TOKENS, DEVICE_STORE, &bed.error));
    unsigned char *image = bed.staging;
    size_t result = TOKENS * ROWS * dtype_size(dtype);
    unsigned char *results = image + (bytes + DEVICE_ALIGNMENT) / DEVICE_ALIGNMENT * DEVICE_ALIGNMENT;
    must(&bed, device_download(bed.device, image, put.data, bytes, &bed.error));
    must(&bed, device_download(bed.device, results, wanted, result, &bed.error));
    must(&bed, device_fence(bed.device, &fence, &bed.error));
    must(&bed, device_wait(bed.device, fence, NULL, &bed.error));
    for (int turn = 0; turn < 3; turn++) {
        must(&bed, device_matrix_load(bed.device, &put, 0, ROWS, others, plain_numbers, &bed.error));
        must(&bed, device_matmul(bed.device, found, tokens, &put, NULL, TOKENS, DEVICE_STORE, &bed.error));
        must(&bed, device_weights_restore(bed.device, put.data, image, bytes, &bed.error));
        must(&bed, device_matmul(bed.device, found, tokens, &put, NULL, TOKENS, DEVICE_STORE, &bed.error));
        must(&bed, device_download(bed.device, results + result, found, result, &bed.error));
        must(&bed, device_fence(bed.device, &fence, &bed.error));
        must(&bed, device_wait(bed.device, fence, NULL, &bed.error));
        assert_memory_equal(results, results + result, result);
    }
    free(numbers);
    free(others);
    free(x);
    bed_close(&bed);
}

static void test_matrix_in_turns(void **state) {
    (void)state;
    on_every_path(matrix_in_turns);
}

static void test_fences(void **state) {
    (void)state;
    struct bed bed = bed_open("portable", DTYPE_F32, 1);
    struct device_fence first;
    struct device_fence second;
    struct device_times times;
    float *x = random_numbers(1, 40000, 1.0f, DTYPE_F32);
    void *device_x = bed_put(&bed, x, 40000);
    void *out = bed_take(&bed, 40000 * sizeof(float));
    must(&bed, device_fence(bed.device, &first, &bed.error));
    must(&bed,
         device_norm(bed.device, out, device_x, &(struct device_norm){.epsilon = 1.0f, .weight = device_x},
                     DEVICE_STORE, 1, 40000, &bed.error));
    must(&bed, device_fence(bed.device, &second, &bed.error));
    must(&bed, device_wait(bed.device, second, &times, &bed.error));
    assert_true(times.compute_seconds > 0 && times.compute_seconds < 10);
    assert_true(times.download_seconds == 0 && times.upload_seconds == 0);
    must(&bed, device_wait(bed.device, first, NULL, &bed.error));
    struct device_fence never = {second.number + 1};
    assert_refused(device_wait(bed.device, never, NULL, &bed.error), STATUS_INTERNAL, &bed.error,
                   "never created");
    free(x);
    bed_close(&bed);
}

static bool is_reached(struct bed *bed, struct device_fence fence) {
    bool reached;
    must(bed, device_reached(bed->device, fence, &reached, &bed->error));
    return reached;
}

// GPUs are counted whether or not this test runs on one.
static void test_gpus(void **state) {
    (void)state;
    struct error why = {0};
    struct error error;
    char name[32];
    struct device *device;
    size_t count = device_gpus(&why);
    assert_true(count > 0 ? !test_on_cpu() || why.message[0] == 0 : why.message[0] != 0);
    assert_true(count > 0 || test_on_cpu());
    snprintf(name, sizeof name, "cuda:%zu", count);
    assert_refused(device_open(&device, name, &plain, &error), STATUS_DEVICE, &error, "is not available");
}

// Two devices of one kind; where there is one GPU only, both are on it.
static void test_transfer(void **state) {
    (void)state;
    enum { COUNT = 40000, BYTES = COUNT * sizeof(float) };
    struct bed from = bed_open("portable", DTYPE_F32, 1);
    struct bed to = bed_open("portable", DTYPE_F32, 1);
    struct device_fence fence;
    struct device_times times;
    float *x = random_numbers(1, COUNT, 1.0f, DTYPE_F32);
    float *y = random_numbers(2, COUNT, 1.0f, DTYPE_F32);
    void *source = bed_put(&from, x, COUNT);
    void *next = bed_put(&from, y, COUNT);
    void *place = bed_take(&to, BYTES);
    must(&from, device_fence(from.device, &fence, &from.error));
    must(&from, device_transfer(to.device, place, from.device, source, BYTES, NULL, &from.error));
    must(&from, device_fence(from.device, &fence, &from.error));
    while (!is_reached(&from, fence)) {
    }
    must(&from, device_wait(from.device, fence, &times, &from.error));
    assert_true(times.download_seconds > 0 && times.download_seconds < 10);
    assert_true(times.compute_seconds == 0 && times.upload_seconds == 0);
    float *got = bed_get(&to, place, COUNT);
    assert_memory_equal(got, x, BYTES);
    free(got);
    must(&to, device_fence(to.device, &fence, &to.error));
    must(&from, device_transfer(to.device, place, from.device, next, BYTES, &fence, &from.error));
    got = bed_get(&to, place, COUNT);
    assert_memory_equal(got, y, BYTES);
    free(got);
    free(x);
    free(y);
    bed_close(&from);
    bed_close(&to);
}

static void test_refused_transfers(void **state) {
    (void)state;
    struct bed bed = bed_open("portable", DTYPE_F32, 1);
    void *place = bed_take(&bed, 64);
    bool reached;
    struct device_fence never = {1000};
    struct error *error = &bed.error;
    assert_refused(device_reached(bed.device, never, &reached, error), STATUS_INTERNAL, error,
                   "never created");
    assert_refused(device_transfer(bed.device, place, bed.device, place, 64, NULL, error), STATUS_INTERNAL,
                   error, "from a device to itself");
    if (!test_on_cpu()) {
        struct device *cpu;
        must(&bed, device_open(&cpu, "cpu", &plain, error));
        assert_refused(device_transfer(cpu, bed.staging, bed.device, place, 64, NULL, error), STATUS_INTERNAL,
                       error, "between devices of two kinds");
        device_close(cpu);
    }
    bed_close(&bed);
}

static void test_wrong_shapes(void **state) {
    (void)state;
    struct bed bed = bed_open("portable", DTYPE_F32, 1);
    struct device *device = bed.device;
    struct error *error = &bed.error;
    float number = 0;
    int32_t starts[2] = {0, 9};
    const struct device_texts texts = {.starts = starts, .host_starts = starts, .count = 1};
    struct device_matrix matrix;
    matrix = (struct device_matrix){.rows = 0, .columns = 4};
    assert_refused(device_matrix_take(device, &matrix, error), STATUS_INTERNAL, error, "[0, 4]");
    matrix = (struct device_matrix){.rows = SIZE_MAX / 2, .columns = 4};
    assert_refused(device_matrix_take(device, &matrix, error), STATUS_INTERNAL, error, "cannot be held");
    matrix = (struct device_matrix){.rows = 3, .columns = 4};
    must(&bed, device_matrix_take(device, &matrix, error));
    assert_refused(device_matrix_load(device, &matrix, 2, 2, &number, weight_format_of(DTYPE_F32), error),
                   STATUS_INTERNAL, error, "rows 2 + 2 do not fit a matrix of [3, 4]");
    struct device_attention shape = {.heads = {3, 2, 8, 0}, .scale = 1.0f, .longest = 8};
    size_t bytes;
    assert_false(device_attention_scratch(device, &shape, &bytes));
    assert_refused(device_attention(device, &number, &number, &shape, texts, &number, error), STATUS_INTERNAL,
                   error, "kv_heads does not divide heads");
    shape.heads = (struct device_heads){2, 1, 7, 0};
    assert_refused(device_attention(device, &number, &number, &shape, texts, &number, error), STATUS_INTERNAL,
                   error, "head_dim is not even");
    shape.heads.head_dim = 8;
    assert_refused(device_attention(device, &number, &number, &shape, texts, &number, error), STATUS_INTERNAL,
                   error, "text 0 is [0, 9) behind 0 and the longest was planned as 8");
    assert_refused(device_norm(device, NULL, &number,
                               &(struct device_norm){.epsilon = 1.0f, .weight = &number}, DEVICE_STORE, 1, 1,
                               error),
                   STATUS_INTERNAL, error, "norm: a buffer is missing");
    assert_int_equal(device_norm(device, NULL, NULL, &(struct device_norm){.epsilon = 1.0f, .weight = NULL},
                                 DEVICE_STORE, 0, 1, error),
                     STATUS_OK);
    bed_close(&bed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_description),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_take_and_seal),
        cmocka_unit_test(test_weights_first),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_matrix_in_turns),
        cmocka_unit_test(test_fences),
        cmocka_unit_test(test_wrong_shapes),
        cmocka_unit_test(test_host_bytes),
        cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_transfer),
        cmocka_unit_test(test_refused_transfers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
