// SPDX-License-Identifier: MIT
// Which blocks each stage of a chain has: about as many each, so that none waits long for the others. Where a
// stage has no room for its share (the embedding lies with the first, the final norm with the last), blocks
// go to stages that have room.
#include <string.h>

#include "base/size.h"
#include "model/stage.h"

struct sharing {
    const struct model *model;
    const struct model_limits *limits; // NULL: weights alone
    size_t last;
    size_t counts[MODEL_DEVICES]; // blocks of each stage
};

static void list_first(const struct sharing *sharing, size_t *first_block) {
    first_block[0] = 0;
    for (size_t i = 0; i < sharing->model->stage_count; i++) {
        first_block[i + 1] = first_block[i] + sharing->counts[i];
    }
}

// In the device's own memory.
static int check_room(const struct sharing *sharing, size_t index, bool *fits, struct error *err) {
    const struct model *model = sharing->model;
    size_t first_block[MODEL_DEVICES + 1];
    struct device_plan plan = {.tokens = 1};
    struct device_description device;
    struct error refusal;
    list_first(sharing, first_block);
    TRY(stage_plan_weights(model, index, sharing->last, first_block, &plan, err));
    if (sharing->limits != NULL) {
        plan.tokens = sharing->limits->tokens;
        TRY(stage_plan_state(model, index, sharing->limits, first_block, &plan, err));
    }
    device_describe(model->stages[index].device, &device);
    if (device.host_staging) { // that is the same whoever has which block
        plan.bytes[DEVICE_STAGING] = 0;
    }
    int status = device_check_fits(model->stages[index].device, &plan, &refusal);
    *fits = status == STATUS_OK;
    if (status != STATUS_OK && status != STATUS_DEVICE) {
        *err = refusal;
        return status;
    }
    return STATUS_OK;
}

// Of the stages that would have room for one more block, the one with the fewest; `to` is their count where
// there is none.
static int find_room(struct sharing *sharing, size_t from, size_t *to, struct error *err) {
    size_t stages = sharing->model->stage_count;
    *to = stages;
    for (size_t i = 0; i < stages; i++) {
        if (i == from || (*to < stages && sharing->counts[i] >= sharing->counts[*to])) {
            continue;
        }
        bool fits;
        sharing->counts[from]--;
        sharing->counts[i]++;
        int status = check_room(sharing, i, &fits, err);
        sharing->counts[from]++;
        sharing->counts[i]--;
        TRY(status);
        *to = fits ? i : *to;
    }
    return STATUS_OK;
}

// Moves blocks away from a stage until it has room for the others, or nobody for more.
static int relieve(struct sharing *sharing, size_t from, struct error *err) {
    size_t stages = sharing->model->stage_count;
    for (;;) {
        bool fits;
        size_t to = stages;
        TRY(check_room(sharing, from, &fits, err));
        if (!fits && sharing->counts[from] > 1) {
            TRY(find_room(sharing, from, &to, err));
        }
        if (to == stages) {
            return STATUS_OK;
        }
        sharing->counts[from]--;
        sharing->counts[to]++;
    }
}

static int check_chain(const struct model *model, size_t last, struct error *err) {
    if (model->placement.at != MODEL_WEIGHTS_RESIDENT) {
        return error_set(
            err, STATUS_JOB,
            "model.split: layers needs weights that are resident: with model.weights: host or disk "
            "every device takes each block in turn (model.split: batches)");
    }
    if (last < model->stage_count) {
        return error_set(
            err, STATUS_JOB,
            "model.split: layers gives each device blocks of its own, and up to hidden state %zu "
            "there are %zu for %zu devices",
            last, last, model->stage_count);
    }
    return STATUS_OK;
}

int shares_choose(const struct model *model, size_t last, const struct model_limits *limits,
                  size_t *first_block, struct error *err) {
    struct sharing sharing = {.model = model, .limits = limits, .last = last};
    size_t stages = model->stage_count;
    if (!stages_chain(model)) {
        return STATUS_OK;
    }
    TRY(check_chain(model, last, err));
    if (model->is_shared) {
        memcpy(first_block, model->first_block, sizeof model->first_block);
        return STATUS_OK;
    }
    for (size_t i = 0; i < stages; i++) {
        sharing.counts[i] = last * (i + 1) / stages - last * i / stages;
    }
    for (size_t i = 0; i < stages; i++) {
        TRY(relieve(&sharing, i, err));
    }
    list_first(&sharing, first_block);
    return STATUS_OK;
}
