#include "kernels/bench_block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"
#include "kernels/back_end.h"

enum { CHUNK = 1 << 20 }; // random numbers made once and loaded over and over

static const float epsilon = 1e-6f;

void bench_matrix_size(const struct bench_shape *shape, enum bench_matrix matrix, size_t *rows,
                       size_t *columns) {
    struct device_heads heads = shape->heads;
    size_t attended = heads.heads * heads.head_dim;
    switch (matrix) {
    case MATRIX_QKV:
        *rows = attended + 2 * heads.kv_heads * heads.head_dim;
        *columns = shape->hidden;
        return;
    case MATRIX_OUT:
        *rows = shape->hidden;
        *columns = attended;
        return;
    case MATRIX_GATE_UP:
        *rows = 2 * shape->intermediate;
        *columns = shape->hidden;
        return;
    case MATRIX_DOWN:
    case MATRICES:
        *rows = shape->hidden;
        *columns = shape->intermediate;
    }
}

size_t bench_block_bytes(const struct device *device, const struct bench_shape *shape) {
    size_t total = 0;
    for (int m = 0; m < MATRICES; m++) {
        size_t rows;
        size_t columns;
        size_t bytes = 0;
        bench_matrix_size(shape, (enum bench_matrix)m, &rows, &columns);
        device_matrix_bytes(device, rows, columns, &bytes);
        total += bytes;
    }
    return total;
}

// Numbers of a token in the buffers that fused products write, and in those that others read.
static size_t wide_columns(const struct bench_shape *shape) {
    struct device_heads heads = shape->heads;
    return size_max((heads.heads + 2 * heads.kv_heads) * heads.head_dim, 2 * shape->intermediate);
}

static size_t mixed_columns(const struct bench_shape *shape) {
    return size_max(shape->heads.heads * shape->heads.head_dim, shape->intermediate);
}

size_t bench_set_bytes(const struct device *device, const struct bench_shape *shape, size_t tokens) {
    size_t columns = 2 * shape->hidden + wide_columns(shape) + mixed_columns(shape);
    return tokens * columns * dtype_size(device_dtype(device));
}

struct piece {
    enum device_purpose purpose;
    size_t bytes;
    void *out; // a pointer to the pointer
};

static int plan_pieces(struct device_plan *plan, const struct piece *pieces, size_t count,
                       struct error *err) {
    int status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = device_plan_add(plan, pieces[i].purpose, pieces[i].bytes, err);
    }
    return status;
}

static int take_pieces(struct device *device, const struct piece *pieces, size_t count, struct error *err) {
    int status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        void *taken;
        status = device_take(device, pieces[i].purpose, pieces[i].bytes, &taken, err);
        memcpy(pieces[i].out, &taken, sizeof taken);
    }
    return status;
}

enum { SET_PIECES = 4 };

static void pieces_of_set(struct bench_blocks *blocks, size_t number, struct piece out[SET_PIECES]) {
    const struct bench_shape *shape = &blocks->shape;
    size_t row = blocks->tokens * dtype_size(device_dtype(blocks->device));
    struct bench_set *set = &blocks->set[number];
    out[0] = (struct piece){DEVICE_ACTIVATIONS, row * shape->hidden, &set->x};
    out[1] = (struct piece){DEVICE_ACTIVATIONS, row * shape->hidden, &set->normed};
    out[2] = (struct piece){DEVICE_ACTIVATIONS, row * wide_columns(shape), &set->wide};
    out[3] = (struct piece){DEVICE_ACTIVATIONS, row * mixed_columns(shape), &set->mixed};
}

