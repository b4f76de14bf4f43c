// SPDX-License-Identifier: MIT
// The operations of operations.h: cheap checks of shapes, then the back end. device_recurrences.c has those
// that carry a state along a text.
#include <stdio.h>

#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/device_texts.h"
#include "kernels/operations.h"
#include "kernels/weight_format.h"

static int refuse(struct error *err, const char *operation, const char *why) {
    return error_set(err, STATUS_INTERNAL, "%s: %s", operation, why);
}

int device_embed(struct device *device, void *out, const void *table, const int32_t *ids, float scale,
                 enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || table == NULL || ids == NULL || hidden == 0) {
        return refuse(err, "embed", "a buffer is missing or hidden is 0");
    }
    return device->ops->embed(device, out, table, ids, scale, store, tokens, hidden, err);
}

int device_norm(struct device *device, void *out, const void *x, const struct device_norm *norm,
                enum device_store store, size_t tokens, size_t hidden, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || x == NULL || norm == NULL || hidden == 0) {
        return refuse(err, "norm", "a buffer is missing or hidden is 0");
    }
    return device->ops->norm(device, out, x, norm, store, tokens, hidden, err);
}

int device_norm_groups(struct device *device, void *x, const struct device_groups *groups,
                       const struct device_norm *norm, size_t tokens, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || norm == NULL || groups == NULL || groups->count == 0 || groups->width == 0) {
        return refuse(err, "norm_groups", "a buffer is missing or there are no groups");
    }
    if (groups->own_weights && (norm->weight == NULL || norm->bias != NULL)) {
        return refuse(err, "norm_groups", "groups of their own weights have no bias");
    }
    size_t far = size_max(groups->from, groups->first);
    size_t near = size_min(groups->from, groups->first);
    size_t all;
    if (!size_mul(groups->count, groups->width, &all) || all > groups->stride || far > groups->stride - all) {
        return refuse(err, "norm_groups", "the groups leave the row");
    }
    return far > near && far - near < all
               ? refuse(err, "norm_groups", "the groups are written where others are read")
               : device->ops->norm_groups(device, x, groups, norm, tokens, err);
}

int device_add(struct device *device, void *x, const void *y, float scale, size_t tokens, size_t hidden,
               struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || y == NULL || hidden == 0) {
        return refuse(err, "add", "a buffer is missing or hidden is 0");
    }
    return device->ops->add(device, x, y, scale, tokens, hidden, err);
}

int device_scale(struct device *device, void *x, const void *factor, size_t tokens, size_t hidden,
                 struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || factor == NULL || hidden == 0) {
        return refuse(err, "scale", "a buffer is missing or hidden is 0");
    }
    return device->ops->scale(device, x, factor, tokens, hidden, err);
}

// The matrix as matmul wants it: itself where it is stored as computed, else expanded into the device's
// scratch, where it stays until the next one is.
static int as_computed(struct device *device, const struct device_matrix *matrix, struct device_matrix *out,
                       struct error *err) {
    size_t bytes;
    *out = *matrix;
    if (matrix->piece_count == 0) {
        return STATUS_OK;
    }
    *out =
        (struct device_matrix){.rows = matrix->rows, .columns = matrix->columns, .data = device->expansion};
    if (!device->ops->matrix_bytes(device, matrix->rows, matrix->columns, &bytes) ||
        bytes > device->expansion_bytes) {
        return error_set(err, STATUS_INTERNAL,
                         "no scratch was planned to expand a matrix of [%zu, %zu] in %s", matrix->rows,
                         matrix->columns, matrix->pieces[0].format->name);
    }
    return device_expand_rows(device, out, 0, matrix, 0, matrix->rows, err);
}

int device_matmul(struct device *device, void *out, const void *x, const struct device_matrix *matrix,
                  const void *bias, size_t tokens, enum device_store store, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || x == NULL || matrix == NULL || matrix->data == NULL || matrix->rows == 0 ||
        matrix->columns == 0) {
        return refuse(err, "matmul", "a buffer or the matrix is missing");
    }
    struct device_matrix computed;
    TRY(as_computed(device, matrix, &computed, err));
    return device->ops->matmul(device, out, x, &computed, bias, tokens, store, err);
}

// ---- choosing how matmuls are computed ----

