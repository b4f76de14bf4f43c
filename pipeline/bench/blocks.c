// SPDX-License-Identifier: MIT
#include "bench/blocks.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"
#include "kernels/operations.h"
#include "kernels/weight_format.h"
#include "model/rope.h"

enum { CHUNK = 1 << 20 }; // random numbers made once and loaded over and over

// ---- sizes ----

size_t bench_block_bytes(const struct device *device, const struct model_config *config) {
    struct block_matmul matmuls[BLOCK_MATMULS_MOST];
    size_t count = block_matmuls(config, 0, matmuls);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;
        const struct device_matrix shape = {.rows = matmuls[i].rows, .columns = matmuls[i].columns};
        device_matrix_bytes(device, &shape, &bytes);
        total += bytes;
    }
    return total;
}

int bench_set_bytes(const struct device *device, const struct model_config *config, size_t tokens,
                    size_t *bytes, struct error *err) {
    struct device_plan plan = {.tokens = tokens};
    struct layout layout = layout_planning(device, &plan);
    struct block_buffers buffers;
    TRY(block_lay_out_buffers(&layout, &buffers, config, tokens, 1, err));
    *bytes = plan.bytes[DEVICE_ACTIVATIONS];
    return STATUS_OK;
}

// The matrix of a matmul in its block's weights.
static struct device_matrix *matrix_of(struct block_weights *weights, const struct block_matmul *matmul) {
    return (void *)((char *)weights + matmul->matrix);
}

const void *bench_matrices(const struct bench_blocks *blocks, size_t *bytes) {
    const char *first = NULL;
    const char *end = NULL;
    for (size_t i = 0; i < blocks->count * blocks->matmul_count; i++) {
        const struct device_matrix *matrix = matrix_of(&blocks->weights.blocks[i / blocks->matmul_count],
                                                       &blocks->matmuls[i % blocks->matmul_count]);
        const char *data = matrix->data;
        size_t size = 0;
        device_matrix_bytes(blocks->device, matrix, &size);
        first = first == NULL || data < first ? data : first;
        end = end == NULL || data + size > end ? data + size : end;
    }
    *bytes = (size_t)(end - first);
    return first;
}

unsigned bench_matmul_steps(const struct bench_blocks *blocks) {
    unsigned steps = 0;
    for (size_t i = 0; i < blocks->matmul_count; i++) {
        steps |= 1u << blocks->matmuls[i].step;
    }
    return steps;
}

double bench_matmul_operations(const struct bench_blocks *blocks) {
    double operations = 0;
    for (size_t i = 0; i < blocks->matmul_count; i++) {
        operations += 2.0 * (double)blocks->matmuls[i].rows * (double)blocks->matmuls[i].columns;
    }
    return operations;
}

// ---- memory ----

static int lay_out(struct layout *layout, struct bench_blocks *blocks, struct error *err) {
    const struct model_config *config = &blocks->config;
    size_t tokens = blocks->tokens;
    size_t half = config_rotated(config) / 2;
    size_t copy = blocks->queues ? BENCH_COPY : 0;
    const struct {
        enum device_purpose purpose;
        size_t count;
        size_t width;
        void **out;
    } pieces[] = {
        {DEVICE_ACTIVATIONS, tokens * half, sizeof(float), &blocks->cosine},
        {DEVICE_ACTIVATIONS, tokens * half, sizeof(float), &blocks->sine},
        {DEVICE_ACTIVATIONS, tokens, sizeof(int32_t), &blocks->rope_rows},
        {DEVICE_ACTIVATIONS, tokens + 1, sizeof(int32_t), &blocks->starts},
        {DEVICE_STAGING, 2 * tokens + 1, sizeof(int32_t), &blocks->staging},
        {DEVICE_STAGING, 2 * tokens * half, sizeof(float), &blocks->staged},
        {DEVICE_ACTIVATIONS, copy, 1, &blocks->copied},
        {DEVICE_STAGING, copy, 1, &blocks->copies},
    };
    TRY(weights_lay_out(layout, &blocks->weights, config, err));
    for (size_t i = 0; i < blocks->sets; i++) {
        TRY(block_lay_out_buffers(layout, &blocks->set[i], config, tokens, 1, err));
    }
    TRY(block_lay_out_scratch(layout, &blocks->scratch, config, 0, blocks->count, tokens, tokens, err));
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        TRY(layout_take(layout, pieces[i].purpose, pieces[i].count, 1, pieces[i].width, pieces[i].out, err));
    }
    return STATUS_OK;
}

static int reserve(struct bench_blocks *blocks, struct error *err) {
    struct device_plan plan = {.tokens = blocks->tokens};
    struct layout planning = layout_planning(blocks->device, &plan);
    struct layout taking = layout_taking(blocks->device);
    TRY(lay_out(&planning, blocks, err));
    TRY(device_reserve(blocks->device, &plan, err));
    return lay_out(&taking, blocks, err);
}

