// SPDX-License-Identifier: MIT
#include "stages/window.h"

#include <stdlib.h>
#include <string.h>

static void store_clear(struct window_store *store) {
    buffer_clear(&store->bytes);
    buffer_clear(&store->tokens);
    buffer_clear(&store->rows);
    buffer_clear(&store->masks);
}

static void store_destroy(struct window_store *store) {
    buffer_destroy(&store->bytes);
    buffer_destroy(&store->tokens);
    buffer_destroy(&store->rows);
    buffer_destroy(&store->masks);
}

int window_create(struct window *window, const struct plan_limits *limits, struct error *err) {
    *window = (struct window){0};
    atomic_init(&window->pending, 0);
    size_t most = limits->window;
    int status;
    TRY_TO(done, status = plan_create(&window->plan, limits, err));
    TRY_TO(done, status = memory_zeroed(&window->problems, most, sizeof *window->problems, err));
    TRY_TO(done, status = memory_zeroed(&window->ready, most, sizeof *window->ready, err));
    TRY_TO(done, status = memory_zeroed(&window->ready_tokens, most, sizeof *window->ready_tokens, err));
    if (limits->reuses) {
        status = memory_zeroed(&window->ready_ids, most, sizeof *window->ready_ids, err);
    }
done:
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
    free(window->ready_ids);
    store_destroy(&window->store);
    window->problems = NULL;
    window->ready = NULL;
    window->ready_tokens = NULL;
    window->ready_ids = NULL;
}

int window_reader_open(struct window_reader *reader, struct error *err) {
    return memory_zeroed(&reader->rest, reader->limits->window, sizeof *reader->rest, err);
}

void window_reader_close(struct window_reader *reader) {
    free(reader->rest);
    store_destroy(&reader->rest_store);
    reader->rest = NULL;
    reader->rest_count = 0;
}

static int keep(struct buffer *buffer, const void *bytes, size_t size, size_t *at, struct error *err) {
    *at = buffer->size;
    return buffer_append(buffer, bytes, size, err);
}

// What a problem refers to, wherever it lies.
struct content {
    const char *id;
    const char *reason;   // failed and skipped problems only
    const char *metadata; // as the rest, of problems that run
    const void *tokens;
    const void *rows;
    const void *mask; // NULL where the job keeps none
};

// Copies the content into the store and lets the problem refer to it there.
static int store_problem(struct window_store *store, struct window_problem *problem,
                         const struct content *content, struct error *err) {
    TRY(keep(&store->bytes, content->id, problem->id_size, &problem->id_at, err));
    if (problem->state != PROBLEM_DONE) {
        return keep(&store->bytes, content->reason, strlen(content->reason) + 1, &problem->reason_at, err);
    }
    TRY(keep(&store->bytes, content->metadata, problem->metadata_size, &problem->metadata_at, err));
    TRY(keep(&store->tokens, content->tokens, problem->token_count * sizeof(int32_t), &problem->tokens_at,
             err));
    if (content->mask != NULL) {
        TRY(keep(&store->masks, content->mask, problem->token_count, &problem->mask_at, err));
    }
    return keep(&store->rows, content->rows, problem->row_count * sizeof(struct shard_row), &problem->rows_at,
                err);
}

static const char *content_at(const struct buffer *buffer, size_t at) {
    return buffer->data == NULL ? NULL : buffer->data + at;
}

// The same problem, which lies in another store.
static int move_problem(struct window_store *to, const struct window_store *from,
                        const struct window_problem *problem, struct window_problem *moved,
                        struct error *err) {
    const struct content content = {.id = content_at(&from->bytes, problem->id_at),
                                    .reason = content_at(&from->bytes, problem->reason_at),
                                    .metadata = content_at(&from->bytes, problem->metadata_at),
                                    .tokens = content_at(&from->tokens, problem->tokens_at),
                                    .rows = content_at(&from->rows, problem->rows_at),
                                    .mask = content_at(&from->masks, problem->mask_at)};
    *moved = *problem;
    return store_problem(to, moved, &content, err);
}

// A problem whose content is in the window's store already.
static void count_problem(struct window *window) {
    const struct window_problem *problem = &window->problems[window->count];
    if (window->count == 0) {
        window->first = problem->ordinal;
    }
    if (problem->state == PROBLEM_DONE) {
        window->ready[window->ready_count] = (uint32_t)window->count;
        window->ready_tokens[window->ready_count] = problem->token_count;
        window->ready_count++;
    }
    window->count++;
}

