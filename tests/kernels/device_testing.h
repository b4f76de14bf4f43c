// SPDX-License-Identifier: MIT
// What the tests of a device share: opening every path in every dtype, numbers to and from device memory,
// random numbers, and comparisons that fail on NaN first. Nothing here reads or writes device memory but
// through device.h and operations.h.
//
// The device is the CPU, or what the environment names: STRATA_TEST_DEVICE=cuda:0 runs the same tests on a
// GPU, real or emulated, as one path.
#ifndef STRATA_TESTS_KERNELS_DEVICE_TESTING_H
#define STRATA_TESTS_KERNELS_DEVICE_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "kernels/operations.h"
#include "kernels/weight_format.h"

static const double F32_EPSILON =
    0x1p-24; // half a unit in the last place of 1: the relative error of one rounding
static const double F16_EPSILON = 0x1p-11;
static const double BF16_EPSILON = 0x1p-8;
static const double F16_LEAST =
    0x1p-25; // half of float16's smallest number: the error of a rounding below 2^-14

enum {
    POOL_BYTES = 24 << 20,
    BED_ROWS = 2700, // of batches, unless a test says otherwise
};

struct bed { // a device with memory to spare
    struct device *device;
    enum dtype dtype;
    const char *path;
    size_t rows; // of every buffer that a matmul reads or writes: a back end may compute them all
    void *staging;
    struct error error;
};

static inline void must(struct bed *bed, int status) {
    if (status != STATUS_OK) {
        fail_msg("path %s, %s: %s", bed->path, dtype_name(bed->dtype), bed->error.message);
    }
}

static inline const char *test_device(void) {
    const char *name = getenv("STRATA_TEST_DEVICE");
    return name != NULL && *name != 0 ? name : "cpu";
}

static inline bool test_on_cpu(void) {
    return strcmp(test_device(), "cpu") == 0;
}

static inline struct bed bed_open_rows(const char *path, enum dtype dtype, int threads, size_t rows) {
    struct bed bed = {.dtype = dtype, .path = path, .rows = rows};
    struct device_options options = {
        .dtype = dtype, .threads = threads, .cpu_path = test_on_cpu() ? path : NULL};
    must(&bed, device_open(&bed.device, test_device(), &options, &bed.error));
    struct device_plan plan = {.tokens = rows};
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        must(&bed, device_plan_add(&plan, (enum device_purpose)p, POOL_BYTES, &bed.error));
    }
    must(&bed, device_reserve(bed.device, &plan, &bed.error));
    must(&bed, device_take(bed.device, DEVICE_STAGING, POOL_BYTES, &bed.staging, &bed.error));
    return bed;
}

static inline struct bed bed_open(const char *path, enum dtype dtype, int threads) {
    return bed_open_rows(path, dtype, threads, BED_ROWS);
}

static inline void bed_close(struct bed *bed) {
    device_close(bed->device);
    *bed = (struct bed){0};
}

static inline double bed_epsilon(const struct bed *bed) {
    return bed->dtype == DTYPE_F32 ? F32_EPSILON : bed->dtype == DTYPE_F16 ? F16_EPSILON : BF16_EPSILON;
}

// The absolute error that a rounding may have beside the relative one.
static inline double bed_least(const struct bed *bed) {
    return bed->dtype == DTYPE_F16 ? F16_LEAST : 0;
}

// Runs a test on every path that the processor has, in every dtype; the others are named.
static inline void on_every_path(void (*test)(const char *path, enum dtype dtype)) {
    bool available;
    if (!test_on_cpu()) { // what runs compute in first: a failure ends the test
        test(test_device(), DTYPE_BF16);
        test(test_device(), DTYPE_F32);
        test(test_device(), DTYPE_F16);
        return;
    }
    for (int i = 0;; i++) {
        const char *path = device_cpu_path(i, &available);
        if (path == NULL) {
            return;
        }
        if (!available) {
            print_message("skipped: path %s, which this processor does not have\n", path);
            continue;
        }
        if (strcmp(path, "amxbf16-twin") != 0) { // its float32 is the path portable
            test(path, DTYPE_F32);
        }
        if (strstr(path, "bf16") == NULL) { // those made for bfloat16 take the float16 of another path
            test(path, DTYPE_F16);
        }
        test(path, DTYPE_BF16);
    }
}

// ---- numbers ----

static inline void *bed_take(struct bed *bed, size_t bytes) {
    void *out;
    must(bed, device_take(bed->device, DEVICE_ACTIVATIONS, bytes, &out, &bed->error));
    return out;
}

// For a matmul: room for as many rows as it may compute.
static inline void *bed_take_rows(struct bed *bed, size_t width) {
    return bed_take(bed, bed->rows * width * dtype_size(bed->dtype));
}

static inline void *bed_put_rows(struct bed *bed, const float *numbers, size_t tokens, size_t width) {
    void *out = bed_take_rows(bed, width);
    must(bed, device_vector_load(bed->device, out, 0, tokens * width, numbers, weight_format_of(DTYPE_F32),
                                 &bed->error));
    return out;
}