// ---- filling ----

// [CHUNK] of bfloat16 in [-scale, scale), which the caller frees.
static int make_random(uint16_t **out, float scale, struct error *err) {
    uint16_t *random = malloc(CHUNK * sizeof *random);
    uint64_t seed = 1;
    if (random == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for the benchmark's numbers");
    }
    for (size_t i = 0; i < CHUNK; i++) {
        random[i] = f32_to_bf16((float)(2 * random_unit(&seed) - 1) * scale);
    }
    *out = random;
    return STATUS_OK;
}

static int fill_matrix(struct device *device, struct device_matrix *matrix, const uint16_t *random,
                       struct error *err) {
    size_t most = size_max(CHUNK / size_max(matrix->columns, 1), 1);
    for (size_t row = 0; row < matrix->rows; row += most) {
        size_t count = size_min(most, matrix->rows - row);
        TRY(device_matrix_load(device, matrix, row, count, random, weight_format_of(DTYPE_BF16), err));
    }
    return STATUS_OK;
}

static int fill_matrices(struct bench_blocks *blocks, struct error *err) {
    uint16_t *random;
    // Matmuls keep the size of their inputs.
    TRY(make_random(&random, 1.0f / sqrtf((float)blocks->config.hidden), err));
    int status = STATUS_OK;
    for (size_t i = 0; i < blocks->count * blocks->matmul_count; i++) {
        struct device_matrix *matrix = matrix_of(&blocks->weights.blocks[i / blocks->matmul_count],
                                                 &blocks->matmuls[i % blocks->matmul_count]);
        TRY_TO(done, status = fill_matrix(blocks->device, matrix, random, err));
    }
    for (size_t i = 0; i < blocks->count; i++) {
        struct block_weights *weights = &blocks->weights.blocks[i]; // without experts these have no rows
        TRY_TO(done, status = fill_matrix(blocks->device, &weights->experts_gate_up, random, err));
        TRY_TO(done, status = fill_matrix(blocks->device, &weights->experts_down, random, err));
    }
done:
    free(random);
    return status;
}

static int fill_vector(struct bench_blocks *blocks, const struct weight_row *row, const uint16_t *random,
                       struct error *err) {
    for (size_t block = 0; block < blocks->count; block++) {
        struct weight_use use = {.row = row, .block = block};
        if (weights_left_out(&blocks->weights, use) ||
            (row->present != NULL && !row->present(&blocks->config, block))) {
            continue;
        }
        size_t rows;
        size_t columns;
        size_t copies = row->copies == NULL ? 1 : row->copies(&blocks->config, block);
        weights_rows(&blocks->config, use, &rows, &columns);
        size_t most = size_max(CHUNK / columns, 1);
        for (; use.copy < copies; use.copy++) {
            for (size_t at = 0; at < rows; at += most) {
                TRY(weights_put(blocks->device, &blocks->weights, &blocks->config, use, at,
                                size_min(most, rows - at), random, weight_format_of(DTYPE_BF16), err));
            }
        }
    }
    return STATUS_OK;
}

// The norms, biases and tables that blocks have.
static int fill_vectors(struct bench_blocks *blocks, struct error *err) {
    const struct weight_table *table = blocks->config.weights;
    uint16_t *random;
    TRY(make_random(&random, 1, err));
    int status = STATUS_OK;
    for (const struct weight_row *row = table->rows; row < table->rows + table->count; row++) {
        if (row->form != FORM_MATRIX && weight_in_block(row)) {
            TRY_TO(done, status = fill_vector(blocks, row, random, err));
        }
    }
done:
    free(random);
    return status;
}

int bench_blocks_refill(struct bench_blocks *blocks, struct error *err) {
    size_t numbers = blocks->tokens * blocks->config.hidden;
    uint16_t *random;
    TRY(make_random(&random, 1, err));
    int status = STATUS_OK;
    for (size_t i = 0; i < blocks->sets; i++) {
        for (size_t at = 0; at < numbers; at += CHUNK) {
            TRY_TO(done, status = device_vector_load(blocks->device, blocks->set[i].x, at,
                                                     size_min(CHUNK, numbers - at), random,
                                                     weight_format_of(DTYPE_BF16), err));
        }
    }
done:
    free(random);
    return status;
}

