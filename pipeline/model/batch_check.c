// SPDX-License-Identifier: MIT
#include "model/batch_check.h"

#include "base/size.h"
#include "kernels/device_texts.h"
#include "model/rope.h"

int batch_check_ids(const struct model_config *config, const int32_t *ids, size_t count, struct error *err) {
    for (size_t t = 0; t < count; t++) {
        if (ids[t] < 0 || (size_t)ids[t] >= config->vocabulary) {
            return error_set(err, STATUS_DATA, "token id %d is outside the model's vocabulary of %zu", ids[t],
                             config->vocabulary);
        }
    }
    return STATUS_OK;
}

// ---- texts ----

size_t batch_before(const struct model_batch *batch, size_t text) {
    return batch->origins == NULL ? 0 : (size_t)batch->origins[text].before;
}

bool batch_takes_head(const struct model_batch *batch) {
    for (size_t i = 0; batch->origins != NULL && i < batch->texts; i++) {
        if (batch->origins[i].parent == DEVICE_HEAD && batch->origins[i].before > 0) {
            return true;
        }
    }
    return false;
}

static size_t own_tokens(const struct model_batch *batch, size_t text) {
    return (size_t)(batch->starts[text + 1] - batch->starts[text]);
}

static bool is_origin(const struct model *model, const struct model_batch *batch, size_t text) {
    const struct device_origin *origin = &batch->origins[text];
    size_t head = model->limits.head;
    bool is_long = own_tokens(batch, text) > model->limits.tokens;
    if (origin->before < 0 || origin->parent < DEVICE_HEAD || origin->parent >= (int64_t)text ||
        model->limits.longest_own == 0) {
        return false;
    }
    size_t before = (size_t)origin->before;
    if (origin->parent == DEVICE_HEAD) {
        return before <= head && (before == 0 || before == head || model_shares_in_batches(model));
    }
    size_t parent = (size_t)origin->parent;
    return !is_long && model_shares_in_batches(model) &&
           before <= batch_before(batch, parent) + own_tokens(batch, parent);
}

static int check_text(const struct model *model, const struct model_batch *batch, size_t text,
                      struct error *err) {
    const struct model_config *config = &model->config;
    int64_t own = (int64_t)batch->starts[text + 1] - batch->starts[text];
    if (own <= 0 || (size_t)own > model_longest_own(&model->limits)) {
        return error_set(err, STATUS_INTERNAL, "text %zu of the batch has %lld tokens, outside 1 to %zu",
                         text, (long long)own, model_longest_own(&model->limits));
    }
    if (batch->origins != NULL && !is_origin(model, batch, text)) {
        return error_set(err, STATUS_INTERNAL, "text %zu of the batch cannot go on from %d tokens of %d",
                         text, batch->origins[text].before, batch->origins[text].parent);
    }
    size_t length = batch_before(batch, text) + (size_t)own;
    if (length > model->limits.longest || (batch_before(batch, text) > 0 && rope_is_own(config, length))) {
        return error_set(err, STATUS_INTERNAL, "text %zu of the batch has %zu tokens with %zu before its own",
                         text, length, batch_before(batch, text));
    }
    if (config->longest_text > 0 && length > config->longest_text) {
        return error_set(err, STATUS_DATA,
                         "text %zu of the batch has %zu tokens, and the model is computed of texts of at "
                         "most %zu ('%s')",
                         text, length, config->longest_text, config->longest_key);
    }
    return STATUS_OK;
}

static int check_texts(const struct model *model, const struct model_batch *batch, struct error *err) {
    if (batch->starts[0] != 0 || (size_t)batch->starts[batch->texts] != batch->tokens) {
        return error_set(err, STATUS_INTERNAL, "the texts do not cover the batch");
    }
    for (size_t i = 0; i < batch->texts; i++) {
        TRY(check_text(model, batch, i, err));
    }
    return batch_check_ids(&model->config, batch->ids, batch->tokens, err);
}

// ---- spans ----

static bool is_span(const struct model *model, const struct model_batch *batch, struct device_span span) {
    const struct model_limits *limits = &model->limits;
    if (span.end <= span.start || (int64_t)span.end > (int64_t)batch->tokens) {
        return false;
    }
    if (batch->origins == NULL) {
        return span.start >= 0;
    }
    if (span.end <= 0) {
        return limits->head_rows && -(int64_t)span.start <= (int64_t)limits->head;
    }
    const struct device_texts texts = {
        .host_starts = batch->starts, .count = batch->texts, .host_origins = batch->origins};
    size_t text = texts_find(&texts, (size_t)span.end - 1);
    int64_t position = (int64_t)span.start - batch->starts[text] + batch->origins[text].before;
    return position >= 0 && (limits->head_rows || !texts_run(&texts, text, (size_t)position).of_head);
}

int batch_check(const struct model *model, const struct model_batch *batch, struct error *err) {
    const struct model_limits *limits = &model->limits;
    size_t most = batch->texts == 1 ? size_max(limits->tokens, model_longest_own(limits)) : limits->tokens;
    if (batch->tokens == 0 || batch->tokens > most || batch->texts == 0 || batch->texts > limits->texts ||
        batch->rows == 0 || batch->rows > limits->rows ||
        batch->rows > model_batch_members(limits, batch->tokens) * state_pool_rows(limits) ||
        batch->slot >= limits->slots) {
        return error_set(err, STATUS_INTERNAL,
                         "a batch of %zu tokens, %zu texts and %zu rows in slot %zu is outside the "
                         "limits of %zu, %zu, %zu and %zu",
                         batch->tokens, batch->texts, batch->rows, batch->slot, limits->tokens, limits->texts,
                         limits->rows, limits->slots);
    }
    TRY(check_texts(model, batch, err));
    for (size_t r = 0; r < batch->rows; r++) {
        if (!is_span(model, batch, batch->spans[r])) {
            return error_set(err, STATUS_INTERNAL, "span %zu [%d, %d) is outside the batch", r,
                             batch->spans[r].start, batch->spans[r].end);
        }
    }
    return STATUS_OK;
}
