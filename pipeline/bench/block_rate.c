// SPDX-License-Identifier: MIT
#include "bench/block_rate.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/size.h"
#include "bench/blocks.h"
#include "bench/formats.h"
#include "kernels/back_end.h"
#include "kernels/weight_format.h"

enum { NUMBERS_MOST = 1 << 26, RUNS_MOST = 7, TOKENS_LEAST = 64, CONVERTED = 1 << 22, CONVERSIONS = 5 };

static const double run_seconds = 0.2;    // of a batch, as the peak foretells
static const double enough_seconds = 1.2; // of all runs that count

static double token_operations(const struct model_config *config, size_t length) {
    return block_flops(config, 0, length, (double)length * (double)length) / (double)length;
}

// A block of half the size as long as it takes much to fill: matmuls that large go at one rate.
static void shrink(struct model_config *config) {
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    for (;;) {
        size_t count = block_matmuls(config, 0, matmuls);
        double numbers = 0;
        for (size_t i = 0; i < count; i++) {
            numbers += (double)matmuls[i].rows * (double)matmuls[i].columns;
        }
        size_t odd = (config->hidden | config->intermediate | config->heads | config->kv_heads) & 1;
        if (numbers <= NUMBERS_MOST || odd != 0) {
            return;
        }
        config->hidden /= 2;
        config->intermediate /= 2;
        config->heads /= 2;
        config->kv_heads /= 2;
    }
}

// So many tokens that a run takes as long as it should at the processor's peak.
static int choose_tokens(struct device *device, const struct model_config *config, size_t most, size_t length,
                         size_t *tokens, struct error *err) {
    double peak;
    TRY(device->ops->peak(device, device_dtype(device), &peak, err));
    double fitting = run_seconds * peak / token_operations(config, length);
    *tokens = fitting < (double)most ? (size_t)fitting : most;
    *tokens = size_min(size_max(*tokens, TOKENS_LEAST), most);
    return STATUS_OK;
}

// Processor time that the device's threads worked: how long they would take on a machine that does nothing
// else, whatever this one does beside them.
static double worked_seconds(const struct device *device) {
    double worked = device_clock(device);
    return worked >= 0 ? worked : clock_seconds();
}

static int run_block(struct bench_blocks *blocks, double *taken, struct error *err) {
    struct device_fence fence;
    double started = worked_seconds(blocks->device);
    for (int step = 0; step < BLOCK_STEPS; step++) {
        TRY(bench_block_step(blocks, 0, (enum block_step)step, err));
    }
    TRY(device_fence(blocks->device, &fence, err));
    TRY(device_wait(blocks->device, fence, NULL, err));
    *taken = worked_seconds(blocks->device) - started;
    return STATUS_OK;
}

static int compare_seconds(const void *left, const void *right) {
    double a = *(const double *)left;
    double b = *(const double *)right;
    return (a > b) - (a < b);
}

// The middle one of some runs, after one that finds its memory new.
static int time_block(struct bench_blocks *blocks, double *seconds, struct error *err) {
    double runs[RUNS_MOST];
    size_t count = 0;
    double all = 0;
    TRY(run_block(blocks, &runs[0], err));
    while (count < RUNS_MOST && all < enough_seconds) {
        TRY(bench_blocks_refill(blocks, err)); // numbers would grow from run to run
        TRY(run_block(blocks, &runs[count], err));
        all += runs[count++];
    }
    qsort(runs, count, sizeof runs[0], compare_seconds);
    *seconds = runs[count / 2];
    return STATUS_OK;
}

// Rows of a matrix, put into it once more: the fastest of some times, since the device's own clock does not
// count loads.
static int time_conversion(struct bench_blocks *blocks, double *rate, struct error *err) {
    struct device_matrix *matrix = &blocks->weights.blocks[0].down;
    size_t rows = size_min(size_max(CONVERTED / matrix->columns, 1), matrix->rows);
    size_t bytes = rows * matrix->columns * dtype_size(device_dtype(blocks->device));
    int status = STATUS_OK;
    void *numbers;
    TRY(memory_zeroed(&numbers, rows * matrix->columns, sizeof(uint16_t), err));
    *rate = 0;
    for (int i = 0; i < CONVERSIONS; i++) {
        double started = clock_seconds();
        TRY_TO(done, status = device_matrix_load(blocks->device, matrix, 0, rows, numbers,
                                                 weight_format_of(DTYPE_BF16), err));
        *rate = fmax(*rate, (double)bytes / (clock_seconds() - started));
    }
done:
    free(numbers);
    return status;
}

// Rows of the same matrix, expanded from NF4: what packed weights cost before each matmul.
static int time_expansion(struct bench_blocks *blocks, double *rate, struct error *err) {
    const struct weight_format nf4 = {.name = "nf4", .kind = WEIGHT_LOOKUP, .lookups = {.run = 64}};
    struct device_matrix *matrix = &blocks->weights.blocks[0].down;
    size_t rows = size_min(size_max(CONVERTED / matrix->columns, 1), matrix->rows);
    struct weight_layout layout;
    struct weight_view view;
    int status = STATUS_OK;
    void *packed;
    *rate = 0;
    if (!weight_layout(&nf4, rows, matrix->columns, &layout)) {
        return STATUS_OK; // no matrix of this shape is ever packed
    }
    TRY(memory_zeroed(&packed, layout.bytes, 1, err));
    bench_format_fill(&nf4, matrix->columns, &layout, packed);
    bool seen = weight_view_of(&nf4, rows, matrix->columns, packed, &view);
    double bytes =
        (double)layout.bytes + (double)(rows * matrix->columns * dtype_size(device_dtype(blocks->device)));
    for (int i = 0; i < CONVERSIONS && seen; i++) {
        double started = clock_seconds();
        TRY_TO(done,
               status = blocks->device->ops->expand(blocks->device, matrix, 0, &view, 0, view.rows, err));
        *rate = fmax(*rate, bytes / (clock_seconds() - started));
    }
done:
    free(packed);
    return status;
}

static int measure(struct bench_block_rate *out, struct device *device, const struct model_config *config,
                   size_t tokens, size_t length, struct error *err) {
    struct bench_blocks blocks = {0};
    struct model_config own = model_config_plain(config);
    double seconds = 0;
    int status;
    shrink(&own);
    TRY(choose_tokens(device, &own, tokens, length, &out->tokens, err));
    TRY_TO(done, status = bench_blocks_open(&blocks, device, &own, 1, 1, out->tokens, false, err));
    TRY_TO(done, status = bench_blocks_batch(&blocks, out->tokens, size_min(length, out->tokens), err));
    TRY_TO(done, status = time_block(&blocks, &seconds, err));
    TRY_TO(done, status = time_conversion(&blocks, &out->conversion, err));
    status = time_expansion(&blocks, &out->expansion, err);
    out->operations =
        seconds > 0 ? token_operations(&own, size_min(length, out->tokens)) * (double)out->tokens / seconds
                    : 0;
done:
    bench_blocks_close(&blocks);
    return status;
}

int bench_block_rate(struct bench_block_rate *out, const struct model_config *config,
                     const struct device_options *options, size_t tokens, size_t length, struct error *err) {
    struct device *device;
    *out = (struct bench_block_rate){0};
    TRY(device_open(&device, "cpu", options, err));
    int status = measure(out, device, config, tokens, size_max(length, 1), err);
    device_close(device);
    return status;
}