static int fill_angles(struct bench_blocks *blocks, struct error *err) {
    size_t half = config_rotated(&blocks->config) / 2;
    size_t bytes = blocks->tokens * half * sizeof(float);
    float *cosine = blocks->staged;
    float *sine = cosine + blocks->tokens * half;
    void *frequencies;
    struct device_fence fence;
    TRY(memory_zeroed(&frequencies, half, sizeof(float), err));
    rope_frequencies(&blocks->config, &blocks->config.rope, blocks->tokens, frequencies);
    rope_rows(&blocks->config, &blocks->config.rope, frequencies, 0, blocks->tokens, cosine, sine);
    free(frequencies);
    TRY(device_upload(blocks->device, blocks->cosine, cosine, bytes, err));
    TRY(device_upload(blocks->device, blocks->sine, sine, bytes, err));
    TRY(device_fence(blocks->device, &fence, err));
    return device_wait(blocks->device, fence, NULL, err);
}

static int tune(struct bench_blocks *blocks, struct error *err) {
    for (size_t i = 0; i < blocks->matmul_count; i++) {
        const struct block_matmul *matmul = &blocks->matmuls[i];
        struct block_operands o = block_operands(matmul, &blocks->set[0], &blocks->weights.blocks[0]);
        TRY(device_matmul_tune(blocks->device, o.out, o.in, o.matrix, o.bias, matmul->store, err));
    }
    return STATUS_OK;
}

// Of a configuration that blocks->config has.
static int open_blocks(struct bench_blocks *blocks, bool tuned, struct error *err) {
    struct device_description about;
    void *memory;
    device_describe(blocks->device, &about);
    blocks->queues = about.queues;
    blocks->in_turn = blocks->sets;
    blocks->matmul_count = block_matmuls(&blocks->config, 0, blocks->matmuls);
    TRY(memory_zeroed(&memory, blocks->count, sizeof blocks->weights.blocks[0], err));
    blocks->weights = (struct model_weights){.blocks = memory, .block_count = blocks->count};
    TRY(reserve(blocks, err));
    TRY(fill_matrices(blocks, err));
    TRY(fill_vectors(blocks, err));
    if (tuned) {
        TRY(tune(blocks, err));
    }
    TRY(bench_blocks_refill(blocks, err));
    return fill_angles(blocks, err);
}

int bench_blocks_open(struct bench_blocks *blocks, struct device *device, const struct model_config *config,
                      size_t count, size_t sets, size_t tokens, bool tuned, struct error *err) {
    void *slides;
    *blocks = (struct bench_blocks){.device = device,
                                    .config = *config, // which has no list
                                    .count = count,
                                    .sets = sets,
                                    .tokens = tokens};
    blocks->config.layers = count;
    TRY(memory_zeroed(&slides, count, 1, err));
    blocks->config.layer_slides = slides;
    return open_blocks(blocks, tuned, err);
}

int bench_block_open(struct bench_blocks *blocks, struct device *device, struct model_config *config,
                     size_t tokens, bool tuned, struct error *err) {
    *blocks =
        (struct bench_blocks){.device = device, .config = *config, .count = 1, .sets = 1, .tokens = tokens};
    *config = (struct model_config){0};
    return open_blocks(blocks, tuned, err);
}

void bench_blocks_close(struct bench_blocks *blocks) {
    model_config_destroy(&blocks->config);
    free(blocks->weights.blocks);
    *blocks = (struct bench_blocks){0};
}

// ---- running ----

int bench_blocks_batch(struct bench_blocks *blocks, size_t tokens, size_t length, struct error *err) {
    struct device *device = blocks->device;
    int32_t *starts = blocks->staging;
    int32_t *rows = starts + blocks->tokens + 1;
    size_t texts = (tokens + length - 1) / length;
    struct device_fence fence;
    for (size_t i = 0; i <= texts; i++) {
        starts[i] = (int32_t)size_min(i * length, tokens);
    }
    for (size_t t = 0; t < tokens; t++) {
        rows[t] = (int32_t)(t % length);
    }
    blocks->batch = tokens;
    blocks->texts = (struct device_texts){.starts = blocks->starts, .host_starts = starts, .count = texts};
    TRY(device_upload(device, blocks->starts, starts, (texts + 1) * sizeof *starts, err));
    TRY(device_upload(device, blocks->rope_rows, rows, tokens * sizeof *rows, err));
    TRY(device_fence(device, &fence, err));
    return device_wait(device, fence, NULL, err);
}

int bench_block_step(struct bench_blocks *blocks, size_t turn, enum block_step step, struct error *err) {
    size_t block = turn % blocks->count;
    const struct block_pass pass = {.device = blocks->device,
                                    .config = &blocks->config,
                                    .buffers = blocks->set[turn % blocks->in_turn],
                                    .scratch = blocks->scratch,
                                    .cosine = blocks->cosine,
                                    .sine = blocks->sine,
                                    .rope_row = blocks->rope_rows,
                                    .texts = blocks->texts,
                                    .tokens = blocks->batch,
                                    .longest = blocks->tokens};
    return block_run_step(&pass, &blocks->weights.blocks[block], block, step, err);
}