int device_check_matmul(struct device *device, size_t tokens, size_t rows, size_t columns, bool bias,
                        enum device_store store, struct error *err) {
    if (tokens == 0 || rows == 0 || columns == 0) {
        return refuse(err, "check_matmul", "a size is 0");
    }
    return device->ops->check_matmul == NULL
               ? STATUS_OK
               : device->ops->check_matmul(device, tokens, rows, columns, bias, store, err);
}

int device_matmul_tune(struct device *device, void *out, void *x, const struct device_matrix *matrix,
                       const void *bias, enum device_store store, struct error *err) {
    if (device->ops->matmul_tune == NULL) {
        return STATUS_OK;
    }
    if (out == NULL || x == NULL || matrix == NULL || matrix->data == NULL) {
        return refuse(err, "matmul_tune", "a buffer or the matrix is missing");
    }
    if (device->sealed) {
        return refuse(err, "matmul_tune", "the device is sealed");
    }
    struct device_matrix computed;
    TRY(as_computed(device, matrix, &computed, err));
    return device->ops->matmul_tune(device, out, x, &computed, bias, store, err);
}

int device_algorithms(const struct device *device, struct buffer *text, struct error *err) {
    return device->ops->algorithms == NULL ? STATUS_OK : device->ops->algorithms(device, text, err);
}

int device_set_algorithms(struct device *device, const char *text, bool binding, struct error *err) {
    if (device->ops->set_algorithms == NULL) {
        return *text == 0
                   ? STATUS_OK
                   : error_set(err, STATUS_DATA, "this device has no algorithms to choose from: %.60s", text);
    }
    return device->ops->set_algorithms(device, text, binding, err);
}

// ---- shapes ----

// NULL when the shape can be computed.
static const char *heads_fault(struct device_heads heads) {
    if (heads.heads == 0 || heads.kv_heads == 0 || heads.heads % heads.kv_heads != 0) {
        return "kv_heads does not divide heads";
    }
    if (heads.head_dim == 0 || heads.head_dim % 2 != 0) {
        return "head_dim is not even";
    }
    return NULL;
}

static bool refuse_dimension(struct device_refusal *refusal, enum device_dimension dimension,
                             const char *can) {
    refusal->dimension = dimension;
    snprintf(refusal->can, sizeof refusal->can, "%s", can);
    return false;
}

bool device_supports(const struct device *device, const struct device_shape *shape,
                     struct device_refusal *refusal) {
    struct device_heads heads = shape->heads;
    const struct {
        enum device_dimension dimension;
        size_t size;
    } sizes[] = {{DEVICE_HIDDEN, shape->hidden},
                 {DEVICE_INTERMEDIATE, shape->intermediate},
                 {DEVICE_HEADS, heads.heads},
                 {DEVICE_KV_HEADS, heads.kv_heads},
                 {DEVICE_HEAD_DIM, heads.head_dim}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].size == 0) {
            return refuse_dimension(refusal, sizes[i].dimension, "1 and more");
        }
    }
    if (heads_fault(heads) != NULL) {
        return heads.heads % heads.kv_heads != 0
                   ? refuse_dimension(refusal, DEVICE_KV_HEADS, "divisors of the number of heads")
                   : refuse_dimension(refusal, DEVICE_HEAD_DIM, "even numbers");
    }
    if (shape->experts > DEVICE_EXPERTS_MOST) {
        refusal->dimension = DEVICE_EXPERTS;
        snprintf(refusal->can, sizeof refusal->can, "numbers up to %d", DEVICE_EXPERTS_MOST);
        return false;
    }
    return device->ops->supports(device, shape, refusal);
}

// ---- attention ----

static const char *rope_fault(const struct device_rope *rope, struct device_heads heads) {
    if (rope->part % 2 != 0 || rope->part > heads.head_dim || rope->first > heads.head_dim - rope->part) {
        return "the part that turns is not within a head";
    }
    bool has_tables = rope->cosine != NULL && rope->sine != NULL;
    if ((rope->part > 0 && !has_tables) ||
        ((rope->part > 0 || rope->query_scale != NULL) && rope->row == NULL)) {
        return "a buffer is missing";
    }
    return (rope->q_norm.weight == NULL) != (rope->k_norm.weight == NULL)
               ? "only one of the two norms was given"
               : NULL;
}

