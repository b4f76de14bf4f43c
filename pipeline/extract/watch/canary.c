// SPDX-License-Identifier: MIT
#include "watch/canary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"

// On processors: operations of a canary, seconds of a timed shape and of all its runs.
#define CANARY_FLOPS 6e10
#define SHAPE_SECONDS 1.5
#define RUNS_SECONDS 3.0
#define SQUARE_SLOWER 1.5 // operations on pairs of tokens are slower than matmuls with weights

enum {
    CANARY_SEED = 20240607,
    SHORT_TEXT = 64, // tokens
    TINY_BATCH = 16,
    LONG_SLICES = 4, // of the long text that a GPU is timed with, where there are texts longer than a batch
};

// Batches that are run at a time. Where weights come for every sweep, a device that queues has them come
// while it computes: only a whole sweep tells what it costs. Elsewhere loading adds to the time of any batch.
static size_t copies(const struct canary *canary) {
    return canary->on_host ? 1 : model_sweep_batches(canary->model);
}

// Of a batch: a long text takes as much of a sweep, on whichever of its devices, as several others.
static size_t copies_of(const struct canary *canary, const struct model_batch *batch) {
    const struct model_limits *limits = &canary->limits;
    size_t group = size_max(limits->group, 1);
    size_t devices = size_max(copies(canary) / group, 1);
    size_t each = size_max(limits->members, group) / model_batch_members(limits, batch->tokens);
    return size_max(1, size_min(copies(canary), devices * each));
}

// Outputs of its own: the batches of the run may still be read from the others.
static size_t own_slot(const struct canary *canary) {
    return canary->limits.slots - copies(canary);
}

int canary_create(struct canary *canary, struct model *model, size_t lane, const struct model_limits *limits,
                  struct error *err) {
    struct device_description device;
    *canary = (struct canary){.model = model, .lane = lane, .limits = *limits};
    model_describe(model, &device);
    canary->on_host = !device.queues;
    canary->streams = model_streamed(model, model_blocks_wanted(model_config_of(model), limits)) > 0;
    canary->vocabulary = model_config_of(model)->vocabulary;
    void *block;
    TRY(memory_zeroed(&block, copies(canary), sizeof *canary->copies, err));
    canary->copies = block;
    TRY(memory_zeroed(&block, copies(canary), sizeof *canary->sweep, err));
    canary->sweep = block;
    TRY(memory_zeroed(&canary->ids, size_max(limits->tokens, model_longest_own(limits)), sizeof *canary->ids,
                      err));
    TRY(memory_zeroed(&canary->starts, limits->texts + 1, sizeof *canary->starts, err));
    return memory_zeroed(&canary->spans, limits->rows, sizeof *canary->spans, err);
}

void canary_destroy(struct canary *canary) {
    free(canary->sweep);
    free(canary->copies);
    free(canary->ids);
    free(canary->starts);
    free(canary->spans);
}

// A batch of up to `tokens` tokens in texts of `length`, one pooled row a text, as the limits allow: of
// several texts, or of one that is longer than a batch.
static struct model_batch shape(struct canary *canary, size_t tokens, size_t length) {
    const struct model_limits *limits = &canary->limits;
    uint64_t state = CANARY_SEED;
    tokens = size_min(tokens, size_max(limits->tokens, size_min(length, model_longest_own(limits))));
    length = size_max(size_min(size_min(length, model_longest_own(limits)), tokens), 1);
    size_t texts = size_max(size_min(size_min(tokens / length, limits->texts), limits->rows), 1);
    for (size_t t = 0; t < texts; t++) {
        canary->starts[t] = (int32_t)(t * length);
        canary->spans[t] = (struct device_span){(int32_t)(t * length), (int32_t)((t + 1) * length)};
    }
    canary->starts[texts] = (int32_t)(texts * length);
    for (size_t i = 0; i < texts * length; i++) {
        canary->ids[i] = (int32_t)random_below(&state, canary->vocabulary);
    }
    return (struct model_batch){.ids = canary->ids,
                                .starts = canary->starts,
                                .spans = canary->spans,
                                .tokens = texts * length,
                                .texts = texts,
                                .rows = texts,
                                .slot = own_slot(canary)};
}

static int sweep(struct canary *canary, const struct model_batch *batch, struct error *err) {
    size_t count = copies_of(canary, batch);
    for (size_t i = 0; i < count; i++) {
        canary->copies[i] = *batch;
        canary->copies[i].slot += i;
        canary->sweep[i] = &canary->copies[i];
    }
    return model_sweep(canary->model, canary->lane, canary->sweep, count, err);
}

static int run_once(struct canary *canary, const struct model_batch *batch, struct drift_time *time,
                    double *queueing, struct error *err) {
    struct device_times times = {0};
    double began = clock_seconds();
    int status = sweep(canary, batch, err);
    *queueing = clock_seconds() - began;
    if (status == STATUS_OK) {
        status = model_wait(canary->model, batch->slot, &times, err);
    }
    time->wall = clock_seconds() - began;
    time->worked = canary->on_host ? times.worked_seconds : times.compute_seconds;
    if (canary->guard != NULL) {
        guard_goes_on(canary->guard);
    }
    return status;
}

