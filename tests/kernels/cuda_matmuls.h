// SPDX-License-Identifier: MIT
// Matmuls of the emulated CUDA back end for tests: a shape, its algorithm, and the name of that.
#ifndef STRATA_TESTS_KERNELS_CUDA_MATMULS_H
#define STRATA_TESTS_KERNELS_CUDA_MATMULS_H

#include "base/memory.h"
#include "base/random.h"
#include "cuda_testing.h"

enum {
    ROWS = 24,
    COLUMNS = 96,
};

struct shape {
    struct device_matrix matrix;
    void *bias;
    void *x;
    void *out;
    unsigned char *staging;
};

static inline void fill(struct rig *rig, void *place, size_t count, uint64_t seed) {
    float *numbers = malloc(count * sizeof *numbers);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (float)(2 * random_unit(&seed) - 1);
    }
    MUST(device_vector_load(rig->device, place, 0, count, numbers, weight_format_of(DTYPE_F32), &rig->error));
    free(numbers);
}

static inline struct shape take_shape(struct rig *rig, size_t rows, bool loaded) {
    struct shape shape;
    size_t number = dtype_size(rig->dtype);
    shape.matrix = (struct device_matrix){.rows = rows, .columns = COLUMNS};
    MUST(device_matrix_take(rig->device, &shape.matrix, &rig->error));
    shape.bias = rig_take(rig, DEVICE_WEIGHTS, rows * number);
    shape.x = rig_take(rig, DEVICE_ACTIVATIONS, RIG_TOKENS * COLUMNS * number);
    shape.out = rig_take(rig, DEVICE_ACTIVATIONS, RIG_TOKENS * rows * number);
    shape.staging = rig_take(rig, DEVICE_STAGING, RIG_TOKENS * rows * number);
    if (loaded) {
        fill(rig, shape.matrix.data, rows * COLUMNS, 1);
        fill(rig, shape.bias, rows, 2);
    }
    return shape;
}

static inline void open_shape(struct rig *rig, enum dtype dtype, struct shape *shape) {
    rig_open(rig, dtype);
    rig_reserve(rig);
    *shape = take_shape(rig, ROWS, true);
}

static inline void tune(struct rig *rig, struct shape *shape, bool bias, enum device_store store) {
    MUST(device_matmul_tune(rig->device, shape->out, shape->x, &shape->matrix, bias ? shape->bias : NULL,
                            store, &rig->error));
}

static inline void require_algorithms(struct rig *rig, const char *const *parts, size_t lines) {
    struct buffer text = {0};
    size_t found = 0;
    MUST(device_algorithms(rig->device, &text, &rig->error));
    for (const char *at = text.data; *at != 0; at = strchr(at, '\n') + 1) {
        REQUIRE(found < lines);
        const char *part = strstr(at, parts[found]);
        REQUIRE(part != NULL && part < strchr(at, '\n'));
        found++;
    }
    REQUIRE(found == lines);
    buffer_destroy(&text);
}

// What a device chose, which is closed then: for the next one to be told. The caller's.
static inline char *remember(struct rig *rig) {
    struct shape shape;
    struct buffer text = {0};
    open_shape(rig, DTYPE_BF16, &shape);
    tune(rig, &shape, true, DEVICE_ADD);
    tune(rig, &shape, false, DEVICE_STORE);
    MUST(device_algorithms(rig->device, &text, &rig->error));
    device_close(rig->device);
    rig->device = NULL;
    return text.data;
}

static inline void open_named(struct rig *rig, struct shape *shape, const char *text) {
    open_shape(rig, DTYPE_BF16, shape);
    MUST(device_set_algorithms(rig->device, text, true, &rig->error));
}

#endif