int device_qk_norm_rope(struct device *device, void *qkv, const struct device_rope *rope,
                        struct device_heads heads, size_t tokens, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    const char *fault = heads_fault(heads);
    if (fault == NULL && qkv == NULL) {
        fault = "a buffer is missing";
    }
    if (fault == NULL) {
        fault = rope_fault(rope, heads);
    }
    return fault != NULL ? refuse(err, "qk_norm_rope", fault)
                         : device->ops->qk_norm_rope(device, qkv, rope, heads, tokens, err);
}

bool device_attention_scratch(const struct device *device, const struct device_attention *shape,
                              size_t *bytes) {
    if (heads_fault(shape->heads) != NULL) {
        return false;
    }
    return device->ops->attention_scratch(device, shape, bytes);
}

int device_keep(struct device *device, void *kept, size_t row, const void *qkv, struct device_heads heads,
                size_t tokens, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    const char *fault = heads_fault(heads);
    if (fault == NULL && (kept == NULL || qkv == NULL)) {
        fault = "a buffer is missing";
    }
    return fault != NULL ? refuse(err, "keep", fault)
                         : device->ops->keep(device, kept, row, qkv, heads, tokens, err);
}

// NULL where rows of these heads can be kept in blocks.
static const char *packed_fault(struct device_heads heads, enum device_keeping keeping) {
    const char *fault = heads_fault(heads);
    if (fault == NULL && keeping != DEVICE_KEEP_Q8_0 && keeping != DEVICE_KEEP_Q4_0) {
        fault = "no blocks are of that kind";
    }
    return fault == NULL && heads.head_dim % DEVICE_KEEP_BLOCK != 0 ? "a head is not made of whole blocks"
                                                                    : fault;
}

int device_keep_packed(struct device *device, void *kept, size_t row, const void *qkv,
                       struct device_heads heads, size_t tokens, enum device_keeping keeping,
                       struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    const char *fault = packed_fault(heads, keeping);
    if (fault == NULL && (kept == NULL || qkv == NULL)) {
        fault = "a buffer is missing";
    }
    return fault != NULL ? refuse(err, "keep_packed", fault)
                         : device->ops->keep_packed(device, kept, row, qkv, heads, tokens, keeping, err);
}

int device_expand_kept(struct device *device, void *out, const void *kept, struct device_heads heads,
                       size_t rows, enum device_keeping keeping, struct error *err) {
    if (rows == 0) {
        return STATUS_OK;
    }
    const char *fault = packed_fault(heads, keeping);
    if (fault == NULL && (kept == NULL || out == NULL)) {
        fault = "a buffer is missing";
    }
    return fault != NULL ? refuse(err, "expand_kept", fault)
                         : device->ops->expand_kept(device, out, kept, heads, rows, keeping, err);
}

// NULL when the texts are whole, or a slice that can be computed.
static const char *slice_fault(const struct device_texts *texts) {
    if (texts->kept == NULL) {
        return texts->before > 0 ? "kept keys and values are missing" : NULL;
    }
    if (texts->host_starts[0] != 0 || (texts->before > 0 && texts->count != 1)) {
        return "a slice is of one text";
    }
    return texts->before > 0 && !texts_slice_begins(texts) ? "a slice begins within a tile" : NULL;
}

static const char *texts_fault(const struct device_texts *texts) {
    if (texts->starts == NULL || texts->host_starts == NULL) {
        return "a buffer is missing";
    }
    const char *fault = texts_origin_fault(texts);
    return fault != NULL ? fault : slice_fault(texts);
}

int device_attention(struct device *device, void *out, const void *qkv, const struct device_attention *shape,
                     struct device_texts texts, void *scratch, struct error *err) {
    if (texts.count == 0) {
        return STATUS_OK;
    }
    const char *fault = heads_fault(shape->heads);
    if (fault == NULL && (out == NULL || qkv == NULL)) {
        fault = "a buffer is missing";
    }
    if (fault == NULL) {
        fault = texts_fault(&texts);
    }
    size_t bytes;
    if (fault == NULL &&
        (!device_attention_scratch(device, shape, &bytes) || (bytes > 0 && scratch == NULL))) {
        fault = "scratch is missing";
    }
    if (fault != NULL) {
        return refuse(err, "attention", fault);
    }
    for (size_t i = 0; i < texts.count; i++) {
        int32_t start = texts.host_starts[i];
        int32_t length = texts.host_starts[i + 1] - start;
        size_t before = texts_first(&texts, i);
        if (start < 0 || length < 0 || before > shape->longest || (size_t)length > shape->longest - before) {
            return error_set(err, STATUS_INTERNAL,
                             "attention: text %zu is [%d, %d) behind %zu and the longest was planned as %zu",
                             i, start, texts.host_starts[i + 1], before, shape->longest);
        }
    }
    return device->ops->attention(device, out, qkv, shape, texts, scratch, err);
}

