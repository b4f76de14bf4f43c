// SPDX-License-Identifier: MIT
// Weights that are kept packed: what expanding a block's largest matrix before its matmul takes, in each
// format, as a share of that matmul. On a device of its own, whose memory takes one format after another.
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/size.h"
#include "bench/formats.h"
#include "bench/parts.h"
#include "kernels/back_end.h"
#include "kernels/operations.h"

enum {
    RUNS = 4,         // of expanding that are timed together
    FILLED = 1 << 20, // numbers of x made once and loaded over and over
};

static const double format_seconds = 1; // after which a format's measurement is not repeated

struct expansion {
    struct device *device;
    bool queues;
    size_t tokens;
    struct device_matrix computed;
    void *packed; // as many bytes as the largest format takes
    void *x;
    void *out;
};

static const struct block_matmul *largest_matmul(const struct bench_blocks *blocks) {
    const struct block_matmul *largest = &blocks->matmuls[0];
    for (size_t i = 1; i < blocks->matmul_count; i++) {
        const struct block_matmul *matmul = &blocks->matmuls[i];
        largest = matmul->rows * matmul->columns > largest->rows * largest->columns ? matmul : largest;
    }
    return largest;
}

// ---- memory ----

static size_t packed_bytes(size_t rows, size_t columns) {
    size_t most = 0;
    const struct weight_format *format;
    for (size_t i = 0; (format = bench_format(i)) != NULL; i++) {
        struct weight_layout layout;
        most = weight_layout(format, rows, columns, &layout) ? size_max(most, layout.bytes) : most;
    }
    return most;
}

static int reserve(struct expansion *e, const struct block_matmul *matmul, struct error *err) {
    size_t number = dtype_size(device_dtype(e->device));
    size_t packed = packed_bytes(matmul->rows, matmul->columns);
    size_t x = e->tokens * matmul->columns * number;
    size_t out = e->tokens * matmul->rows * number;
    struct device_plan plan = {.tokens = e->tokens};
    e->computed = (struct device_matrix){.rows = matmul->rows, .columns = matmul->columns};
    TRY(device_plan_matrix(&plan, e->device, &e->computed, err));
    TRY(device_plan_add(&plan, DEVICE_WEIGHTS, packed, err));
    TRY(device_plan_add(&plan, DEVICE_ACTIVATIONS, x, err));
    TRY(device_plan_add(&plan, DEVICE_ACTIVATIONS, out, err));
    TRY(device_reserve(e->device, &plan, err));
    TRY(device_matrix_take(e->device, &e->computed, err));
    TRY(device_take(e->device, DEVICE_WEIGHTS, packed, &e->packed, err));
    TRY(device_take(e->device, DEVICE_ACTIVATIONS, x, &e->x, err));
    return device_take(e->device, DEVICE_ACTIVATIONS, out, &e->out, err);
}

static int fill_x(struct expansion *e, struct error *err) {
    const struct weight_format *bf16 = weight_format_of(DTYPE_BF16);
    struct weight_layout layout;
    void *random;
    size_t count = e->tokens * e->computed.columns;
    if (!weight_layout(bf16, 1, FILLED, &layout)) {
        return error_set(err, STATUS_INTERNAL, "the benchmark's numbers cannot be laid out");
    }
    TRY(memory_zeroed(&random, layout.bytes, 1, err));
    bench_format_fill(bf16, FILLED, &layout, random);
    int status = STATUS_OK;
    for (size_t at = 0; at < count && status == STATUS_OK; at += FILLED) {
        status = device_vector_load(e->device, e->x, at, size_min(FILLED, count - at), random, bf16, err);
    }
    free(random);
    return status;
}

