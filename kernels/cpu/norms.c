// SPDX-License-Identifier: MIT
// Norms of rows, of groups of their columns, and of heads before these turn.
#include "kernels/cpu/rows.h"

struct norm {
    struct rows rows;
    void *out;
    const void *x;
    const struct device_norm *norm;
    enum device_store store;
    struct device_groups groups;
};

static void norm_rows(const void *job, size_t piece, size_t member) {
    const struct norm *norm = job;
    struct share mine = rows_of(&norm->rows, piece);
    const struct cpu_device *cpu = norm->rows.cpu;
    const struct device_groups *groups = &norm->groups;
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        struct device_norm own = *norm->norm;
        for (size_t g = 0; g < groups->count; g++) {
            size_t at = t * groups->stride + g * groups->width;
            if (groups->own_weights) {
                own.weight = number_of(norm->norm->weight, g * groups->width, cpu->base.dtype);
            }
            cpu->kernels->norm(number_in(norm->out, at + groups->first, cpu->base.dtype),
                               number_of(norm->x, at + groups->from, cpu->base.dtype), &own, norm->store,
                               groups->width);
        }
    }
}

int cpu_norm(struct device *device, void *out, const void *x, const struct device_norm *norm,
             enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    (void)err;
    struct norm job = {.rows = {.cpu = cpu_of(device), .count = tokens},
                       .out = out,
                       .x = x,
                       .norm = norm,
                       .store = store,
                       .groups = {.stride = hidden, .count = 1, .width = hidden}};
    rows_run(&job.rows, norm_rows, 2 * hidden);
    return STATUS_OK;
}

int cpu_norm_groups(struct device *device, void *x, const struct device_groups *groups,
                    const struct device_norm *norm, size_t tokens, struct error *err) {
    (void)err;
    struct norm job = {.rows = {.cpu = cpu_of(device), .count = tokens},
                       .out = x,
                       .x = x,
                       .norm = norm,
                       .store = DEVICE_STORE,
                       .groups = *groups};
    rows_run(&job.rows, norm_rows, 2 * groups->count * groups->width);
    return STATUS_OK;
}

// ---- heads ----

struct turns {
    struct rows rows;
    void *qkv;
    const struct device_rope *rope;
    struct device_heads heads;
};

// The heads of one token: queries, then keys.
static void turn_token(const struct turns *turns, size_t token) {
    const struct cpu_device *cpu = turns->rows.cpu;
    const struct device_rope *rope = turns->rope;
    struct device_heads heads = turns->heads;
    size_t row = rope->row != NULL ? (size_t)rope->row[token] : 0;
    const float *cosine = rope->part > 0 ? rope->cosine + row * (rope->part / 2) : NULL;
    const float *sine = rope->part > 0 ? rope->sine + row * (rope->part / 2) : NULL;
    void *columns = number_in(turns->qkv, token * device_heads_width(heads), cpu->base.dtype);
    float scale = 1;
    if (rope->query_scale != NULL) {
        scale = rope->query_scale[row];
        scale = rope->wide_query_scale ? scale : dtype_rounded(scale, cpu->base.dtype);
    }
    for (size_t h = 0; h < heads.heads; h++) {
        void *head = number_in(columns, h * device_heads_apart(heads), cpu->base.dtype);
        cpu->kernels->rope(head, &rope->q_norm, cosine, sine, rope, heads.head_dim);
        if (rope->query_scale != NULL) {
            cpu->kernels->scaled(head, head, scale, DEVICE_STORE, heads.head_dim);
        }
    }
    void *keys = number_in(columns, device_heads_key(heads), cpu->base.dtype);
    for (size_t h = 0; h < heads.kv_heads; h++) {
        cpu->kernels->rope(number_in(keys, h * heads.head_dim, cpu->base.dtype), &rope->k_norm, cosine, sine,
                           rope, heads.head_dim);
    }
}

static void turn_rows(const void *job, size_t piece, size_t member) {
    const struct turns *turns = job;
    struct share mine = rows_of(&turns->rows, piece);
    (void)member;
    for (size_t t = mine.first; t < mine.end; t++) {
        turn_token(turns, t);
    }
}

int cpu_qk_norm_rope(struct device *device, void *qkv, const struct device_rope *rope,
                     struct device_heads heads, size_t tokens, struct error *err) {
    (void)err;
    struct turns turns = {{.cpu = cpu_of(device), .count = tokens}, qkv, rope, heads};
    rows_run(&turns.rows, turn_rows, device_heads_width(heads));
    return STATUS_OK;
}