static int add_row(struct window *window, const struct window_reader *reader, const struct row *row,
                   struct error *err) {
    struct prepared prepared;
    struct window_problem *problem = &window->problems[window->count];
    TRY(prepare_row(reader->preparer, row, &prepared, err));
    if (reader->markup != NULL) {
        markup_look(reader->markup, &prepared);
    }
    *problem = (struct window_problem){.ordinal = prepared.ordinal,
                                       .state = prepared.state,
                                       .id_size = prepared.id_size,
                                       .metadata_size = prepared.metadata_size,
                                       .token_count = (uint32_t)prepared.token_count,
                                       .row_count = (uint32_t)prepared.row_count,
                                       .step_count = (uint32_t)prepared.step_count,
                                       .truncated = prepared.truncated};
    const struct content content = {.id = prepared.id,
                                    .reason = prepared.reason,
                                    .metadata = prepared.metadata,
                                    .tokens = prepared.tokens,
                                    .rows = prepared.rows,
                                    .mask = prepared.loss_mask};
    TRY(store_problem(&window->store, problem, &content, err));
    count_problem(window);
    return STATUS_OK;
}

static int take_rest(struct window *window, struct window_reader *reader, struct error *err) {
    for (size_t i = 0; i < reader->rest_count; i++) {
        TRY(move_problem(&window->store, &reader->rest_store, &reader->rest[i],
                         &window->problems[window->count], err));
        window->end = reader->rest[i].ordinal + 1;
        count_problem(window);
    }
    reader->rest_count = 0;
    store_clear(&reader->rest_store);
    return STATUS_OK;
}

static bool has_all(const struct window *window, const struct plan_limits *limits) {
    return plan_window_ends(limits, window->count, window->store.tokens.size / sizeof(int32_t));
}

static int read_rows(struct window *window, const struct window_reader *reader, bool *end,
                     struct error *err) {
    struct row row;
    *end = false;
    while (!has_all(window, reader->limits)) {
        bool found;
        TRY(source_next(reader->source, &row, &found, err));
        if (!found) {
            *end = true;
            break;
        }
        window->end = row.ordinal + 1;
        if (reader->digest != NULL) {
            TRY(source_digest_row(reader->digest, &row, err));
        }
        if (reader->only == NULL || ledger_retry_has(reader->only, row.ordinal)) {
            TRY(add_row(window, reader, &row, err));
        }
    }
    return STATUS_OK;
}

// Leaves the problems from the text `ready` on to the next window.
static int leave_rest(struct window *window, struct window_reader *reader, size_t ready, struct error *err) {
    size_t count = window->ready[ready];
    for (size_t i = count; i < window->count; i++) {
        TRY(move_problem(&reader->rest_store, &window->store, &window->problems[i],
                         &reader->rest[reader->rest_count], err));
        reader->rest_count++;
    }
    window->end = window->problems[count].ordinal;
    window->count = count;
    window->ready_count = ready;
    return STATUS_OK;
}

// Once the store grows no more.
static void find_ids(struct window *window) {
    for (size_t i = 0; window->ready_ids != NULL && i < window->ready_count; i++) {
        window->ready_ids[i] = window_tokens(window, &window->problems[window->ready[i]]);
    }
}

int window_fill(struct window *window, struct window_reader *reader, bool *end, struct error *err) {
    const struct plan_limits *limits = reader->limits;
    window->count = 0;
    window->ready_count = 0;
    store_clear(&window->store);
    TRY(take_rest(window, reader, err));
    TRY(read_rows(window, reader, end, err));
    find_ids(window);
    if (*end || !limits->full) { // nothing follows that could fill the last batch
        plan_window(&window->plan, limits, window->ready_tokens, window->ready_ids, window->ready_count);
        return STATUS_OK;
    }
    size_t ready =
        plan_full_window(&window->plan, limits, window->ready_tokens, window->ready_ids, window->ready_count);
    return ready < window->ready_count ? leave_rest(window, reader, ready, err) : STATUS_OK;
}

const char *window_text(const struct window *window, size_t at) {
    return window->store.bytes.data + at;
}

const int32_t *window_tokens(const struct window *window, const struct window_problem *problem) {
    return (const int32_t *)(const void *)(window->store.tokens.data + problem->tokens_at);
}

const uint8_t *window_loss_mask(const struct window *window, const struct window_problem *problem) {
    return (const uint8_t *)content_at(&window->store.masks, problem->mask_at);
}

const struct shard_row *window_rows(const struct window *window, const struct window_problem *problem) {
    return (const struct shard_row *)(const void *)(window->store.rows.data + problem->rows_at);
}

size_t window_batch_size(const struct window *window, size_t batch) {
    return window->plan.offset[batch + 1] - window->plan.offset[batch];
}

const struct window_problem *window_batch_problem(const struct window *window, size_t batch, size_t index) {
    uint32_t ready = window->plan.order[window->plan.offset[batch] + index];
    return &window->problems[window->ready[ready]];
}

const struct device_origin *window_batch_origins(const struct window *window, size_t batch) {
    const struct plan *plan = &window->plan;
    for (size_t i = plan->offset[batch]; plan->origins != NULL && i < plan->offset[batch + 1]; i++) {
        if (plan->origins[i].before > 0) {
            return plan->origins + plan->offset[batch];
        }
    }
    return NULL;
}
