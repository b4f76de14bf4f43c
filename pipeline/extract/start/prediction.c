// SPDX-License-Identifier: MIT
#include "start/prediction.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "model/footprint.h"
#include "model/forecast.h"
#include "watch/drift.h"

#define NOTE "launch.prediction"

// ---- making ----

struct left {
    double tokens;
    double squared_lengths;
    double batches;
};

// A part of the texts is taken for as long as all of them are.
static struct left count_left(const struct prediction_basis *basis) {
    const struct inputs *inputs = basis->inputs;
    const struct ledger_survey *all = inputs->retries ? &inputs->retry.totals : &inputs->survey.totals;
    struct left left = {(double)all->tokens, all->squared_lengths, (double)all->batches};
    if (inputs->retries || all->tokens == 0 || all->batches == 0) {
        return left; // a retry's are those that wait for it
    }
    double tokens = fmax(0, left.tokens - (double)basis->sealed.tokens);
    double unsealed = fmax(0, left.batches - (double)basis->sealed.batches);
    double batches = fmax(0, unsealed - (double)basis->partial);
    tokens *= unsealed > 0 ? batches / unsealed : 0;
    return (struct left){tokens, all->squared_lengths * tokens / left.tokens, batches};
}

// Seconds in which a GPU's streamed blocks come, at the rates that are assumed of its link and of disks.
static int coming_seconds(const struct prediction_basis *basis, size_t streamed, enum forecast_bound *slower,
                          double *seconds, struct error *err) {
    const struct inputs *inputs = basis->inputs;
    const struct device_description *device = &inputs->device;
    size_t last = inputs_blocks(basis->inputs);
    struct footprint footprint;
    const struct card *card = card_find(device->name);
    double link = card_link(card != NULL ? card : card_of_memory(device->memory));
    double copying = 0;
    double reading = 0;
    TRY(footprint_of_model(&footprint, inputs->model, last, inputs->job.dtype, MODEL_QUANTIZE_NONE, err));
    for (size_t i = footprint.blocks - size_min(streamed, footprint.blocks); i < footprint.blocks; i++) {
        copying += (double)footprint.block[i].held / link;
        reading += (double)footprint.block[i].file / FORECAST_DISK_ASSUMED;
    }
    footprint_destroy(&footprint);
    reading = inputs->job.weights == JOB_WEIGHTS_DISK ? reading : 0;
    *slower = reading > copying ? FORECAST_DISK_READS : FORECAST_LINK;
    *seconds = fmax(copying, reading);
    return STATUS_OK;
}

// On a processor what a sweep costs beside its tokens is the reading of its blocks. A GPU's copies go on
// beside what it computes: they are the limit where they take as long as the sweep.
static int find_limit(struct prediction *out, const struct prediction_basis *basis, double sweeps,
                      double loading, struct error *err) {
    size_t blocks = inputs_blocks(basis->inputs);
    size_t streamed = model_streamed(basis->inputs->model, blocks);
    enum forecast_bound bound = FORECAST_COMPUTE;
    if (streamed > 0 && !basis->inputs->device.queues) {
        bound = loading > 0.5 * out->seconds ? FORECAST_DISK_READS : FORECAST_COMPUTE;
    } else if (streamed > 0) {
        enum forecast_bound slower;
        double coming;
        TRY(coming_seconds(basis, streamed, &slower, &coming, err));
        double computing = out->seconds / sweeps * (double)streamed / (double)blocks;
        bound = coming > 0.95 * computing ? slower : FORECAST_COMPUTE;
    }
    snprintf(out->limit, sizeof out->limit, "%s", forecast_bound_name(bound));
    return STATUS_OK;
}

// Of a chain of devices, which compute different batches at a time, the calibration's seconds are those of
// all and its own time that of the slowest.
static struct drift_cost cost_of(const struct prediction_basis *basis, bool streams) {
    struct drift_cost cost = *basis->cost;
    const struct drift_cost *own = basis->own_cost;
    const struct model *model = basis->inputs->model;
    bool is_chain = model_split_of(model) == MODEL_SPLIT_LAYERS && model_devices(model) > 1;
    if (is_chain && own->fixed + own->per_token + own->per_square > 0) {
        return *own;
    }
    if (!basis->inputs->device.queues && own->fixed + own->per_token + own->per_square > 0) {
        cost = (struct drift_cost){streams ? cost.fixed : own->fixed, own->per_token, own->per_square};
    }
    return cost;
}

// Lanes compute side by side, in rounds; none is done before the longest text is.
static double side_by_side(const struct prediction_basis *basis, const struct drift_cost *cost, double sweeps,
                           double seconds) {
    const struct model_limits *limits = basis->limits;
    double lanes = (double)model_lanes(basis->inputs->model);
    double longest = (double)limits->longest;
    double own = (double)model_longest_own(limits);
    double slices = (double)model_batch_members(limits, model_longest_own(limits));
    double rounds = ceil(sweeps / lanes);
    return fmin(seconds, fmax(seconds * rounds / sweeps,
                              drift_predict(cost, slices, own, own * own + 2 * own * (longest - own))));
}

