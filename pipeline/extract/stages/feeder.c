// SPDX-License-Identifier: MIT
#include "stages/feeder.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/device_texts.h"

// Where tokens [start, end) of text i lie in the packed batch; before it, where the text that computes the
// last of them has the first from another or from the head.
static struct device_span place_span(const struct feeder_buffers *buffers, size_t i, uint64_t start,
                                     uint64_t end, size_t head_tokens) {
    const struct device_texts texts = {.host_starts = buffers->starts, .host_origins = buffers->origins};
    struct texts_run last = texts_run(&texts, i, (size_t)end - 1);
    int32_t behind = (int32_t)last.row + 1 - (last.of_head ? (int32_t)head_tokens : 0);
    return (struct device_span){behind - (int32_t)(end - start), behind};
}

static void copy_origins(const struct work *work, struct feeder_buffers *to, size_t texts) {
    const struct device_origin *origins = window_batch_origins(work->window, work->index);
    for (size_t i = 0; i < texts; i++) {
        to->origins[i] = origins != NULL ? origins[i] : (struct device_origin){DEVICE_HEAD, 0};
    }
}

// Copies what a batch's texts compute one after another and places its spans in the packed batch.
static void pack(struct work *work, struct feeder_buffers *to, const struct plan_limits *limits) {
    const struct window *window = work->window;
    size_t texts = window_batch_size(window, work->index);
    size_t token = 0;
    size_t row = 0;
    copy_origins(work, to, texts);
    for (size_t i = 0; i < texts; i++) {
        const struct window_problem *problem = window_batch_problem(window, work->index, i);
        const struct shard_row *rows = window_rows(window, problem);
        size_t before = (size_t)to->origins[i].before;
        size_t tokens = problem->token_count - before;
        const int32_t *ids = window_tokens(window, problem) + before;
        to->starts[i] = (int32_t)token;
        if (tokens > limits->tokens) { // the batch's only text, and the window stays
            work->batch.ids = ids;
        } else {
            memcpy(to->ids + token, ids, tokens * sizeof *to->ids);
        }
        for (size_t r = 0; r < problem->row_count; r++) {
            to->spans[row++] = place_span(to, i, rows[r].token_start, rows[r].token_end, limits->head_tokens);
        }
        token += tokens;
        work->squared_lengths += (double)tokens * (double)(tokens + 2 * before);
    }
    to->starts[texts] = (int32_t)token;
    work->batch.texts = texts;
    work->batch.tokens = token;
    work->batch.rows = row;
    work->batch.origins = window_batch_origins(window, work->index) != NULL ? to->origins : NULL;
}

static void begin_work(struct feeder *feeder, struct work *work, struct window *window, size_t index) {
    size_t slot = work->batch.slot;
    struct feeder_buffers *buffers = &feeder->buffers[slot];
    *work = (struct work){
        .window = window,
        .index = index,
        .number = window->first_batch + index,
        .first_of_window = index == 0,
        .computes = window->plan.batches > 0,
        .batch = {.ids = buffers->ids, .starts = buffers->starts, .spans = buffers->spans, .slot = slot}};
    if (work->computes) {
        pack(work, buffers, &feeder->limits.plan);
    }
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
        begin_work(feeder, work, window, from + i);
        double now = clock_seconds();
        work->prepare_seconds = now - *since;
        *since = now;
        if (!queue_push(&feeder->ready, work)) {
            return false;
        }
    }
    return true;
}

// A free window; where there is none, after a word to who gathers works. NULL when nobody listens any more.
static struct window *next_window(struct feeder *feeder) {
    void *window;
    if (queue_try_pop(&feeder->free_windows, &window)) {
        return window;
    }
    atomic_store(&feeder->starves, true);
    window = queue_push(&feeder->ready, &feeder->pause) ? queue_pop(&feeder->free_windows) : NULL;
    atomic_store(&feeder->starves, false);
    return window;
}

