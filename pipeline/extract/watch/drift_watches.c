// SPDX-License-Identifier: MIT
#include "watch/drift_watches.h"

#include <string.h>

static int calibrate(struct drift_watches *watches, size_t lane, const struct drift_watches_options *options,
                     struct error *err) {
    struct drift_watch *watch = &watches->lanes[lane];
    struct canary *canary = &watches->canaries[lane];
    TRY(canary_create(canary, options->model, lane, options->limits, err));
    watch->guard = options->guard;
    watch->journal = options->journal;
    watch->stops = options->stops;
    watch->device = model_devices(options->model) > 1 ? model_lane_name(options->model, lane) : "";
    guard_set_device(options->guard, watch->device);
    return lane == 0 ? drift_watch_calibrate(watch, canary, options->journal->ledger, options->device,
                                             options->profile, options->log, err)
                     : drift_watch_join(watch, canary, &watches->lanes[0], options->log, err);
}

int drift_watches_calibrate(struct drift_watches *watches, const struct drift_watches_options *options,
                            struct error *err) {
    watches->count = model_lanes(options->model);
    for (size_t i = 0; i < watches->count; i++) {
        TRY(calibrate(watches, i, options, err));
    }
    return STATUS_OK;
}

const char *drift_watches_state(const struct drift_watches *watches) {
    for (size_t i = 0; i < watches->count; i++) {
        if (strcmp(watches->lanes[i].state, "steady") != 0) {
            return watches->lanes[i].state;
        }
    }
    return watches->lanes[0].state;
}

void drift_watches_end(struct drift_watches *watches) {
    for (size_t i = 0; i < watches->count; i++) {
        drift_watch_end(&watches->lanes[i]);
    }
}

void drift_watches_destroy(struct drift_watches *watches) {
    for (size_t i = 0; i < MODEL_DEVICES; i++) {
        canary_destroy(&watches->canaries[i]);
    }
}