// Device memory with these numbers in the computation dtype.
static inline void *bed_put(struct bed *bed, const float *numbers, size_t count) {
    void *out = bed_take(bed, count * dtype_size(bed->dtype));
    must(bed,
         device_vector_load(bed->device, out, 0, count, numbers, weight_format_of(DTYPE_F32), &bed->error));
    return out;
}

static inline void *bed_upload(struct bed *bed, const void *bytes, size_t size) {
    struct device_fence fence;
    void *out = bed_take(bed, size);
    memcpy(bed->staging, bytes, size);
    must(bed, device_upload(bed->device, out, bed->staging, size, &bed->error));
    must(bed, device_fence(bed->device, &fence, &bed->error));
    must(bed, device_wait(bed->device, fence, NULL, &bed->error));
    return out;
}

// The bytes of device memory, in memory that the caller frees.
static inline void *bed_bytes(struct bed *bed, const void *source, size_t size) {
    struct device_fence fence;
    must(bed, device_download(bed->device, bed->staging, source, size, &bed->error));
    must(bed, device_fence(bed->device, &fence, &bed->error));
    must(bed, device_wait(bed->device, fence, NULL, &bed->error));
    void *bytes = malloc(size > 0 ? size : 1);
    assert_non_null(bytes);
    memcpy(bytes, bed->staging, size);
    return bytes;
}

static inline float *numbers_widen(void *bytes, enum dtype dtype, size_t count) {
    float *numbers = malloc((count > 0 ? count : 1) * sizeof *numbers);
    assert_non_null(numbers);
    dtype_convert(numbers, DTYPE_F32, bytes, dtype, count);
    free(bytes);
    return numbers;
}

static inline float *bed_get(struct bed *bed, const void *source, size_t count) {
    return numbers_widen(bed_bytes(bed, source, count * dtype_size(bed->dtype)), bed->dtype, count);
}

static inline float round_to(float value, enum dtype dtype) {
    return dtype == DTYPE_F32   ? value
           : dtype == DTYPE_F16 ? f16_to_f32(f32_to_f16(value))
                                : bf16_to_f32(f32_to_bf16(value));
}

// Numbers in [-scale, scale) that the dtype holds exactly.
static inline float *random_numbers(uint64_t seed, size_t count, float scale, enum dtype dtype) {
    float *numbers = malloc((count > 0 ? count : 1) * sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = round_to((float)(2 * random_unit(&seed) - 1) * scale, dtype);
    }
    return numbers;
}

static inline struct device_matrix bed_matrix(struct bed *bed, const float *weights, size_t rows,
                                              size_t columns) {
    struct device_matrix matrix;
    matrix = (struct device_matrix){.rows = rows, .columns = columns};
    must(bed, device_matrix_take(bed->device, &matrix, &bed->error));
    must(bed, device_matrix_load(bed->device, &matrix, 0, rows, weights, weight_format_of(DTYPE_F32),
                                 &bed->error));
    return matrix;
}

// Whether a GPU's library has no algorithm for matmuls with such a matrix, which is what a call said: of
// sizes that are no multiples of 8 it may, and no model has any. They are left out by name, and what follows
// is tried; every other error ends the test.
static inline bool bed_lacks(struct bed *bed, int status, size_t rows, size_t columns) {
    bool refused = status == STATUS_DEVICE ||
                   (status != STATUS_OK && strstr(bed->error.message, "CUBLAS_STATUS_NOT_SUPPORTED") != NULL);
    if (test_on_cpu() || !refused || (rows % 8 == 0 && columns % 8 == 0)) {
        must(bed, status);
        return false;
    }
    print_message("skipped: matmuls with a matrix of [%zu, %zu] in %s on %s, which has no algorithm for it\n",
                  rows, columns, dtype_name(bed->dtype), bed->path);
    return true;
}

// Has the device choose how it computes matmuls with this matrix; x and out: room for their rows. False
// where it lacks them.
static inline bool bed_tune(struct bed *bed, const struct device_matrix *matrix, const void *bias,
                            enum device_store store, void *out, void *x) {
    int status = device_matmul_tune(bed->device, out, x, matrix, bias, store, &bed->error);
    return !bed_lacks(bed, status, matrix->rows, matrix->columns);
}

// Asked before anything is computed.
static inline bool bed_multiplies(struct bed *bed, size_t rows, size_t columns, bool bias,
                                  enum device_store store) {
    return !bed_lacks(bed,
                      device_check_matmul(bed->device, bed->rows, rows, columns, bias, store, &bed->error),
                      rows, columns);
}

// ---- comparisons ----

// |got - want| <= bound, and neither is NaN or infinite: asked first, because NaN compares as nothing.
static inline void assert_close(const struct bed *bed, const char *what, size_t i, float got, double want,
                                double bound) {
    if (!isfinite(got) || !isfinite(want) || !isfinite(bound) || fabs((double)got - want) > bound) {
        fail_msg("%s, path %s, %s: number %zu is %.9g, wanted %.9g within %.3g", what, bed->path,
                 dtype_name(bed->dtype), i, (double)got, want, bound);
    }
}

#endif