static int read_all(struct feeder *feeder, bool *listening, struct error *err) {
    uint64_t batch = feeder->start_batch;
    bool end = false;
    double since = clock_seconds();
    *listening = true;
    while (!end && *listening) {
        double waited = clock_seconds();
        struct window *window = next_window(feeder);
        if (window == NULL) {
            *listening = false;
            return STATUS_OK;
        }
        since += clock_seconds() - waited;
        TRY(window_fill(window, &feeder->reader, &end, err));
        if (window->count == 0) {
            break;
        }
        window->first_batch = batch;
        batch += window->plan.batches;
        size_t from =
            feeder->next_batch > window->first_batch ? (size_t)(feeder->next_batch - window->first_batch) : 0;
        *listening = hand_out(feeder, window, from, &since);
    }
    if (*listening && feeder->reader.digest != NULL) {
        TRY(digest_finish(feeder->reader.digest, feeder->problems_sha256, err));
    }
    return STATUS_OK;
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

static int create_buffers(struct feeder_buffers *buffers, const struct feeder_limits *limits,
                          struct error *err) {
    TRY(memory_zeroed(&buffers->ids, limits->tokens, sizeof *buffers->ids, err));
    TRY(memory_zeroed(&buffers->starts, limits->plan.problems + 1, sizeof *buffers->starts, err));
    TRY(memory_zeroed(&buffers->origins, limits->plan.problems, sizeof *buffers->origins, err));
    return memory_zeroed(&buffers->spans, limits->rows, sizeof *buffers->spans, err);
}

static int create_pools(struct feeder *feeder, struct error *err) {
    TRY(window_reader_open(&feeder->reader, err));
    for (size_t i = 0; i < feeder->limits.windows; i++) {
        TRY(window_create(&feeder->windows[i], &feeder->limits.plan, err));
        queue_push(&feeder->free_windows, &feeder->windows[i]);
    }
    void *block;
    TRY(memory_zeroed(&block, feeder->limits.works, sizeof feeder->works[0], err));
    feeder->works = block;
    TRY(memory_zeroed(&block, feeder->limits.works, sizeof feeder->buffers[0], err));
    feeder->buffers = block;
    for (size_t i = 0; i < feeder->limits.works; i++) {
        TRY(create_buffers(&feeder->buffers[i], &feeder->limits, err));
        feeder->works[i].batch.slot = i;
        queue_push(&feeder->free_works, &feeder->works[i]);
    }
    return STATUS_OK;
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
    TRY(create_pools(feeder, err));
    if (position->window <= source_first(source)) {
        TRY(digest_create(&feeder->reader.digest, err));
    } else {
        TRY(source_skip_to(source, position->window, err));
    }
    if (pthread_create(&feeder->thread, NULL, feeder_main, feeder) != 0) {
        return error_set(err, STATUS_INTERNAL, "cannot start the feeder thread");
    }
    feeder->running = true;
    return STATUS_OK;
}

static struct work *hand(struct feeder *feeder, void *work) {
    if (work != NULL && work != &feeder->pause) {
        atomic_fetch_add(&feeder->handed, 1);
    }
    return work;
}

struct work *feeder_next(struct feeder *feeder) {
    return hand(feeder, queue_pop(&feeder->ready));
}

bool feeder_try_next(struct feeder *feeder, struct work **work) {
    void *item;
    bool taken = queue_try_pop(&feeder->ready, &item);
    *work = hand(feeder, item);
    return taken;
}

bool feeder_pauses(const struct feeder *feeder, const struct work *work) {
    return work == &feeder->pause;
}

size_t feeder_handed(const struct feeder *feeder) {
    return atomic_load(&feeder->handed);
}

void feeder_release(struct feeder *feeder, struct work *work) {
    struct window *window = work->window;
    queue_push(&feeder->free_works, work);
    atomic_fetch_sub(&feeder->handed, 1);
    if (atomic_fetch_sub(&window->pending, 1) == 1) {
        queue_push(&feeder->free_windows, window);
    } else if (atomic_load(&feeder->starves)) {
        queue_push(&feeder->ready, &feeder->pause);
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
    for (size_t i = 0; i < feeder->limits.windows; i++) {
        window_destroy(&feeder->windows[i]);
    }
    for (size_t i = 0; feeder->buffers != NULL && i < feeder->limits.works; i++) {
        free(feeder->buffers[i].ids);
        free(feeder->buffers[i].starts);
        free(feeder->buffers[i].origins);
        free(feeder->buffers[i].spans);
    }
    free(feeder->buffers);
    free(feeder->works);
    digest_destroy(feeder->reader.digest);
    window_reader_close(&feeder->reader);
    queue_destroy(&feeder->free_works);
    queue_destroy(&feeder->free_windows);
    queue_destroy(&feeder->ready);
}