// Random weights in the device's memory, and how its back end sees them.
static int load_packed(struct expansion *e, const struct weight_format *format,
                       const struct weight_layout *layout, struct weight_view *view, struct error *err) {
    struct device_matrix kept = {.rows = e->computed.rows,
                                 .columns = e->computed.columns,
                                 .data = e->packed,
                                 .piece_count = 1,
                                 .pieces = {{format, e->computed.rows, e->packed}}};
    void *bytes;
    TRY(memory_zeroed(&bytes, layout->bytes, 1, err));
    bench_format_fill(format, kept.columns, layout, bytes);
    int status = STATUS_OK;
    for (size_t part = 0; part < WEIGHT_PARTS && status == STATUS_OK; part++) {
        if (layout->parts[part].bytes > 0) {
            status = device_piece_load(e->device, &kept, 0, part, 0,
                                       (const unsigned char *)bytes + layout->parts[part].offset,
                                       layout->parts[part].bytes, err);
        }
    }
    free(bytes);
    if (status == STATUS_OK && !weight_view_of(format, kept.rows, kept.columns, e->packed, view)) {
        return error_set(err, STATUS_INTERNAL, "a matrix in %s cannot be laid out", format->name);
    }
    return status;
}

// ---- measuring ----

// The seconds of one of `runs` expansions, or of a matmul (view NULL).
static int time_runs(struct expansion *e, const struct weight_view *view, int runs, double *seconds,
                     struct error *err) {
    struct device_fence fence;
    struct device_times times = {0};
    double started = clock_seconds();
    TRY(device_fence(e->device, &fence, err));
    for (int i = 0; i < runs; i++) {
        if (view != NULL) {
            TRY(e->device->ops->expand(e->device, &e->computed, 0, view, 0, view->rows, err));
        } else {
            TRY(device_matmul(e->device, e->out, e->x, &e->computed, NULL, e->tokens, DEVICE_STORE, err));
        }
    }
    TRY(device_fence(e->device, &fence, err));
    TRY(device_wait(e->device, fence, &times, err));
    *seconds = (e->queues ? times.compute_seconds : clock_seconds() - started) / runs;
    return STATUS_OK;
}

static int measure(struct bench *bench, struct expansion *e, const struct weight_format *format,
                   const struct weight_view *view, struct error *err) {
    double expanding = INFINITY;
    double multiplying = INFINITY;
    double started = clock_seconds();
    TRY(bench_report_save(bench, err));
    for (int i = 0; i <= bench->options.repeats; i++) { // the first run may load kernels
        double seconds;
        TRY(time_runs(e, view, RUNS, &seconds, err));
        expanding = fmin(expanding, seconds);
        TRY(time_runs(e, NULL, 1, &seconds, err));
        multiplying = fmin(multiplying, seconds);
        if (i > 0 && clock_seconds() - started > format_seconds) {
            break;
        }
    }
    char name[96];
    double numbers = (double)e->computed.rows * (double)e->computed.columns;
    snprintf(name, sizeof name, "expansion, %s", format->name);
    json_t *figure =
        bench_print(bench, name, numbers / expanding * 1e-9, "Gnum/s", "%8.2f %% of a matmul of %zu tokens",
                    100 * expanding / multiplying, e->tokens);
    bench_add(figure, "share", expanding / multiplying);
    bench_add(figure, "seconds", expanding);
    return STATUS_OK;
}

static int measure_all(struct bench *bench, struct expansion *e, struct error *err) {
    const struct weight_format *format;
    bool tuned = false;
    for (size_t i = 0; (format = bench_format(i)) != NULL; i++) {
        struct weight_layout layout;
        struct weight_view view;
        if (!weight_layout(format, e->computed.rows, e->computed.columns, &layout)) {
            continue; // its blocks are longer than this shape's rows
        }
        TRY(load_packed(e, format, &layout, &view, err));
        if (!tuned) { // with weights: zeros prove nothing
            TRY(e->device->ops->expand(e->device, &e->computed, 0, &view, 0, view.rows, err));
            TRY(device_matmul_tune(e->device, e->out, e->x, &e->computed, NULL, DEVICE_STORE, err));
            TRY(fill_x(e, err));
            tuned = true;
        }
        TRY(measure(bench, e, format, &view, err));
    }
    return STATUS_OK;
}

int bench_expansion(struct bench *bench, struct error *err) {
    struct device_description about;
    device_describe(bench->device, &about);
    struct expansion e = {.queues = about.queues, .tokens = bench->options.tokens};
    TRY(device_open(&e.device, bench->name, &bench->opened, err));
    int status = reserve(&e, largest_matmul(&bench->blocks), err);
    if (status == STATUS_OK) {
        status = measure_all(bench, &e, err);
    }
    device_close(e.device);
    return status;
}