int device_activate(struct device *device, void *out, const void *in, enum device_activation activation,
                    bool gated, size_t tokens, size_t width, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || in == NULL || width == 0) {
        return refuse(err, "activate", "a buffer is missing or the width is 0");
    }
    if (activation == DEVICE_XIELU) {
        return refuse(err, "activate", "xIELU has numbers of its own");
    }
    return device->ops->activate(device, out, in, activation, gated, tokens, width, err);
}

int device_xielu(struct device *device, void *out, const void *in, const void *numbers, size_t tokens,
                 size_t width, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || in == NULL || numbers == NULL || width == 0) {
        return refuse(err, "xielu", "a buffer is missing or the width is 0");
    }
    return device->ops->xielu(device, out, in, numbers, tokens, width, err);
}

int device_clamp(struct device *device, void *x, float limit, size_t tokens, size_t width,
                 struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || width == 0 || !(limit > 0)) {
        return refuse(err, "clamp", "a buffer is missing, or the width or the limit is 0");
    }
    return device->ops->clamp(device, x, limit, tokens, width, err);
}

int device_activate_by(struct device *device, void *out, const void *in, const void *factor,
                       size_t factor_stride, enum device_activation activation, size_t tokens, size_t width,
                       struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || in == NULL || factor == NULL || width == 0 || factor_stride < width) {
        return refuse(err, "activate_by", "a buffer is missing or the width is not one");
    }
    return device->ops->activate_by(device, out, in, factor, factor_stride, activation, tokens, width, err);
}

// Whether `count` groups that are `apart` lie in rows of `stride`.
static bool groups_fit(size_t stride, size_t first, size_t apart, const struct device_columns *columns) {
    size_t all;
    size_t end;
    return size_mul(columns->count - 1, apart, &all) && size_add(first, columns->width, &end) &&
           size_add(all, end, &end) && end <= stride;
}

int device_copy_columns(struct device *device, void *out, const void *in,
                        const struct device_columns *columns, size_t tokens, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (out == NULL || out == in || columns->count == 0 || columns->width == 0) {
        return refuse(err, "copy_columns", "a buffer is missing or there are no groups");
    }
    return !groups_fit(columns->stride, columns->first, columns->apart, columns) ||
                   (columns->count > 1 && columns->apart < columns->width) ||
                   (in != NULL &&
                    !groups_fit(columns->in_stride, columns->in_first, columns->in_apart, columns))
               ? refuse(err, "copy_columns", "the groups leave the row")
               : device->ops->copy_columns(device, out, in, columns, tokens, err);
}

int device_gate(struct device *device, void *x, const void *in, const struct device_gates *gates,
                size_t tokens, struct error *err) {
    size_t all;
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || in == NULL || gates->width == 0 || gates->groups == 0) {
        return refuse(err, "gate", "a buffer is missing or there are no groups");
    }
    return gates->apart < gates->width || !size_mul(gates->groups - 1, gates->apart, &all) ||
                   gates->stride < gates->width || gates->stride - gates->width < all
               ? refuse(err, "gate", "the groups leave the row")
               : device->ops->gate(device, x, in, gates, tokens, err);
}

int device_gate_rows(struct device *device, void *x, const void *in, const void *weight, size_t tokens,
                     size_t width, size_t hidden, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    if (x == NULL || in == NULL || weight == NULL || width == 0 || hidden == 0) {
        return refuse(err, "gate_rows", "a buffer is missing or a width is 0");
    }
    return device->ops->gate_rows(device, x, in, weight, tokens, width, hidden, err);
}

// ---- mixtures of experts ----

static const char *routing_fault(size_t experts, size_t chosen) {
    return experts == 0 || chosen == 0 || chosen > experts || experts > DEVICE_EXPERTS_MOST
               ? "a token cannot choose so many experts"
               : NULL;
}