static int reserve(struct bench_blocks *blocks, struct error *err) {
    struct device *device = blocks->device;
    const struct bench_shape *shape = &blocks->shape;
    size_t number = dtype_size(device_dtype(device));
    size_t tokens = blocks->tokens;
    size_t angles = tokens * (shape->heads.head_dim / 2) * sizeof(float);
    size_t scratch;
    if (!device_attention_scratch(device, &blocks->attention, &scratch)) {
        return error_set(err, STATUS_INTERNAL, "the attention's scratch overflows");
    }
    const struct piece pieces[] = {
        {DEVICE_WEIGHTS, shape->hidden * number, &blocks->norm},
        {DEVICE_WEIGHTS, shape->heads.head_dim * number, &blocks->head_norm},
        {DEVICE_WEIGHTS, angles, &blocks->cosine},
        {DEVICE_WEIGHTS, angles, &blocks->sine},
        {DEVICE_ACTIVATIONS, tokens * sizeof(int32_t), &blocks->rows},
        {DEVICE_ACTIVATIONS, (tokens + 1) * sizeof(int32_t), &blocks->starts},
        {DEVICE_SCRATCH, scratch, &blocks->scratch},
        {DEVICE_STAGING, (2 * tokens + 1) * sizeof(int32_t), &blocks->staging},
        {DEVICE_STAGING, angles, &blocks->staged},
        {DEVICE_ACTIVATIONS, blocks->queues ? BENCH_COPY : 0, &blocks->copied},
        {DEVICE_STAGING, blocks->queues ? BENCH_COPY : 0, &blocks->copies},
    };
    enum { PIECES = sizeof pieces / sizeof pieces[0] };
    struct device_plan plan = {.tokens = tokens};
    int status =
        device_plan_add(&plan, DEVICE_WEIGHTS, blocks->count * bench_block_bytes(device, shape), err);
    struct piece set[SET_PIECES];
    status = status == STATUS_OK ? plan_pieces(&plan, pieces, PIECES, err) : status;
    for (size_t i = 0; i < blocks->sets && status == STATUS_OK; i++) {
        pieces_of_set(blocks, i, set);
        status = plan_pieces(&plan, set, SET_PIECES, err);
    }
    for (size_t i = 0; i < blocks->count * MATRICES && status == STATUS_OK; i++) {
        status = device_plan_add(&plan, DEVICE_WEIGHTS, DEVICE_ALIGNMENT, err);
    }
    status = status == STATUS_OK ? device_reserve(device, &plan, err) : status;
    status = status == STATUS_OK ? take_pieces(device, pieces, PIECES, err) : status;
    for (size_t i = 0; i < blocks->sets && status == STATUS_OK; i++) {
        pieces_of_set(blocks, i, set);
        status = take_pieces(device, set, SET_PIECES, err);
    }
    return status;
}

// ---- filling ----

static int fill_matrix(struct device *device, struct device_matrix *matrix, const uint16_t *random,
                       struct error *err) {
    size_t most = size_max(CHUNK / matrix->columns, 1);
    int status = STATUS_OK;
    for (size_t row = 0; row < matrix->rows && status == STATUS_OK; row += most) {
        size_t count = size_min(most, matrix->rows - row);
        status = device_matrix_load(device, matrix, row, count, random, DTYPE_BF16, err);
    }
    return status;
}

static int fill_matrices(struct bench_blocks *blocks, const uint16_t *random, struct error *err) {
    int status = STATUS_OK;
    for (size_t i = 0; i < blocks->count * MATRICES && status == STATUS_OK; i++) {
        size_t rows;
        size_t columns;
        bench_matrix_size(&blocks->shape, (enum bench_matrix)(i % MATRICES), &rows, &columns);
        status = device_matrix_take(blocks->device, &blocks->matrices[i], rows, columns, err);
        status =
            status == STATUS_OK ? fill_matrix(blocks->device, &blocks->matrices[i], random, err) : status;
    }
    return status;
}

static int fill_angles(struct bench_blocks *blocks, struct error *err) {
    size_t half = blocks->shape.heads.head_dim / 2;
    float *numbers = (float *)(void *)blocks->staged;
    int status = STATUS_OK;
    for (int turn = 0; turn < 2 && status == STATUS_OK; turn++) {
        for (size_t i = 0; i < blocks->tokens * half; i++) {
            float angle = (float)(i / half) * powf(1e6f, -(float)(i % half) / (float)half);
            numbers[i] = turn == 0 ? cosf(angle) : sinf(angle);
        }
        struct device_mark mark;
        status = device_upload(blocks->device, turn == 0 ? blocks->cosine : blocks->sine, numbers,
                               blocks->tokens * half * sizeof(float), err);
        status = status == STATUS_OK ? device_mark(blocks->device, &mark, err) : status;
        status = status == STATUS_OK ? device_wait(blocks->device, mark, NULL, err) : status;
    }
    return status;
}

