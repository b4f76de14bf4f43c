#include "extract/window.h"

#include <stdlib.h>
#include <string.h>

int window_create(struct window *window, const struct plan_limits *limits, struct error *err) {
    *window = (struct window){0};
    atomic_init(&window->pending, 0);
    int status = plan_create(&window->plan, limits, err);
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&window->problems, limits->window, sizeof *window->problems, err);
    }
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&window->ready, limits->window, sizeof *window->ready, err);
    }
    if (status == STATUS_OK) {
        status =
            memory_zeroed((void **)&window->ready_tokens, limits->window, sizeof *window->ready_tokens, err);
    }
    if (status != STATUS_OK) {
        window_destroy(window);
    }
    return status;
}

void window_destroy(struct window *window) {
    plan_destroy(&window->plan);
    free(window->problems);
    free(window->ready);
    free(window->ready_tokens);
    buffer_destroy(&window->bytes);
    buffer_destroy(&window->tokens);
    buffer_destroy(&window->rows);
    window->problems = NULL;
    window->ready = NULL;
    window->ready_tokens = NULL;
}

static int keep(struct buffer *buffer, const void *bytes, size_t size, size_t *at, struct error *err) {
    *at = buffer->size;
    return buffer_append(buffer, bytes, size, err);
}

static int add_problem(struct window *window, const struct prepared *prepared, struct error *err) {
    struct window_problem *problem = &window->problems[window->count];
    *problem = (struct window_problem){.ordinal = prepared->ordinal,
                                       .state = prepared->state,
                                       .id_size = prepared->id_size,
                                       .metadata_size = prepared->metadata_size,
                                       .token_count = (uint32_t)prepared->token_count,
                                       .row_count = (uint32_t)prepared->row_count,
                                       .step_count = (uint32_t)prepared->step_count,
                                       .truncated = prepared->truncated};
    int status = keep(&window->bytes, prepared->id, prepared->id_size, &problem->id_at, err);
    if (status != STATUS_OK) {
        return status;
    }
    window->count++;
    if (prepared->state != PROBLEM_DONE) {
        return keep(&window->bytes, prepared->reason, strlen(prepared->reason) + 1, &problem->reason_at, err);
    }
    status = keep(&window->bytes, prepared->metadata, prepared->metadata_size, &problem->metadata_at, err);
    if (status == STATUS_OK) {
        status = keep(&window->tokens, prepared->tokens, prepared->token_count * sizeof(int32_t),
                      &problem->tokens_at, err);
    }
    if (status == STATUS_OK) {
        status = keep(&window->rows, prepared->rows, prepared->row_count * sizeof(struct shard_row),
                      &problem->rows_at, err);
    }
    window->ready[window->ready_count] = (uint32_t)(window->count - 1);
    window->ready_tokens[window->ready_count] = (uint32_t)prepared->token_count;
    window->ready_count++;
    return status;
}

static int add_row(struct window *window, struct preparer *preparer, const struct row *row,
                   struct error *err) {
    struct prepared prepared;
    int status = prepare_row(preparer, row, &prepared, err);
    return status == STATUS_OK ? add_problem(window, &prepared, err) : status;
}

int window_fill(struct window *window, const struct plan_limits *limits, struct source *source,
                struct preparer *preparer, const struct ledger_retry *only, struct digest *digest, bool *end,
                struct error *err) {
    struct row row;
    int status = STATUS_OK;
    window->count = 0;
    window->ready_count = 0;
    buffer_clear(&window->bytes);
    buffer_clear(&window->tokens);
    buffer_clear(&window->rows);
    *end = false;
    while (status == STATUS_OK && window->count < limits->window) {
        bool found;
        status = source_next(source, &row, &found, err);
        if (status != STATUS_OK || !found) {
            *end = true;
            break;
        }
        if (window->count == 0) {
            window->first = row.ordinal;
        }
        window->end = row.ordinal + 1;
        if (digest != NULL) {
            status = source_digest_row(digest, &row, err);
        }
        if (status == STATUS_OK && (only == NULL || ledger_retry_has(only, row.ordinal))) {
            status = add_row(window, preparer, &row, err);
        }
    }
    if (status == STATUS_OK) {
        plan_window(&window->plan, limits, window->ready_tokens, window->ready_count);
    }
    return status;
}

const char *window_text(const struct window *window, size_t at) {
    return window->bytes.data + at;
}

const int32_t *window_tokens(const struct window *window, const struct window_problem *problem) {
    return (const int32_t *)(const void *)(window->tokens.data + problem->tokens_at);
}

const struct shard_row *window_rows(const struct window *window, const struct window_problem *problem) {
    return (const struct shard_row *)(const void *)(window->rows.data + problem->rows_at);
}

size_t window_batch_size(const struct window *window, size_t batch) {
    return window->plan.offset[batch + 1] - window->plan.offset[batch];
}

const struct window_problem *window_batch_problem(const struct window *window, size_t batch, size_t index) {
    uint32_t ready = window->plan.order[window->plan.offset[batch] + index];
    return &window->problems[window->ready[ready]];
}
