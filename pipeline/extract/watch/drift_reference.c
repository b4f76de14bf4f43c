// SPDX-License-Identifier: MIT
#include "watch/drift_reference.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "watch/drift_cause.h"
#include "watch/profile.h"

bool drift_reference_has_own_time(const struct drift_watch *watch) {
    return watch->canary_time.worked > 0;
}

double drift_reference_judged(const struct drift_watch *watch, struct drift_time time) {
    return drift_reference_has_own_time(watch) && time.worked > 0 ? time.worked : time.wall;
}

double drift_reference_canary(const struct drift_watch *watch) {
    return drift_reference_judged(watch, watch->canary_time);
}

static void scale(struct drift_cost *cost, double by) {
    *cost = (struct drift_cost){by * cost->fixed, by * cost->per_token, by * cost->per_square};
}

// A GPU that is faster now than when the reference was made, with a clock that others had warmed up: what it
// can do is the measure, or one slow-down would be allowed beside another.
static void hasten(struct drift_watch *watch, struct profile *reference, struct drift_time now) {
    scale(&reference->cost, watch->canary_time.wall / reference->canary_seconds);
    reference->canary_seconds = watch->canary_time.wall;
    if (reference->canary_own_seconds > 0) {
        scale(&reference->own_cost, watch->canary_time.worked / reference->canary_own_seconds);
        reference->canary_own_seconds = watch->canary_time.worked;
    }
    double slower = drift_reference_judged(watch, now) / drift_reference_canary(watch);
    if (slower <= 1 || (reference->sm_clock == 0 && slower <= DRIFT_TOLD)) {
        reference->sm_clock = fmax(watch->calibrated.sample.sm_clock, 0);
    }
    watch->calibrated.sample.sm_clock =
        reference->sm_clock > 0 ? (int32_t)reference->sm_clock : DEVICE_UNKNOWN;
}

static void say_slow_start(struct drift_watch *watch, double now, double sm_clock, struct log *log) {
    char clock[128] = "";
    struct device_sample before;
    const struct device_sample *sample = &watch->calibrated.sample;
    double factor = now / drift_reference_canary(watch);
    device_sample_clear(&before);
    before.sm_clock = (int32_t)sm_clock;
    double growth = drift_cause_power_growth(&before, sample);
    if (growth > 0) {
        char reasons[64];
        device_throttle_names(sample->throttle_reasons, reasons, sizeof reasons);
        snprintf(clock, sizeof clock, " (SM clock %" PRId32 " MHz, then %.0f MHz; slowed by: %s)",
                 sample->sm_clock, sm_clock, reasons);
    }
    log_write(log, growth > 0 && factor <= DRIFT_TOLD * growth ? LOG_LEVEL_INFO : LOG_LEVEL_WARN,
              "this launch starts slow: the canary batch takes %.3f s, %.2f times the %.3f s of the stored "
              "calibration, which stays the reference%s",
              now, factor, drift_reference_canary(watch), clock);
}

// The reference of an earlier launch stays; this one's canary must have had the same bits.
static int take_reference(struct drift_watch *watch, const struct canary *canary, struct profile *reference,
                          struct log *log, struct error *err) {
    if (strcmp(reference->canary_sha256, canary->sha256) != 0) {
        return error_set(err, STATUS_DEVICE,
                         "the canary batch gives different bits than when it was first calibrated on this "
                         "device (%.16s..., now %.16s...): the hardware or a library changed; latents of "
                         "this launch would not match those already stored",
                         reference->canary_sha256, canary->sha256);
    }
    struct drift_time now = canary->calibrated;
    watch->canary_time = (struct drift_time){reference->canary_seconds, reference->canary_own_seconds};
    if (drift_reference_judged(watch, now) > DRIFT_TOLD * drift_reference_canary(watch)) {
        say_slow_start(watch, drift_reference_judged(watch, now), reference->sm_clock, log);
        drift_moment_clear(&watch->calibrated); // of the slow start, not of the reference
        watch->calibrated.on_host = canary->on_host;
    }
    watch->canary_time.wall = fmin(watch->canary_time.wall, now.wall);
    // A reference of before the device's own time was known has none.
    watch->canary_time.worked =
        watch->canary_time.worked > 0 ? fmin(watch->canary_time.worked, now.worked) : now.worked;
    if (!canary->on_host) {
        hasten(watch, reference, now);
    }
    watch->cost = reference->cost;
    watch->own_cost = reference->own_cost;
    watch->calibrated.wall_seconds = watch->canary_time.wall;
    watch->calibrated.own_seconds = watch->canary_time.worked;
    return STATUS_OK;
}

// A reference that does not know the device's own time, or that was made when the device was slow, is made
// anew.
static bool serves(const struct profile *reference, const struct canary *canary) {
    double now = canary->calibrated.worked;
    return now > 0 ? reference->canary_own_seconds > 0 && reference->canary_own_seconds < DRIFT_CONFIRM * now
                   : reference->canary_seconds < DRIFT_CONFIRM * canary->calibrated.wall;
}

static int make_reference(struct drift_watch *watch, struct canary *canary, struct profile *reference,
                          struct error *err) {
    TRY(canary_fit(canary, watch->guard, &watch->cost, &watch->own_cost, err));
    *reference = (struct profile){.cost = watch->cost,
                                  .canary_seconds = canary->calibrated.wall,
                                  .own_cost = watch->own_cost,
                                  .canary_own_seconds = canary->calibrated.worked,
                                  .sm_clock = fmax(watch->calibrated.sample.sm_clock, 0)};
    memcpy(reference->canary_sha256, canary->sha256, DIGEST_HEX);
    return STATUS_OK;
}