// The fastest by each clock. On processors long runs are few: their own time tells enough, and where blocks
// come for every run all of it counts. A whole sweep of a group is run once: it is long, and averages over
// its batches.
static int run_fastest(struct canary *canary, const struct model_batch *batch, struct drift_time *fastest,
                       struct error *err) {
    double spent = 0;
    int runs = copies(canary) > 1 ? 1 : CANARY_RUNS;
    for (int run = 0; run < runs && !(canary->on_host && spent > RUNS_SECONDS); run++) {
        struct drift_time once;
        double queueing;
        TRY(run_once(canary, batch, &once, &queueing, err));
        spent += canary->streams ? once.wall : once.worked;
        canary->queueing = run == 0 ? queueing : fmin(canary->queueing, queueing);
        fastest->wall = run == 0 ? once.wall : fmin(fastest->wall, once.wall);
        fastest->worked = run == 0 ? once.worked : fmin(fastest->worked, once.worked);
    }
    return STATUS_OK;
}

static int hash_slot(struct canary *canary, const struct model_batch *batch, size_t slot,
                     char hex[DIGEST_HEX], struct error *err) {
    struct model_output output;
    struct digest *digest;
    int status;
    TRY(digest_create(&digest, err));
    model_outputs(canary->model, slot, &output);
    size_t bytes = batch->rows * model_config_of(canary->model)->hidden * dtype_size(canary->limits.stored);
    for (size_t l = 0; l < canary->limits.layer_count; l++) {
        TRY_TO(done, status = digest_field(digest, output.rows[l], bytes, err));
    }
    status = digest_finish(digest, hex, err);
done:
    digest_destroy(digest);
    return status;
}

// Devices that compute a sweep together have batches of their own in it: all must come out alike.
static int hash_outputs(struct canary *canary, const struct model_batch *batch, char hex[DIGEST_HEX],
                        struct error *err) {
    TRY(hash_slot(canary, batch, batch->slot, hex, err));
    for (size_t i = 1; model_devices(canary->model) > 1 && i < copies_of(canary, batch); i++) {
        char other[DIGEST_HEX];
        TRY(hash_slot(canary, batch, batch->slot + i, other, err));
        if (strcmp(hex, other) != 0) {
            return error_set(err, STATUS_DEVICE,
                             "the canary batch gives different bits on the devices %s: one of them computes "
                             "wrong results",
                             model_lane_name(canary->model, canary->lane));
        }
    }
    return STATUS_OK;
}

static double flops(const struct canary *canary, size_t tokens, double squared_lengths) {
    size_t blocks = model_blocks_wanted(model_config_of(canary->model), &canary->limits);
    return model_flops(canary->model, blocks, tokens, squared_lengths);
}

// On a CPU time grows evenly, so an eighth of the budget tells enough; a GPU is timed at the sizes it will
// run.
static size_t calibration_tokens(const struct canary *canary) {
    size_t budget = canary->limits.tokens;
    return canary->on_host ? size_min(budget, size_max(budget / 8, 4 * SHORT_TEXT)) : budget;
}

// By what the model is and not by how fast it ran: another launch's canary must be the same.
static size_t canary_tokens(const struct canary *canary) {
    size_t tokens = size_max(calibration_tokens(canary) / 2, 1);
    double each = flops(canary, 1, 1);
    if (!canary->on_host || each * (double)tokens <= CANARY_FLOPS) {
        return tokens;
    }
    return size_min(tokens, size_max((size_t)(CANARY_FLOPS / each), TINY_BATCH));
}

static int calibrate(struct canary *canary, struct error *err) {
    struct drift_time warm;
    double queueing;
    canary->tokens = canary_tokens(canary);
    struct model_batch batch = shape(canary, canary->tokens, SHORT_TEXT);
    TRY(run_once(canary, &batch, &warm, &queueing, err)); // first touch of every buffer
    TRY(run_fastest(canary, &batch, &canary->calibrated, err));
    canary->last = canary->calibrated;
    return hash_outputs(canary, &batch, canary->sha256, err);
}

int canary_calibrate(struct canary *canary, struct guard *guard, struct error *err) {
    canary->guard = guard;
    int status = calibrate(canary, err);
    canary->guard = NULL;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "calibration");
}

// ---- what a batch costs ----

struct shapes { // a tiny batch, many short texts, one long text
    struct drift_sample by_wall[3];
    struct drift_sample by_own[3];
};

