// Operations on one row at a time: embedding, norms, rotation, SwiGLU, pooling. Rows are spread over the
// threads.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/team.h"

// An operation on rows: a piece is `each` of them.
struct rows {
    struct cpu_device *cpu;
    void *out;
    const void *x;
    const void *weight;
    const void *other_weight;
    const int32_t *ids;
    const float *cosine;
    const float *sine;
    float epsilon;
    struct device_heads heads;
    size_t width; // numbers of a row
    size_t count;
    size_t each;
};

static struct share rows_of(const struct rows *rows, size_t piece) {
    size_t first = piece * rows->each;
    return (struct share){first, size_min(first + rows->each, rows->count)};
}

// numbers: that a row's work reads and writes.
static void run_rows(struct rows *rows, cpu_team_task *run, size_t numbers) {
    struct cpu_device *cpu = rows->cpu;
    double started = clock_seconds();
    size_t bytes = numbers * dtype_size(cpu->base.dtype);
    size_t pieces = cpu_team_pieces(cpu->team, rows->count, bytes, &rows->each);
    cpu_team_run(cpu->team, CPU_TEAM_SHARES, pieces, run, rows);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
}

static int not_built(struct error *err, const char *what) {
    return error_set(err, STATUS_INTERNAL, "%s is not built", what);
}

static void embed_rows(const void *job, size_t piece, size_t member) {
    const struct rows *rows = job;
    struct share mine = rows_of(rows, piece);
    enum dtype dtype = rows->cpu->base.dtype;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        memcpy(number_in(rows->out, t * rows->width, dtype),
               number_of(rows->x, (size_t)rows->ids[t] * rows->width, dtype),
               rows->width * dtype_size(dtype));
    }
}

int cpu_embed(struct device *device, void *out, const void *table, const int32_t *ids, float scale,
              enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    if (scale != 1 || store != DEVICE_STORE) {
        return not_built(err, "embed");
    }
    struct rows rows = {
        .cpu = cpu_of(device), .out = out, .x = table, .ids = ids, .width = hidden, .count = tokens};
    run_rows(&rows, embed_rows, 2 * hidden);
    return STATUS_OK;
}

static void norm_rows(const void *job, size_t piece, size_t member) {
    const struct rows *rows = job;
    struct share mine = rows_of(rows, piece);
    enum dtype dtype = rows->cpu->base.dtype;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        rows->cpu->kernels->norm(number_in(rows->out, t * rows->width, dtype),
                                 number_of(rows->x, t * rows->width, dtype), rows->weight, rows->epsilon,
                                 rows->width);
    }
}

int cpu_norm(struct device *device, void *out, const void *x, const struct device_norm *norm,
             enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    if (norm->kind != DEVICE_NORM_RMS || store != DEVICE_STORE) {
        return not_built(err, "norm");
    }
    struct rows rows = {.cpu = cpu_of(device),
                        .out = out,
                        .x = x,
                        .weight = norm->weight,
                        .epsilon = norm->epsilon,
                        .width = hidden,
                        .count = tokens};
    run_rows(&rows, norm_rows, 2 * hidden);
    return STATUS_OK;
}

int cpu_norm_groups(struct device *device, void *x, const struct device_groups *groups,
                    const struct device_norm *norm, size_t tokens, struct error *err) {
    (void)device, (void)x, (void)groups, (void)norm, (void)tokens;
    return not_built(err, "norm_groups");
}

int cpu_add(struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden,
            struct error *err) {
    (void)device, (void)x, (void)y, (void)scale, (void)tokens, (void)hidden;
    return not_built(err, "add");
}

int cpu_scale(struct device *device, void *x, const void *factor, size_t tokens, size_t hidden,
              struct error *err) {
    (void)device, (void)x, (void)factor, (void)tokens, (void)hidden;
    return not_built(err, "scale");
}

int cpu_gate(struct device *device, void *x, const void *gate, size_t gate_stride, size_t tokens,
             size_t width, struct error *err) {
    (void)device, (void)x, (void)gate, (void)gate_stride, (void)tokens, (void)width;
    return not_built(err, "gate");
}

static void keep_rows(const void *job, size_t piece, size_t member) {
    const struct rows *rows = job;
    struct share mine = rows_of(rows, piece);
    enum dtype dtype = rows->cpu->base.dtype;
    size_t queries = device_heads_key(rows->heads);
    size_t kept = 2 * rows->heads.kv_heads * rows->heads.head_dim;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        memcpy(number_in(rows->out, t * kept, dtype), number_of(rows->x, t * rows->width + queries, dtype),
               kept * dtype_size(dtype));
    }
}