// [CHUNK] of bfloat16 in [-scale, scale), which the caller frees; NULL when there is no memory.
static uint16_t *make_random(float scale) {
    uint16_t *random = malloc(CHUNK * sizeof *random);
    uint64_t seed = 1;
    for (size_t i = 0; random != NULL && i < CHUNK; i++) {
        random[i] = f32_to_bf16((float)(2 * random_unit(&seed) - 1) * scale);
    }
    return random;
}

static int refuse_memory(struct error *err) {
    return error_set(err, STATUS_INTERNAL, "out of memory for the benchmark's numbers");
}

int bench_blocks_refill(struct bench_blocks *blocks, struct error *err) {
    uint16_t *random = make_random(1);
    if (random == NULL) {
        return refuse_memory(err);
    }
    size_t numbers = blocks->tokens * blocks->shape.hidden;
    int status = STATUS_OK;
    for (size_t i = 0; i < blocks->sets; i++) {
        for (size_t at = 0; at < numbers && status == STATUS_OK; at += CHUNK) {
            status = device_vector_load(blocks->device, blocks->set[i].x, at, size_min(CHUNK, numbers - at),
                                        random, DTYPE_BF16, err);
        }
    }
    free(random);
    return status;
}

static int fill_norms(struct bench_blocks *blocks, struct error *err) {
    uint16_t *random = make_random(1);
    if (random == NULL) {
        return refuse_memory(err);
    }
    int status =
        device_vector_load(blocks->device, blocks->norm, 0, blocks->shape.hidden, random, DTYPE_BF16, err);
    status = status == STATUS_OK ? device_vector_load(blocks->device, blocks->head_norm, 0,
                                                      blocks->shape.heads.head_dim, random, DTYPE_BF16, err)
                                 : status;
    free(random);
    return status;
}

struct bench_product_buffers bench_product_buffers(const struct bench_blocks *blocks,
                                                   enum bench_matrix matrix) {
    const struct bench_set *b = &blocks->set[0];
    switch (matrix) {
    case MATRIX_QKV:
    case MATRIX_GATE_UP:
        return (struct bench_product_buffers){.out = b->wide, .x = b->normed, .store = DEVICE_STORE};
    case MATRIX_OUT:
    case MATRIX_DOWN:
    case MATRICES:
        break;
    }
    return (struct bench_product_buffers){.out = b->x, .x = b->mixed, .store = DEVICE_ADD};
}

static int tune(struct bench_blocks *blocks, struct error *err) {
    int status = STATUS_OK;
    for (int m = 0; m < MATRICES && status == STATUS_OK; m++) {
        struct bench_product_buffers buffers = bench_product_buffers(blocks, (enum bench_matrix)m);
        status = device_matmul_tune(blocks->device, buffers.out, buffers.x, &blocks->matrices[m], NULL,
                                    buffers.store, err);
    }
    return status;
}

static int fill(struct bench_blocks *blocks, bool tuned, struct error *err) {
    // Products keep the size of their inputs.
    uint16_t *random = make_random(1.0f / sqrtf((float)blocks->shape.hidden));
    if (random == NULL) {
        return refuse_memory(err);
    }
    int status = fill_matrices(blocks, random, err);
    free(random);
    status = status == STATUS_OK ? fill_norms(blocks, err) : status;
    status = status == STATUS_OK && tuned ? tune(blocks, err) : status;
    status = status == STATUS_OK ? bench_blocks_refill(blocks, err) : status;
    return status == STATUS_OK ? fill_angles(blocks, err) : status;
}

