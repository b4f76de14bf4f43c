// SPDX-License-Identifier: MIT
// Pooling: means of spans of tokens, counted and brought into range for what they are stored as.
#include <math.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/team.h"
#include "kernels/device_texts.h"

enum {
    POOL_CHUNK = 256, // columns pooled at a time
    POOL_ROWS = 8,    // of a piece
};

static const float F16_LARGEST = 65504.0f;
static const float F16_OVERFLOW = 65520.0f; // from here on rounding to nearest gives infinity

struct pool {
    const struct micro_kernels *kernels;
    enum dtype dtype;
    void *out;
    enum dtype out_dtype;
    struct device_row_check *checks;
    const void *x;
    const struct device_span *spans;
    const struct device_texts *texts; // NULL: no text goes on from another
    size_t rows;
    size_t hidden;
};

// sums[i] += x[t, column + i] for `rows` rows of x from row `first` on, in their order.
static void add_rows(float *sums, const struct pool *pool, const void *x, size_t first, size_t rows,
                     size_t column, size_t count) {
    for (size_t t = first; t < first + rows; t++) {
        pool->kernels->add(sums, number_of(x, t * pool->hidden + column, pool->dtype), count);
    }
}

// The same for the tokens of a span, of which its text may have the first ones from others.
static void add_reaching(float *sums, const struct pool *pool, struct device_span span, size_t column,
                         size_t count) {
    const struct device_texts *texts = pool->texts;
    size_t rest = (size_t)(span.end - span.start);
    if (span.end <= 0) {
        size_t first = texts->head_tokens - (size_t)-span.start;
        add_rows(sums, pool, texts->head, first, rest, column, count);
        return;
    }
    size_t text = texts_find(texts, (size_t)span.end - 1);
    size_t end =
        (size_t)span.end - (size_t)texts->host_starts[text] + (size_t)texts->host_origins[text].before;
    while (rest > 0) {
        struct texts_run run = texts_run(texts, text, end - rest);
        size_t rows = size_min(run.count, rest);
        add_rows(sums, pool, run.of_head ? texts->head : pool->x, run.row, rows, column, count);
        rest -= rows;
    }
}

// sums[i] = mean over the span of x[t, column + i], tokens in order.
static void mean_chunk(float *sums, const struct pool *pool, struct device_span span, size_t column,
                       size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums[i] = 0;
    }
    if (pool->texts != NULL) {
        add_reaching(sums, pool, span, column, count);
    } else {
        add_rows(sums, pool, pool->x, (size_t)span.start, (size_t)(span.end - span.start), column, count);
    }
    float tokens = (float)(span.end - span.start);
    for (size_t i = 0; i < count; i++) {
        sums[i] /= tokens;
    }
}

// Counts what cannot be stored and, for float16, brings it into range.
static void check_chunk(float *numbers, size_t count, enum dtype out_dtype, struct device_row_check *check) {
    for (size_t i = 0; i < count; i++) {
        float size = fabsf(numbers[i]);
        if (!isfinite(numbers[i])) {
            check->not_finite++;
        } else if (out_dtype == DTYPE_F16 && size > F16_LARGEST) {
            check->overflowed += size >= F16_OVERFLOW;
            numbers[i] = copysignf(F16_LARGEST, numbers[i]);
        }
    }
}

static void pool_row(const struct pool *pool, size_t row) {
    struct device_row_check check = {0};
    for (size_t column = 0; column < pool->hidden; column += POOL_CHUNK) {
        float numbers[POOL_CHUNK];
        size_t count = size_min(POOL_CHUNK, pool->hidden - column);
        mean_chunk(numbers, pool, pool->spans[row], column, count);
        check_chunk(numbers, count, pool->out_dtype, &check);
        dtype_convert(number_in(pool->out, row * pool->hidden + column, pool->out_dtype), pool->out_dtype,
                      numbers, DTYPE_F32, count);
    }
    pool->checks[row] = check;
}

static void pool_rows(const void *job, size_t piece, size_t member) {
    const struct pool *pool = job;
    (void)member;
    for (size_t row = piece * POOL_ROWS; row < size_min((piece + 1) * POOL_ROWS, pool->rows); row++) {
        pool_row(pool, row);
    }
}

int cpu_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
             const void *x, const struct device_span *spans, const struct device_texts *texts, size_t rows,
             size_t hidden, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    struct pool pool = {.kernels = cpu->kernels,
                        .dtype = device->dtype,
                        .out = out,
                        .out_dtype = out_dtype,
                        .checks = checks,
                        .x = x,
                        .spans = spans,
                        .texts = texts != NULL && texts->host_origins != NULL ? texts : NULL,
                        .rows = rows,
                        .hidden = hidden};
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, (rows + POOL_ROWS - 1) / POOL_ROWS, pool_rows, &pool);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}