static int digest_algorithms(struct digest *digest, const struct model *model, struct error *err) {
    struct buffer text = {0};
    int status;
    TRY_TO(done, status = model_algorithms(model, &text, err));
    TRY_TO(done, status = digest_field(digest, text.size > 0 ? text.data : "", text.size, err));
done:
    buffer_destroy(&text);
    return status;
}

// Everything the canary's bits and seconds depend on: device and algorithms of its matmuls, model, layers
// and format of its outputs, its shape.
static int calibration_key(const struct canary *canary, const char *device, char key[PROFILE_KEY],
                           struct error *err) {
    const struct model_limits *limits = &canary->limits;
    struct digest *digest;
    struct device_description description;
    char hex[DIGEST_HEX] = "";
    int status;
    TRY(digest_create(&digest, err));
    model_describe(canary->model, &description);
    TRY_TO(done, status = digest_field(digest, description.identity, strlen(description.identity), err));
    if (description.queues) {
        TRY_TO(done, status = digest_algorithms(digest, canary->model, err));
    }
    for (size_t l = 0; l < limits->layer_count; l++) {
        TRY_TO(done, status = digest_number(digest, limits->layers[l], err));
    }
    const size_t numbers[] = {limits->stored, limits->tokens,  limits->texts,
                              limits->rows,   limits->longest, canary->tokens};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        TRY_TO(done, status = digest_number(digest, numbers[i], err));
    }
    size_t streamed =
        model_streamed(canary->model, model_blocks_wanted(model_config_of(canary->model), limits));
    if (streamed > 0) {
        TRY_TO(done, status = digest_number(digest, streamed, err));
        TRY_TO(done, status = digest_number(digest, limits->group, err));
        TRY_TO(done, status = digest_number(digest, model_placed_at(canary->model), err));
    }
    size_t devices = model_devices(canary->model);
    if (devices > model_lanes(canary->model)) { // they compute a sweep together
        TRY_TO(done, status = digest_number(digest, devices, err));
    }
    TRY_TO(done, status = digest_finish(digest, hex, err));
    snprintf(key, PROFILE_KEY, "%.280s, model %.16s, canary %.16s", device, model_fingerprint(canary->model),
             hex);
done:
    digest_destroy(digest);
    return status;
}

// A file that cannot be read is no reference; the ledger's own must be sound.
static int find_reference(struct profile *reference, const char *key, struct ledger *ledger, const char *path,
                          struct log *log, bool *found, struct error *err) {
    struct error file_err;
    TRY(profile_find(reference, key, ledger, found, err));
    if (!*found && path != NULL &&
        profile_find_in_file(reference, key, path, found, &file_err) != STATUS_OK) {
        log_write(log, LOG_LEVEL_WARN, "run.profile was not read: %s", file_err.message);
        *found = false;
    }
    return STATUS_OK;
}

// A file that cannot be kept costs the next run its reference, not this one its launch.
static int store_reference(const struct profile *reference, const char *key, struct ledger *ledger,
                           const char *path, struct log *log, struct error *err) {
    struct error file_err;
    TRY(profile_store(reference, key, ledger, err));
    if (path != NULL && profile_store_in_file(reference, key, path, &file_err) != STATUS_OK) {
        log_write(log, LOG_LEVEL_WARN, "run.profile was not written: %s", file_err.message);
    }
    return STATUS_OK;
}

// How a launch knows what a batch takes: by an earlier one's calibration, or by its own.
int drift_reference_settle(struct drift_watch *watch, const char *device, struct ledger *ledger,
                           const char *path, struct log *log, struct error *err) {
    char key[PROFILE_KEY];
    struct canary *canary = watch->canary;
    struct profile reference;
    bool found = false;
    bool good = false;
    TRY(calibration_key(canary, device, key, err));
    TRY(find_reference(&reference, key, ledger, path, log, &found, err));
    if (found) {
        good = serves(&reference, canary);
        TRY(take_reference(watch, canary, &reference, log, err));
    }
    if (!good) {
        TRY(make_reference(watch, canary, &reference, err));
    }
    return store_reference(&reference, key, ledger, path, log, err);
}

// A device that is slow from the start is told of, and is judged by what its kind can do.
void drift_reference_join(struct drift_watch *watch, const struct drift_watch *first, struct log *log) {
    struct drift_time now = watch->canary->calibrated;
    watch->canary_time = first->canary_time;
    watch->cost = first->cost;
    watch->own_cost = first->own_cost;
    double factor = drift_reference_judged(watch, now) / drift_reference_canary(watch);
    if (factor > DRIFT_TOLD) {
        log_write(
            log, LOG_LEVEL_WARN,
            "%s starts slow: the canary batch takes %.4f s there, %.2f times the %.4f s of %s, which is "
            "the reference",
            watch->device, drift_reference_judged(watch, now), factor, drift_reference_canary(watch),
            first->device);
        drift_moment_clear(&watch->calibrated);
        watch->calibrated.on_host = watch->canary->on_host;
    }
    watch->calibrated.wall_seconds = watch->canary_time.wall;
    watch->calibrated.own_seconds = watch->canary_time.worked;
}