int bench_blocks_open(struct bench_blocks *blocks, struct device *device, const struct bench_shape *shape,
                      size_t count, size_t sets, size_t tokens, bool tuned, struct error *err) {
    struct device_description about;
    device_describe(device, &about);
    *blocks = (struct bench_blocks){.device = device,
                                    .queues = about.queues,
                                    .shape = *shape,
                                    .count = count,
                                    .sets = sets,
                                    .in_turn = sets,
                                    .tokens = tokens};
    blocks->attention = (struct device_attention){
        .heads = shape->heads,
        .scale = 1.0f / sqrtf((float)shape->heads.head_dim),
        .longest = tokens,
    };
    void *memory;
    int status = memory_zeroed(&memory, count * MATRICES, sizeof blocks->matrices[0], err);
    blocks->matrices = memory;
    status = status == STATUS_OK ? reserve(blocks, err) : status;
    status = status == STATUS_OK ? fill(blocks, tuned, err) : status;
    return status;
}

void bench_blocks_close(struct bench_blocks *blocks) {
    free(blocks->matrices);
    blocks->matrices = NULL;
}

int bench_blocks_batch(struct bench_blocks *blocks, size_t tokens, size_t length, struct error *err) {
    int32_t *starts = blocks->staging;
    int32_t *rows = blocks->staging + blocks->tokens + 1;
    blocks->texts = (tokens + length - 1) / length;
    blocks->batch = tokens;
    blocks->host_starts = starts;
    for (size_t i = 0; i <= blocks->texts; i++) {
        starts[i] = (int32_t)size_min(i * length, tokens);
    }
    for (size_t t = 0; t < tokens; t++) {
        rows[t] = (int32_t)(t % length);
    }
    struct device_mark mark;
    struct device *device = blocks->device;
    int status = device_upload(device, blocks->starts, starts, (blocks->texts + 1) * sizeof *starts, err);
    status =
        status == STATUS_OK ? device_upload(device, blocks->rows, rows, tokens * sizeof *rows, err) : status;
    status = status == STATUS_OK ? device_mark(device, &mark, err) : status;
    return status == STATUS_OK ? device_wait(device, mark, NULL, err) : status;
}

int bench_block_step(struct bench_blocks *b, size_t turn, enum bench_step step, struct error *err) {
    const struct device_matrix *matrices = b->matrices + turn % b->count * MATRICES;
    const struct bench_set *set = &b->set[turn % b->in_turn];
    struct device *device = b->device;
    size_t hidden = b->shape.hidden;
    switch (step) {
    case STEP_NORM:
    case STEP_MLP_NORM:
        return device_rms_norm(device, set->normed, set->x, b->norm, epsilon, b->batch, hidden, err);
    case STEP_QKV:
        return device_matmul(device, set->wide, set->normed, &matrices[MATRIX_QKV], NULL, b->batch,
                             DEVICE_STORE, err);
    case STEP_ROPE:
        return device_qk_norm_rope(device, set->wide, b->head_norm, b->head_norm, epsilon, b->cosine, b->sine,
                                   b->rows, b->shape.heads, b->batch, err);
    case STEP_ATTENTION:
        return device_attention(device, set->mixed, set->wide, &b->attention,
                                (struct device_texts){b->starts, b->host_starts, b->texts}, b->scratch, err);
    case STEP_OUT:
        return device_matmul(device, set->x, set->mixed, &matrices[MATRIX_OUT], NULL, b->batch, DEVICE_ADD,
                             err);
    case STEP_GATE_UP:
        return device_matmul(device, set->wide, set->normed, &matrices[MATRIX_GATE_UP], NULL, b->batch,
                             DEVICE_STORE, err);
    case STEP_SWIGLU:
        return device_swiglu(device, set->mixed, set->wide, b->batch, b->shape.intermediate, err);
    case STEP_DOWN:
        return device_matmul(device, set->x, set->mixed, &matrices[MATRIX_DOWN], NULL, b->batch, DEVICE_ADD,
                             err);
    case STEPS:
        break;
    }
    return error_set(err, STATUS_INTERNAL, "a block has no step %d", (int)step);
}
