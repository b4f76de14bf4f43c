#include "stages/feeder.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

// Copies a batch's texts one after another and places its spans in the packed batch.
static void pack(struct work *work) {
    const struct window *window = work->window;
    size_t token = 0;
    size_t row = 0;
    work->squared_lengths = 0;
    work->texts = window_batch_size(window, work->batch);
    for (size_t i = 0; i < work->texts; i++) {
        const struct window_problem *problem = window_batch_problem(window, work->batch, i);
        const struct shard_row *rows = window_rows(window, problem);
        work->starts[i] = (int32_t)token;
        memcpy(work->ids + token, window_tokens(window, problem), problem->token_count * sizeof *work->ids);
        for (size_t r = 0; r < problem->row_count; r++) {
            work->spans[row++] = (struct device_span){(int32_t)(token + rows[r].token_start),
                                                      (int32_t)(token + rows[r].token_end)};
        }
        token += problem->token_count;
        work->squared_lengths += (double)problem->token_count * problem->token_count;
    }
    work->starts[work->texts] = (int32_t)token;
    work->tokens = token;
    work->rows = row;
}

// Hands out the window's batches from `from` on. False when the runner has stopped listening.
static bool hand_out(struct feeder *feeder, struct window *window, size_t from, double *since) {
    size_t batches = window->plan.batches;
    size_t works = batches == 0 ? 1 : batches - from;
    atomic_store(&window->pending, works);
    for (size_t i = 0; i < works; i++) {
        double waited = clock_seconds();
        struct work *work = queue_pop(&feeder->free_works);
        if (work == NULL) {
            return false;
        }
        *since += clock_seconds() - waited; // waiting for a free work is not preparing
        work->window = window;
        work->batch = from + i;
        work->number = window->first_batch + work->batch;
        work->first_of_window = work->batch == 0;
        work->computes = batches > 0;
        work->wait_seconds = work->compute_seconds = work->predicted_seconds = work->score = 0;
        work->texts = work->tokens = work->rows = 0;
        if (work->computes) {
            pack(work);
        }
        double now = clock_seconds();
        work->prepare_seconds = now - *since;
        *since = now;
        if (!queue_push(&feeder->ready, work)) {
            return false;
        }
    }
    return true;
}

static int read_all(struct feeder *feeder, bool *listening, struct error *err) {
    uint64_t batch = feeder->start_batch;
    bool end = false;
    double since = clock_seconds();
    int status = STATUS_OK;
    *listening = true;
    while (status == STATUS_OK && !end && *listening) {
        double waited = clock_seconds();
        struct window *window = queue_pop(&feeder->free_windows);
        if (window == NULL) {
            *listening = false;
            break;
        }
        since += clock_seconds() - waited;
        status = window_fill(window, &feeder->reader, &end, err);
        if (status != STATUS_OK || window->count == 0) {
            break;
        }
        window->first_batch = batch;
        batch += window->plan.batches;
        size_t from =
            feeder->next_batch > window->first_batch ? (size_t)(feeder->next_batch - window->first_batch) : 0;
        *listening = hand_out(feeder, window, from, &since);
    }
    if (status == STATUS_OK && *listening && feeder->reader.digest != NULL) {
        status = digest_finish(feeder->reader.digest, feeder->problems_sha256, err);
    }
    return status;
}

static void *feeder_main(void *context) {
    struct feeder *feeder = context;
    bool listening;
    feeder->status = read_all(feeder, &listening, &feeder->err);
    if (feeder->status == STATUS_OK && !listening) {
        feeder->status = STATUS_STOPPED;
    }
    queue_close(&feeder->ready);
    return NULL;
}

static int create_work(struct work *work, const struct feeder_limits *limits, size_t slot,
                       struct error *err) {
    work->slot = slot;
    int status = memory_zeroed((void **)&work->ids, limits->tokens, sizeof *work->ids, err);
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&work->starts, limits->plan.problems + 1, sizeof *work->starts, err);
    }
    if (status == STATUS_OK) {
        status = memory_zeroed((void **)&work->spans, limits->rows, sizeof *work->spans, err);
    }
    return status;
}

static int create_pools(struct feeder *feeder, struct error *err) {
    int status = window_reader_open(&feeder->reader, err);
    for (size_t i = 0; status == STATUS_OK && i < FEEDER_WINDOWS; i++) {
        status = window_create(&feeder->windows[i], &feeder->limits.plan, err);
        queue_push(&feeder->free_windows, &feeder->windows[i]);
    }
    for (size_t i = 0; status == STATUS_OK && i < feeder->limits.works; i++) {
        status = create_work(&feeder->works[i], &feeder->limits, i, err);
        queue_push(&feeder->free_works, &feeder->works[i]);
    }
    return status;
}

int feeder_start(struct feeder *feeder, const struct feeder_limits *limits, struct source *source,
                 struct preparer *preparer, const struct ledger_retry *only,
                 const struct ledger_position *position, struct error *err) {
    *feeder =
        (struct feeder){.limits = *limits, .reader = {.source = source, .preparer = preparer, .only = only}};
    feeder->reader.limits = &feeder->limits.plan;
    feeder->start_row = position->window;
    feeder->start_batch = position->window_batch;
    feeder->next_batch = position->batches;
    queue_open(&feeder->free_works);
    queue_open(&feeder->free_windows);
    queue_open(&feeder->ready);
    int status = create_pools(feeder, err);
    if (status == STATUS_OK && position->window == 0) {
        status = digest_create(&feeder->reader.digest, err);
    }
    if (status == STATUS_OK && position->window > 0) {
        status = source_skip_to(source, position->window, err);
    }
    if (status == STATUS_OK && pthread_create(&feeder->thread, NULL, feeder_main, feeder) != 0) {
        status = error_set(err, STATUS_INTERNAL, "cannot start the feeder thread");
    }
    feeder->running = status == STATUS_OK;
    return status;
}

struct work *feeder_next(struct feeder *feeder) {
    return queue_pop(&feeder->ready);
}

bool feeder_try_next(struct feeder *feeder, struct work **work) {
    void *item;
    bool taken = queue_try_pop(&feeder->ready, &item);
    *work = item;
    return taken;
}

void feeder_release(struct feeder *feeder, struct work *work) {
    struct window *window = work->window;
    queue_push(&feeder->free_works, work);
    if (atomic_fetch_sub(&window->pending, 1) == 1) {
        queue_push(&feeder->free_windows, window);
    }
}

int feeder_finish(struct feeder *feeder, bool *complete, struct error *err) {
    *complete = false;
    if (!feeder->running) {
        return STATUS_OK;
    }
    queue_close(&feeder->free_works);
    queue_close(&feeder->free_windows);
    queue_close(&feeder->ready);
    pthread_join(feeder->thread, NULL);
    feeder->running = false;
    if (feeder->status == STATUS_OK) {
        *complete = true;
        return STATUS_OK;
    }
    if (feeder->status == STATUS_STOPPED) {
        return STATUS_OK;
    }
    *err = feeder->err;
    return feeder->status;
}

void feeder_destroy(struct feeder *feeder) {
    for (size_t i = 0; i < FEEDER_WINDOWS; i++) {
        window_destroy(&feeder->windows[i]);
    }
    for (size_t i = 0; i < FEEDER_WORKS; i++) {
        free(feeder->works[i].ids);
        free(feeder->works[i].starts);
        free(feeder->works[i].spans);
    }
    digest_destroy(feeder->reader.digest);
    window_reader_close(&feeder->reader);
    queue_destroy(&feeder->free_works);
    queue_destroy(&feeder->free_windows);
    queue_destroy(&feeder->ready);
}