static const char *choice_fault(const struct device_routing *routing) {
    const size_t groups = routing->groups;
    const char *fault = routing_fault(routing->experts, routing->chosen);
    if (fault != NULL) {
        return fault;
    }
    if (device_routing_by_scores(routing) &&
        (routing->scores == DEVICE_SCORES_CHOSEN || routing->scores == DEVICE_SCORES_IN_TURN)) {
        return "scores of the chosen cannot choose";
    }
    if (routing->scores == DEVICE_SCORES_IN_TURN && groups > 0) {
        return "experts of groups cannot be chosen in turn";
    }
    if (groups == 0) {
        return routing->group_pairs ? "there are no groups" : NULL;
    }
    if (groups > DEVICE_EXPERT_GROUPS_MOST || routing->experts % groups != 0 || routing->chosen_groups == 0 ||
        routing->chosen_groups > groups || (routing->group_pairs && routing->experts / groups < 2)) {
        return "experts cannot be divided into such groups";
    }
    return routing->chosen > routing->chosen_groups * (routing->experts / groups)
               ? "the chosen groups have too few experts"
               : NULL;
}

int device_route(struct device *device, const struct device_routes *routes, const void *x, const void *router,
                 const void *bias, const struct device_routing *routing, size_t tokens, size_t hidden,
                 struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    const char *fault = choice_fault(routing);
    if (fault == NULL &&
        (routes->experts == NULL || routes->weights == NULL || x == NULL || router == NULL || hidden == 0)) {
        fault = "a buffer is missing or hidden is 0";
    }
    return fault != NULL ? refuse(err, "route", fault)
                         : device->ops->route(device, routes, x, router, bias, routing, tokens, hidden, err);
}

bool device_experts_scratch(const struct device *device, const struct device_experts *experts, size_t tokens,
                            size_t *bytes) {
    return routing_fault(experts->experts, experts->chosen) == NULL && experts->hidden > 0 &&
           experts->width > 0 && experts->width <= SIZE_MAX / 2 &&
           device->ops->experts_scratch(device, experts, tokens, bytes);
}

static bool is_matrix_of(const struct device_matrix *matrix, size_t copies, size_t rows, size_t columns) {
    size_t all;
    return matrix != NULL && matrix->data != NULL && (matrix->piece_count == 0 || matrix->parts == copies) &&
           size_mul(copies, rows, &all) && matrix->rows == all && matrix->columns == columns;
}

int device_experts(struct device *device, void *out, const void *x, const struct device_routes *routes,
                   const struct device_experts *experts, enum device_store store, size_t tokens,
                   void *scratch, struct error *err) {
    if (tokens == 0) {
        return STATUS_OK;
    }
    size_t bytes;
    if (!device_experts_scratch(device, experts, tokens, &bytes) || (bytes > 0 && scratch == NULL)) {
        return refuse(err, "experts", "a size is wrong or scratch is missing");
    }
    if (out == NULL || x == NULL || out == x || routes->experts == NULL || routes->weights == NULL) {
        return refuse(err, "experts", "a buffer is missing");
    }
    if (experts->plain && experts->limit > 0) {
        return refuse(err, "experts", "without a gate there is nothing that a limit cuts");
    }
    if (!is_matrix_of(experts->gate_up, experts->experts, device_experts_rows(experts), experts->hidden) ||
        !is_matrix_of(experts->down, experts->experts, experts->hidden, experts->width)) {
        return refuse(err, "experts", "a matrix has not the experts' shape");
    }
    return device->ops->experts(device, out, x, routes, experts, store, tokens, scratch, err);
}

int device_pool(struct device *device, void *out, enum dtype out_dtype, struct device_row_check *checks,
                const void *x, const struct device_span *spans, const struct device_texts *texts, size_t rows,
                size_t hidden, struct error *err) {
    if (rows == 0) {
        return STATUS_OK;
    }
    if (out == NULL || checks == NULL || x == NULL || spans == NULL || hidden == 0) {
        return refuse(err, "pool", "a buffer is missing or hidden is 0");
    }
    struct device_texts read = texts != NULL ? *texts : (struct device_texts){0};
    read.head =
        read.head != NULL ? read.head : x; // where no span lies in the head its rows need not be there
    const char *fault = texts != NULL ? texts_origin_fault(&read) : NULL;
    if (fault != NULL) {
        return refuse(err, "pool", fault);
    }
    return device->ops->pool(device, out, out_dtype, checks, x, spans, texts, rows, hidden, err);
}
