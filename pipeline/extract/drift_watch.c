#include "extract/drift_watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "extract/measure.h"
#include "extract/profile.h"
#include "extract/telemetry.h"

// ---- what is seen at a moment ----

struct moment {
    struct drift_host before;
    double began;
};

static struct moment begin_moment(void) {
    struct moment moment = {.began = clock_seconds()};
    drift_host_read(&moment.before);
    return moment;
}

// All but the device's sample.
static void end_moment(const struct moment *moment, const struct canary *canary, double wall_seconds,
                       struct drift_moment *out) {
    double elapsed = clock_seconds() - moment->began;
    struct device_sample sample = out->sample;
    drift_moment_clear(out);
    out->sample = sample;
    out->wall_seconds = wall_seconds;
    out->device_seconds = canary->device_seconds;
    drift_host_read(&out->host);
    if (moment->before.quota >= 0 && out->host.quota >= 0 && elapsed > 0) {
        out->quota_share = (out->host.quota - moment->before.quota) / elapsed;
    }
}

// ---- calibration ----

// The reference of an earlier launch wins when this one begins much slower; its canary must have had the same
// bits.
static int compare_reference(struct drift_watch *watch, const struct canary *canary,
                             const struct profile *reference, struct log *log, struct error *err) {
    if (strcmp(reference->canary_sha256, canary->sha256) != 0) {
        return error_set(
            err, STATUS_DEVICE,
            "the canary batch gives other bits than when it was first calibrated on this device (%.16s..., "
            "now %.16s...): "
            "the hardware or a library changed; latents of this launch would not match those already stored",
            reference->canary_sha256, canary->sha256);
    }
    watch->canary_seconds = fmin(reference->canary_seconds, canary->seconds);
    if (canary->seconds > DRIFT_CONFIRM * reference->canary_seconds) {
        watch->cost = reference->cost;
        drift_moment_clear(&watch->calibrated); // of the slow start, not of the reference
        watch->calibrated.wall_seconds = watch->canary_seconds;
        log_write(log, LOG_LEVEL_WARN,
                  "this launch begins slow: the canary batch takes %.3f s, it took %.3f s at the stored "
                  "calibration, which stays the reference",
                  canary->seconds, reference->canary_seconds);
    }
    return STATUS_OK;
}

static int digest_algorithms(struct digest *digest, const struct device *device, struct error *err) {
    struct buffer text = {0};
    int status = device_algorithms(device, &text, err);
    if (status == STATUS_OK) {
        status = digest_field(digest, text.size > 0 ? text.data : "", text.size, err);
    }
    buffer_destroy(&text);
    return status;
}

// Everything the canary's bits and seconds depend on: device and algorithms of its products, model, layers
// and format of its outputs, its shape.
static int calibration_key(const struct canary *canary, const char *device, char key[PROFILE_KEY],
                           struct error *err) {
    const struct model_limits *limits = &canary->limits;
    struct digest *digest;
    struct device_description description;
    char hex[DIGEST_HEX] = "";
    int status = digest_create(&digest, err);
    if (status != STATUS_OK) {
        return status;
    }
    device_describe(canary->device, &description);
    status = digest_field(digest, description.identity, strlen(description.identity), err);
    if (status == STATUS_OK && description.queues) {
        status = digest_algorithms(digest, canary->device, err);
    }
    for (size_t l = 0; status == STATUS_OK && l < limits->layer_count; l++) {
        status = digest_number(digest, limits->layers[l], err);
    }
    const size_t numbers[] = {limits->out_dtype, limits->tokens,  limits->texts,
                              limits->rows,      limits->longest, canary->tokens};
    for (size_t i = 0; status == STATUS_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        status = digest_number(digest, numbers[i], err);
    }
    if (status == STATUS_OK) {
        status = digest_finish(digest, hex, err);
    }
    digest_destroy(digest);
    snprintf(key, PROFILE_KEY, "%.280s, model %.16s, canary %.16s", device, model_fingerprint(canary->model),
             hex);
    return status;
}