static struct model_batch put_shape(struct canary *canary, struct shapes *shapes, size_t i, size_t tokens,
                                    size_t length) {
    struct model_batch batch = shape(canary, tokens, length);
    double each = (double)batch.tokens / (double)batch.texts;
    double times = (double)copies_of(canary, &batch);
    shapes->by_wall[i] = (struct drift_sample){.tokens = times * (double)batch.tokens,
                                               .squared_lengths = times * (double)batch.texts * each * each};
    shapes->by_own[i] = shapes->by_wall[i];
    return batch;
}

static int time_shape(struct canary *canary, struct shapes *shapes, size_t i, size_t tokens, size_t length,
                      struct error *err) {
    struct drift_time fastest = canary->calibrated;
    struct model_batch batch = put_shape(canary, shapes, i, tokens, length);
    bool known = batch.tokens == canary->tokens && batch.texts == 1 && batch.tokens <= SHORT_TEXT;
    if (!known) { // it is not the canary itself
        TRY(run_fastest(canary, &batch, &fastest, err));
    }
    shapes->by_wall[i].seconds = fastest.wall;
    shapes->by_own[i].seconds = fastest.worked;
    return STATUS_OK;
}

// Tokens of the shapes: on processors as many as take SHAPE_SECONDS at the canary's rate.
static size_t shape_tokens(const struct canary *canary) {
    size_t tokens = calibration_tokens(canary);
    if (!canary->on_host) {
        return tokens;
    }
    double timely = SHAPE_SECONDS * (double)canary->tokens / fmax(canary->calibrated.worked, 1e-9);
    return timely < (double)tokens ? size_min(tokens, size_max((size_t)timely, 4 * TINY_BATCH)) : tokens;
}

// Seconds of a squared token as operations count it; 0 on a GPU, which runs texts long enough to measure it.
static double guess_square(const struct canary *canary, const struct drift_sample *flat) {
    double square = flops(canary, 1, 1e6) - flops(canary, 1, 0);
    double all = flops(canary, (size_t)flat->tokens, flat->squared_lengths);
    return canary->on_host && all > 0 ? SQUARE_SLOWER * 1e-6 * square / all * flat->seconds : 0;
}

// Tokens of the long text. Texts behind a head attend to more tokens than they have: this one stands for
// them, as it may be as long as the head is, and a pair of tokens takes as long in both. Where there are
// texts longer than a batch, most of the time of one may go to its pairs of tokens: then one of them is
// timed, on processors as long as SHAPE_SECONDS allow.
static size_t tall_tokens(const struct canary *canary, const struct drift_sample *flat, size_t tokens) {
    const struct model_limits *limits = &canary->limits;
    if (model_longest_own(limits) <= limits->tokens) {
        return tokens;
    }
    if (!canary->on_host) {
        return size_min(model_longest_own(limits), LONG_SLICES * limits->tokens);
    }
    double per_token = flat->seconds / flat->tokens;
    double per_square = guess_square(canary, flat);
    size_t tall = tokens;
    for (double next = 2.0 * (double)tall; next <= (double)model_longest_own(limits); next *= 2) {
        if (next * (per_token + per_square * next) > SHAPE_SECONDS) {
            break;
        }
        tall = (size_t)next;
    }
    return tall;
}

static int fit(struct canary *canary, struct drift_cost *cost, struct drift_cost *own_cost,
               struct error *err) {
    struct shapes shapes;
    size_t tokens = shape_tokens(canary);
    TRY(time_shape(canary, &shapes, 0, TINY_BATCH, TINY_BATCH, err));
    TRY(time_shape(canary, &shapes, 1, tokens, SHORT_TEXT, err));
    tokens = tall_tokens(canary, &shapes.by_own[1], tokens);
    put_shape(canary, &shapes, 2, tokens, tokens);
    if (drift_tells_square(&shapes.by_wall[1], &shapes.by_wall[2],
                           guess_square(canary, &shapes.by_wall[1]))) {
        TRY(time_shape(canary, &shapes, 2, tokens, tokens, err));
    }
    drift_fit(cost, shapes.by_wall, guess_square(canary, &shapes.by_wall[1]));
    *own_cost = (struct drift_cost){0};
    if (canary->calibrated.worked > 0) {
        drift_fit(own_cost, shapes.by_own, guess_square(canary, &shapes.by_own[1]));
    }
    return STATUS_OK;
}

int canary_fit(struct canary *canary, struct guard *guard, struct drift_cost *cost,
               struct drift_cost *own_cost, struct error *err) {
    canary->guard = guard;
    int status = fit(canary, cost, own_cost, err);
    canary->guard = NULL;
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "calibration");
}

int canary_run(struct canary *canary, bool *same, struct error *err) {
    char hex[DIGEST_HEX];
    struct model_batch batch = shape(canary, canary->tokens, SHORT_TEXT);
    int status;
    TRY_TO(done, status = run_fastest(canary, &batch, &canary->last, err));
    TRY_TO(done, status = hash_outputs(canary, &batch, hex, err));
    *same = strcmp(hex, canary->sha256) == 0;
done:
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "canary");
}