// A text in slices takes the places of several batches.
static double count_sweeps(const struct prediction_basis *basis, const struct left *left) {
    const struct inputs *inputs = basis->inputs;
    const struct survey *survey = inputs->retries ? &inputs->retry : &inputs->survey;
    double group = (double)size_max(model_sweep_batches(inputs->model), 1);
    double batches = (double)size_max(survey->totals.batches, 1);
    return ceil(left->batches * fmax(1, (double)survey->shapes / batches) / group);
}

// Where blocks stream each device computes the head in every sweep, beside the batches.
static double head_seconds(const struct prediction_basis *basis, const struct drift_cost *cost,
                           double sweeps) {
    const struct model_limits *limits = basis->limits;
    double head = (double)limits->head;
    size_t devices = model_sweep_batches(basis->inputs->model) / size_max(limits->group, 1);
    return sweeps * (double)devices * drift_predict(cost, 0, head, head * head);
}

int prediction_make(struct prediction *out, const struct prediction_basis *basis, struct error *err) {
    const struct left left = count_left(basis);
    size_t group = size_max(model_sweep_batches(basis->inputs->model), 1);
    size_t blocks = inputs_blocks(basis->inputs);
    bool streams = model_streamed(basis->inputs->model, blocks) > 0;
    double sweeps = count_sweeps(basis, &left);
    *out = (struct prediction){
        .launch = basis->launch, .tokens = (uint64_t)left.tokens, .group = streams ? group : 0};
    if (left.tokens < 1 || sweeps < 1) {
        return STATUS_OK;
    }
    const struct drift_cost cost = cost_of(basis, streams);
    double loading = streams ? sweeps * cost.fixed : 0;
    out->seconds =
        sweeps * cost.fixed + cost.per_token * left.tokens + cost.per_square * left.squared_lengths;
    out->seconds += streams ? head_seconds(basis, &cost, sweeps) : 0;
    out->seconds = side_by_side(basis, &cost, sweeps, out->seconds);
    out->tokens_per_second = out->seconds > 0 ? left.tokens / out->seconds : 0;
    return find_limit(out, basis, sweeps, loading, err);
}

// ---- in the ledger ----

int prediction_store(const struct prediction *prediction, struct ledger *ledger, struct error *err) {
    json_t *object = json_pack("{s:I, s:I, s:f, s:f, s:I, s:s}", "launch", (json_int_t)prediction->launch,
                               "tokens", (json_int_t)prediction->tokens, "seconds", prediction->seconds,
                               "tokens_per_second", prediction->tokens_per_second, "group",
                               (json_int_t)prediction->group, "limit", prediction->limit);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    int status = text == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for the prediction")
                              : ledger_set_note(ledger, NOTE, text, err);
    free(text);
    json_decref(object);
    return status;
}

static int read_note(struct prediction *out, const json_t *object, struct error *err) {
    const char *limit = "";
    int64_t launch = 0;
    int64_t tokens = 0;
    int64_t group = 0;
    *out = (struct prediction){0};
    TRY(json_get_integer(object, "launch", 0, INT64_MAX, &launch, err));
    TRY(json_get_integer(object, "tokens", 0, INT64_MAX, &tokens, err));
    TRY(json_get_integer(object, "group", 0, INT64_MAX, &group, err));
    TRY(json_get_number(object, "seconds", &out->seconds, err));
    TRY(json_get_number(object, "tokens_per_second", &out->tokens_per_second, err));
    TRY(json_get_string(object, "limit", &limit, err));
    out->launch = (uint64_t)launch;
    out->tokens = (uint64_t)tokens;
    out->group = (uint64_t)group;
    snprintf(out->limit, sizeof out->limit, "%s", limit);
    return STATUS_OK;
}

// What is no such note tells nothing; want of memory is no word on the note.
static int parse_note(struct prediction *out, const struct buffer *text, bool *found, struct error *err) {
    json_t *object = NULL;
    int status = json_parse(&object, text->data, text->size, "the prediction", err);
    if (status == STATUS_OK) {
        status = read_note(out, object, err);
    }
    json_decref(object);
    *found = status == STATUS_OK && out->tokens_per_second > 0;
    return status == STATUS_INTERNAL ? status : STATUS_OK;
}

int prediction_load(struct prediction *out, struct ledger *ledger, bool *found, struct error *err) {
    struct buffer text = {0};
    *out = (struct prediction){0};
    int status = ledger_note(ledger, NOTE, &text, found, err);
    if (status == STATUS_OK && *found) {
        status = parse_note(out, &text, found, err);
    }
    buffer_destroy(&text);
    return status;
}