// A file that cannot be read is no reference; the ledger's own must be sound.
static int find_reference(struct profile *reference, const char *key, struct ledger *ledger, const char *path,
                          struct log *log, bool *found, struct error *err) {
    struct error file_err;
    int status = profile_find(reference, key, ledger, found, err);
    if (status == STATUS_OK && !*found && path != NULL &&
        profile_find_in_file(reference, key, path, found, &file_err) != STATUS_OK) {
        log_write(log, LOG_LEVEL_WARN, "run.profile was not read: %s", file_err.message);
        *found = false;
    }
    return status;
}

// A file that cannot be kept costs the next run its reference, not this one its launch.
static int store_reference(const struct profile *reference, const char *key, struct ledger *ledger,
                           const char *path, struct log *log, struct error *err) {
    struct error file_err;
    int status = profile_store(reference, key, ledger, err);
    if (status == STATUS_OK && path != NULL &&
        profile_store_in_file(reference, key, path, &file_err) != STATUS_OK) {
        log_write(log, LOG_LEVEL_WARN, "run.profile was not written: %s", file_err.message);
    }
    return status;
}

int drift_watch_calibrate(struct drift_watch *watch, struct canary *canary, struct ledger *ledger,
                          const char *device, const char *profile_path, struct log *log, struct error *err) {
    struct profile reference;
    bool found = false;
    char key[PROFILE_KEY];
    drift_start(&watch->detector);
    watch->state = "steady";
    watch->canary = canary;
    struct moment moment = begin_moment();
    int status = canary_calibrate(canary, watch->guard, &watch->cost, err);
    if (status != STATUS_OK) {
        return status;
    }
    watch->canary_seconds = canary->seconds;
    end_moment(&moment, canary, canary->seconds, &watch->calibrated);
    device_sample(canary->device, &watch->calibrated.sample);
    status = calibration_key(canary, device, key, err);
    if (status == STATUS_OK) {
        status = find_reference(&reference, key, ledger, profile_path, log, &found, err);
    }
    if (status == STATUS_OK && found) {
        status = compare_reference(watch, canary, &reference, log, err);
    } else if (status == STATUS_OK) {
        reference = (struct profile){.cost = watch->cost, .canary_seconds = canary->seconds};
        memcpy(reference.canary_sha256, canary->sha256, DIGEST_HEX);
    }
    if (status == STATUS_OK) {
        status = store_reference(&reference, key, ledger, profile_path, log, err);
    }
    if (status == STATUS_OK) {
        log_write(
            log, LOG_LEVEL_INFO,
            "calibrated: a batch takes %.4f s + %.3f us a token + %.3f ns a squared token; canary %.4f s",
            watch->cost.fixed, 1e6 * watch->cost.per_token, 1e9 * watch->cost.per_square,
            watch->canary_seconds);
    }
    return status;
}

// ---- evidence ----

static void add_file(json_t *object, const char *key, const char *path) {
    struct buffer text = {0};
    struct error ignored;
    if (file_read(&text, path, 4096, &ignored) == STATUS_OK && text.size > 0) {
        while (text.size > 0 && text.data[text.size - 1] == '\n') {
            text.size--;
        }
        json_object_set_new(object, key, json_stringn(text.data, text.size));
    }
    buffer_destroy(&text);
}

static json_t *history_json(const struct drift_watch *watch) {
    json_t *list = json_array();
    size_t count = watch->seen < DRIFT_WATCH_HISTORY ? watch->seen : DRIFT_WATCH_HISTORY;
    for (size_t i = watch->seen - count; i < watch->seen; i++) {
        size_t at = i % DRIFT_WATCH_HISTORY;
        json_array_append_new(list,
                              json_pack("{s:I, s:f, s:f, s:f}", "batch", (json_int_t)watch->history[at].batch,
                                        "seconds", watch->history[at].seconds, "predicted_seconds",
                                        watch->history[at].predicted, "score", watch->history[at].score));
    }
    return list;
}