int cpu_keep(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
             size_t tokens, struct error *err) {
    (void)err;
    size_t width = 2 * heads.kv_heads * heads.head_dim;
    struct rows rows = {.cpu = cpu_of(device),
                        .out = number_in(kept, row * width, device->dtype),
                        .x = qkv,
                        .heads = heads,
                        .width = device_heads_width(heads),
                        .count = tokens};
    run_rows(&rows, keep_rows, 2 * width);
    return STATUS_OK;
}

// ids: each token's row of cosine and sine.
static void rope_rows(const void *job, size_t piece, size_t member) {
    const struct rows *rows = job;
    struct share mine = rows_of(rows, piece);
    struct device_heads heads = rows->heads;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        size_t angles = (size_t)rows->ids[t] * (heads.head_dim / 2);
        for (size_t h = 0; h < heads.heads + heads.kv_heads; h++) { // query heads, then key heads
            rows->cpu->kernels->rope(
                number_in(rows->out, t * rows->width + h * heads.head_dim, rows->cpu->base.dtype),
                h < heads.heads ? rows->weight : rows->other_weight, rows->epsilon, rows->cosine + angles,
                rows->sine + angles, heads.head_dim);
        }
    }
}

int cpu_qk_norm_rope(struct device *device, void *qkv, const struct device_rope *rope,
                     struct device_heads heads, size_t tokens, struct error *err) {
    if (rope->q_norm.kind != DEVICE_NORM_RMS || rope->part != heads.head_dim || rope->pairing != 0 ||
        rope->rounding != 0 || rope->query_scale != NULL || heads.gap != 0) {
        return not_built(err, "qk_norm_rope");
    }
    struct rows rows = {.cpu = cpu_of(device),
                        .out = qkv,
                        .weight = rope->q_norm.weight,
                        .other_weight = rope->k_norm.weight,
                        .epsilon = rope->q_norm.epsilon,
                        .cosine = rope->cosine,
                        .sine = rope->sine,
                        .ids = rope->row,
                        .heads = heads,
                        .width = device_heads_width(heads),
                        .count = tokens};
    run_rows(&rows, rope_rows, rows.width);
    return STATUS_OK;
}

static void swiglu_rows(const void *job, size_t piece, size_t member) {
    const struct rows *rows = job;
    struct share mine = rows_of(rows, piece);
    enum dtype dtype = rows->cpu->base.dtype;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        rows->cpu->kernels->swiglu(number_in(rows->out, t * rows->width, dtype),
                                   number_of(rows->x, 2 * t * rows->width, dtype), rows->width);
    }
}

int cpu_activate(struct device *device, void *out, const void *in, enum device_activation activation,
                 bool gated, size_t tokens, size_t width, struct error *err) {
    if (activation != DEVICE_SILU || !gated) {
        return not_built(err, "activate");
    }
    struct rows rows = {.cpu = cpu_of(device), .out = out, .x = in, .width = width, .count = tokens};
    run_rows(&rows, swiglu_rows, 3 * width);
    return STATUS_OK;
}

// ---- pooling ----

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
    size_t rows;
    size_t hidden;
};

// sums[i] = mean over the span of x[t, column + i], tokens in order.
static void mean_chunk(float *sums, const struct pool *pool, struct device_span span, size_t column,
                       size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums[i] = 0;
    }
    for (int32_t t = span.start; t < span.end; t++) {
        size_t at = (size_t)t * pool->hidden + column;
        pool->kernels->add(sums, number_of(pool->x, at, pool->dtype), count);
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
             const void *x, const struct device_span *spans, size_t rows, size_t hidden, struct error *err) {
    (void)err;
    struct cpu_device *cpu = cpu_of(device);
    double started = clock_seconds();
    struct pool pool = {cpu->kernels, device->dtype, out, out_dtype, checks, x, spans, rows, hidden};
    cpu_team_run(cpu->team, CPU_TEAM_QUEUE, (rows + POOL_ROWS - 1) / POOL_ROWS, pool_rows, &pool);
    cpu->since_fence.compute_seconds += clock_seconds() - started;
    return STATUS_OK;
}