static json_t *moment_json(const struct drift_moment *moment) {
    const struct device_times times = {.compute_seconds = moment->device_seconds};
    return telemetry_json(&moment->sample, &times);
}

struct reason {
    enum drift_cause cause;
    char text[DRIFT_CAUSE_TEXT];
};

// The batch's sample was taken while the device was at work, but it may be a second old; the one of now sees
// the canary, or the pause after it. The first that shows a cause counts.
static void find_cause(struct drift_watch *watch, struct reason *out) {
    struct device_residency residency;
    device_residency(watch->canary->device, &residency);
    uint64_t model_bytes = residency.taken[DEVICE_WEIGHTS];
    out->cause = drift_cause_find(&watch->calibrated, &watch->present, model_bytes, out->text);
    if (out->cause == DRIFT_CAUSE_UNKNOWN) {
        struct drift_moment now = watch->present;
        device_sample(watch->canary->device, &now.sample);
        out->cause = drift_cause_find(&watch->calibrated, &now, model_bytes, out->text);
        watch->present = out->cause == DRIFT_CAUSE_UNKNOWN ? watch->present : now;
    }
}

// What was seen, as one JSON object: timings, canary runs, the cause, the device, memory, and what the system
// says of its load and pressure.
static void record_evidence(struct drift_watch *watch, const char *verdict, double first, double second,
                            const struct reason *reason, enum log_level level) {
    json_t *object = json_pack("{s:s, s:f, s:f, s:f, s:o}", "verdict", verdict, "canary_calibrated_seconds",
                               watch->canary_seconds, "canary_seconds", first, "canary_again_seconds", second,
                               "batches", history_json(watch));
    if (reason != NULL) {
        json_object_set_new(object, "cause", json_string(drift_cause_name(reason->cause)));
        json_object_set_new(object, "cause_text", json_string(reason->text));
    }
    json_object_set_new(object, "device_calibrated", moment_json(&watch->calibrated));
    json_object_set_new(object, "device", moment_json(&watch->present));
    json_object_set_new(object, "memory_bytes", json_integer((json_int_t)measure_memory()));
    add_file(object, "load", "/proc/loadavg");
    add_file(object, "pressure_cpu", "/proc/pressure/cpu");
    add_file(object, "pressure_memory", "/proc/pressure/memory");
    add_file(object, "pressure_io", "/proc/pressure/io");
    add_file(object, "cpu_quota", "/sys/fs/cgroup/cpu.stat");
    char *text = json_dumps(object, JSON_COMPACT);
    char line[256 + DRIFT_CAUSE_TEXT];
    int length =
        snprintf(line, sizeof line, "%s: the canary batch took %.4f s and %.4f s, %.4f s when calibrated",
                 verdict, first, second, watch->canary_seconds);
    if (reason != NULL) {
        snprintf(line + length, sizeof line - (size_t)length, "; %s: %s (evidence: strata log DIR --events)",
                 drift_cause_name(reason->cause), reason->text);
    }
    writer_evidence(watch->writer, level, strcmp(verdict, "cleared") == 0 ? "canary" : "drift", line,
                    text == NULL ? verdict : text);
    free(text);
    json_decref(object);
}

// ---- judging ----

static int check_bits(struct drift_watch *watch, bool same, struct error *err) {
    if (same) {
        return STATUS_OK;
    }
    writer_event(watch->writer, LOG_LEVEL_ERROR, "device",
                 "the canary batch gave other bits than at calibration");
    return error_set(
        err, STATUS_DEVICE,
        "the canary batch gave other bits than at calibration: the device computes wrong results");
}

// The guard watches the canary as it watches a batch: a device may hang in either.
static int run_canary(struct drift_watch *watch, uint64_t batch, double *seconds, struct error *err) {
    bool same = false;
    struct moment moment = begin_moment();
    guard_canary_begins(watch->guard, batch, CANARY_RUNS * watch->canary_seconds);
    int status = canary_run(watch->canary, seconds, &same, err);
    guard_batch_ends(watch->guard);
    end_moment(&moment, watch->canary, *seconds, &watch->present);
    return status == STATUS_OK ? check_bits(watch, same, err) : status;
}

// The pause before the second run relieves the host: what it said after the first, which the slow batches
// preceded, counts too.
static void keep_worst(struct drift_moment *moment, const struct drift_moment *before) {
    moment->host.cpu = fmax(moment->host.cpu, before->host.cpu);
    moment->host.memory = fmax(moment->host.memory, before->host.memory);
    moment->host.io = fmax(moment->host.io, before->host.io);
    moment->quota_share = fmax(moment->quota_share, before->quota_share);
}

static int follow_suspicion(struct drift_watch *watch, uint64_t batch, double batch_seconds, double score,
                            struct error *err) {
    double first;
    double second;
    struct reason reason;
    watch->state = "suspect";
    writer_live(watch->writer, NULL, watch->state, score, -1, true);
    int status = run_canary(watch, batch, &first, err);
    second = first;
    if (status == STATUS_OK && first > DRIFT_CONFIRM * watch->canary_seconds) {
        guard_sleep(watch->guard, drift_pause(batch_seconds));
        if (guard_stop_requested(watch->guard)) {
            return STATUS_OK; // no verdict: the pause was cut short, and the run ends anyway
        }
        struct drift_moment at_first = watch->present;
        status = run_canary(watch, batch, &second, err);
        keep_worst(&watch->present, &at_first);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (!drift_confirmed(watch->canary_seconds, first, second)) {
        record_evidence(watch, "cleared", first, second, NULL, LOG_LEVEL_INFO);
        drift_cleared(&watch->detector);
        watch->state = "steady";
        return STATUS_OK;
    }
    find_cause(watch, &reason);
    record_evidence(watch, watch->stops ? "stopped" : "slow", first, second, &reason, LOG_LEVEL_ERROR);
    if (!watch->stops) {
        drift_cleared(&watch->detector);
        watch->state = "warned";
        return STATUS_OK;
    }
    watch->state = "stopped";
    return error_set(
        err, STATUS_DRIFT,
        "batches have become slow: the canary batch takes %.2f s, %.1f times what it took at calibration, "
        "and did so twice. Cause: %s: %s. Everything computed is kept; the evidence is in the "
        "ledger (strata log --events)",
        fmin(first, second), fmin(first, second) / watch->canary_seconds, drift_cause_name(reason.cause),
        reason.text);
}

enum drift_event drift_watch_batch(struct drift_watch *watch, struct work *work, double seconds) {
    enum drift_event event = drift_step(&watch->detector, seconds, work->predicted_seconds, &work->score);
    size_t at = watch->seen++ % DRIFT_WATCH_HISTORY;
    watch->history[at].batch = work->number;
    watch->history[at].seconds = seconds;
    watch->history[at].predicted = work->predicted_seconds;
    watch->history[at].score = work->score;
    watch->present.sample = work->sample;
    if (event == DRIFT_WARN) {
        watch->state = "warned";
    }
    return event;
}

int drift_watch_follow(struct drift_watch *watch, enum drift_event event, struct error *err) {
    size_t at = (watch->seen - 1) % DRIFT_WATCH_HISTORY;
    uint64_t batch = watch->history[at].batch;
    if (event == DRIFT_SUSPECT) {
        int status =
            follow_suspicion(watch, batch, watch->history[at].seconds, watch->history[at].score, err);
        writer_live(watch->writer, NULL, watch->state, watch->history[at].score, -1, false);
        return status;
    }
    if (event == DRIFT_WARN) {
        char text[160];
        snprintf(text, sizeof text,
                 "batches up to %" PRIu64 " tend to take longer than calibrated (latest score %.3f)", batch,
                 watch->history[at].score);
        writer_event(watch->writer, LOG_LEVEL_WARN, "warn", text);
    }
    return STATUS_OK;
}
