// SPDX-License-Identifier: MIT
#include "watch/drift_watch.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/process.h"
#include "journal/figures.h"
#include "watch/drift_cause.h"
#include "watch/drift_reference.h"

#define LOOK_SECONDS 1.0  // between looks at the host: its counters are coarse
#define AGAIN_SECONDS 1.0 // a cleared suspicion counts for so long, however short the batches
#define EXCUSE_SECONDS 600.0
#define TREND_SECONDS 600.0 // between warnings of a slow trend
#define SHARE_MOST 1.5      // a long canary leaves the processors idle for less than a third of its time
#define CANARY_LONG 0.02    // seconds

// ---- what is seen at a moment ----

static double per_second(double now, double before, double elapsed) {
    return now >= 0 && before >= 0 && elapsed > 0 ? fmax(now - before, 0) / elapsed : DRIFT_HOST_UNKNOWN;
}

// Looks at the host, if the last look is some time ago.
static void look(struct drift_watch *watch) {
    double now = clock_seconds();
    if (now - watch->looks[1].time >= LOOK_SECONDS) {
        watch->looks[0] = watch->looks[1];
        watch->looks[1].time = now;
        drift_host_read(&watch->looks[1].host);
    }
}

static void start_looking(struct drift_watch *watch) {
    watch->looks[1].time = clock_seconds();
    drift_host_read(&watch->looks[1].host);
    watch->looks[0] = watch->looks[1];
}

// What the host did since the older look.
static void describe_host(const struct drift_watch *watch, struct drift_moment *out) {
    const struct drift_host *before = &watch->looks[0].host;
    double elapsed = clock_seconds() - watch->looks[0].time;
    drift_host_read(&out->host);
    double busy = per_second(out->host.busy, before->busy, elapsed);
    double own = per_second(out->host.own, before->own, elapsed);
    out->processors = (double)sysconf(_SC_NPROCESSORS_ONLN);
    out->others = busy >= 0 && own >= 0 ? fmax(busy - own, 0) : DRIFT_HOST_UNKNOWN;
    out->stolen = per_second(out->host.stolen, before->stolen, elapsed);
    out->quota_share = per_second(out->host.quota, before->quota, elapsed);
}

// All but the device's sample.
static void note_moment(const struct drift_watch *watch, struct drift_time time, struct drift_moment *out) {
    struct device_sample sample = out->sample;
    drift_moment_clear(out);
    out->sample = sample;
    out->wall_seconds = time.wall;
    out->own_seconds = time.worked;
    out->on_host = watch->canary->on_host;
    out->streams = watch->canary->streams;
    describe_host(watch, out);
}

static void set_state(struct drift_watch *watch, const char *verdict) {
    watch->verdict = verdict;
    if (watch->share.lost && strcmp(verdict, "stopped") != 0) {
        snprintf(watch->state, sizeof watch->state, "sharing: %s, %.0f %%", watch->share_cause,
                 100 * drift_share_now(&watch->share));
    } else {
        snprintf(watch->state, sizeof watch->state, "%s", verdict);
    }
    bool steady = strcmp(watch->state, "steady") == 0;
    size_t length = strlen(watch->state);
    if (watch->device[0] != 0 && !steady) {
        snprintf(watch->state + length, sizeof watch->state - length, " on %s", watch->device);
    }
}

// "cuda:1: " where there are several devices.
static const char *named(const struct drift_watch *watch, char text[DRIFT_WATCH_NAME]) {
    snprintf(text, DRIFT_WATCH_NAME, "%.*s%s", DRIFT_WATCH_NAME - 3, watch->device,
             watch->device[0] == 0 ? "" : ": ");
    return text;
}

static void sample_device(const struct drift_watch *watch, struct device_sample *out) {
    model_sample(watch->canary->model, watch->canary->lane, out);
}

static void say(struct drift_watch *watch, enum log_level level, const char *kind, const char *text) {
    char line[DRIFT_CAUSE_TEXT + 512];
    char name[DRIFT_WATCH_NAME];
    snprintf(line, sizeof line, "%s%s", named(watch, name), text);
    journal_event(watch->journal, level, kind, line);
}

// Of the canary on a device whose clock settles; on processors the batches of the baseline are of another
// kind.
static double pace(const struct drift_watch *watch) {
    return watch->canary->on_host ? 1 : drift_pace(&watch->detector);
}

static double canary_judged(const struct drift_watch *watch) {
    return drift_reference_canary(watch) * pace(watch);
}

static void heed_clock(struct drift_watch *watch, const struct device_sample *now) {
    if (!watch->detector.settled) {
        drift_set_clock(&watch->detector, drift_cause_power_growth(&watch->calibrated.sample, now));
    }
}

// ---- calibration ----

// Up to the canary's own figures.
static int begin(struct drift_watch *watch, struct canary *canary, double began, struct error *err) {
    if (canary->on_host) {
        drift_start(&watch->detector);
    } else {
        drift_start_cold(&watch->detector);
    }
    drift_share_start(&watch->share);
    watch->canary = canary;
    watch->warned_at = began - TREND_SECONDS;
    watch->cleared_at = began - AGAIN_SECONDS;
    set_state(watch, "steady");
    start_looking(watch);
    TRY(canary_calibrate(canary, watch->guard, err));
    watch->canary_time = canary->calibrated;
    note_moment(watch, canary->calibrated, &watch->calibrated);
    watch->calibrated.queueing_seconds = canary->queueing;
    sample_device(watch, &watch->calibrated.sample);
    return STATUS_OK;
}

int drift_watch_calibrate(struct drift_watch *watch, struct canary *canary, struct ledger *ledger,
                          const char *device, const char *profile_path, struct log *log, struct error *err) {
    double began = clock_seconds();
    TRY(begin(watch, canary, began, err));
    TRY(drift_reference_settle(watch, device, ledger, profile_path, log, err));
    log_write(log, LOG_LEVEL_INFO,
              "calibrated in %.1f s: a batch takes %.4f s + %.3f us per token + %.3f ns per squared token; "
              "canary %.4f s, of which the device works %.4f s",
              clock_seconds() - began, watch->cost.fixed, 1e6 * watch->cost.per_token,
              1e9 * watch->cost.per_square, watch->canary_time.wall, watch->canary_time.worked);
    return STATUS_OK;
}

int drift_watch_join(struct drift_watch *watch, struct canary *canary, const struct drift_watch *first,
                     struct log *log, struct error *err) {
    TRY(begin(watch, canary, clock_seconds(), err));
    if (strcmp(first->canary->sha256, canary->sha256) != 0) {
        return error_set(
            err, STATUS_DEVICE,
            "the canary batch gives other bits on %s than on %s (%.16s..., not %.16s...): one of "
            "the two computes wrong results",
            watch->device, first->device, canary->sha256, first->canary->sha256);
    }
    drift_reference_join(watch, first, log);
    return STATUS_OK;
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
        json_array_append_new(
            list,
            json_pack("{s:I, s:f, s:f, s:f, s:f}", "batch", (json_int_t)watch->history[at].batch, "seconds",
                      watch->history[at].seconds, "own_seconds", watch->history[at].own_seconds,
                      "predicted_seconds", watch->history[at].predicted, "score", watch->history[at].score));
    }
    return list;
}

// A GPU's figures, and the host's beside them.
static json_t *moment_json(const struct drift_moment *moment) {
    const struct device_times times = {.compute_seconds = moment->on_host ? 0 : moment->own_seconds};
    return figures_json(&moment->sample, &times);
}

static void add_known(json_t *object, const char *key, double value) {
    if (value >= 0) {
        json_object_set_new(object, key, json_real(value));
    }
}

static json_t *host_json(const struct drift_moment *moment) {
    json_t *object = json_object();
    add_known(object, "processors", moment->processors);
    add_known(object, "others", moment->others);
    add_known(object, "stolen", moment->stolen);
    add_known(object, "quota_share", moment->quota_share);
    return object;
}

// The batch's sample was taken while the device was at work, but it may be a second old; the one of now sees
// the canary, or the pause after it. The first that shows a cause counts. pace: times as long as calibrated
// that is no news.
static void find_cause(struct drift_watch *watch, double pace, struct drift_finding *out) {
    struct device_residency residency;
    model_residency(watch->canary->model, watch->canary->lane, &residency);
    struct drift_moment settled = watch->calibrated;
    settled.wall_seconds *= pace;
    settled.own_seconds *= pace;
    uint64_t model_bytes = residency.taken[DEVICE_WEIGHTS];
    drift_cause_find(&settled, &watch->present, model_bytes, out);
    if (out->cause == DRIFT_CAUSE_UNKNOWN) {
        struct drift_finding other;
        struct drift_moment now = watch->present;
        sample_device(watch, &now.sample);
        drift_cause_find(&settled, &now, model_bytes, &other);
        if (other.cause != DRIFT_CAUSE_UNKNOWN) {
            *out = other;
            watch->present = now;
        }
    }
}

// What was seen, as one JSON object: timings, the cause, the device, memory, and what the system says of its
// load and pressure.
static json_t *evidence_json(const struct drift_watch *watch, const char *verdict,
                             const struct drift_finding *finding) {
    json_t *object = json_pack("{s:s, s:f, s:f, s:o}", "verdict", verdict, "canary_calibrated_seconds",
                               watch->canary_time.wall, "canary_calibrated_own_seconds",
                               watch->canary_time.worked, "batches", history_json(watch));
    if (finding != NULL) {
        json_object_set_new(object, "cause", json_string(drift_cause_name(finding->cause)));
        json_object_set_new(object, "cause_text", json_string(finding->text));
    }
    if (watch->device[0] != 0) {
        json_object_set_new(object, "device_name", json_string(watch->device));
    }
    json_object_set_new(object, "device_calibrated", moment_json(&watch->calibrated));
    json_object_set_new(object, "device", moment_json(&watch->present));
    json_object_set_new(object, "host", host_json(&watch->present));
    json_object_set_new(object, "memory_bytes", json_integer((json_int_t)process_memory()));
    add_file(object, "load", "/proc/loadavg");
    add_file(object, "pressure_cpu", "/proc/pressure/cpu");
    add_file(object, "pressure_memory", "/proc/pressure/memory");
    add_file(object, "pressure_io", "/proc/pressure/io");
    add_file(object, "cpu_quota", "/sys/fs/cgroup/cpu.stat");
    return object;
}

// Takes the evidence.
static void record(struct drift_watch *watch, enum log_level level, const char *kind, const char *what,
                   json_t *evidence, const struct drift_finding *finding) {
    char line[512 + DRIFT_CAUSE_TEXT];
    char name[DRIFT_WATCH_NAME];
    char *text = json_dumps(evidence, JSON_COMPACT);
    int length = snprintf(line, sizeof line, "%s%s", named(watch, name), what);
    if (finding != NULL) {
        snprintf(line + length, sizeof line - (size_t)length, "; %s: %s (evidence: strata log DIR --events)",
                 drift_cause_name(finding->cause), finding->text);
    }
    journal_evidence(watch->journal, level, kind, line, text == NULL ? line : text);
    free(text);
    json_decref(evidence);
}

static void record_canary(struct drift_watch *watch, const char *verdict, struct drift_time first,
                          struct drift_time second, const struct drift_finding *finding,
                          enum log_level level) {
    char what[256];
    json_t *evidence = evidence_json(watch, verdict, finding);
    json_object_set_new(evidence, "canary_seconds", json_real(first.wall));
    json_object_set_new(evidence, "canary_again_seconds", json_real(second.wall));
    json_object_set_new(evidence, "canary_own_seconds", json_real(first.worked));
    json_object_set_new(evidence, "canary_again_own_seconds", json_real(second.worked));
    snprintf(what, sizeof what, "%s: the canary batch took %.4f s and %.4f s, %.4f s when calibrated",
             verdict, first.wall, second.wall, watch->canary_time.wall);
    record(watch, level, strcmp(verdict, "cleared") == 0 ? "canary" : "drift", what, evidence, finding);
}

// What the device settled at is the pace from now on, so it is told of here or never.
static void tell_pace(struct drift_watch *watch) {
    const struct drift *detector = &watch->detector;
    const struct device_sample *now = &watch->present.sample;
    double factor = exp(detector->pace);
    bool explained = drift_is_explained(detector);
    struct drift_finding finding;
    char what[256];
    if (!drift_is_slow(detector)) {
        return;
    }
    note_moment(watch,
                (struct drift_time){factor * watch->canary_time.wall, factor * watch->canary_time.worked},
                &watch->present);
    int length = snprintf(what, sizeof what, "batches take %.2f times as long as calibrated", factor);
    if (detector->growth > 0) {
        char reasons[64];
        device_throttle_names(now->throttle_reasons, reasons, sizeof reasons);
        snprintf(what + length, sizeof what - (size_t)length,
                 ", of which the power cap explains %.2f times (SM clock %" PRId32
                 " MHz, at calibration %" PRId32 " MHz; slowed by: %s)",
                 exp(detector->explained), now->sm_clock, watch->calibrated.sample.sm_clock, reasons);
    }
    if (!explained) {
        find_cause(watch, 1, &finding);
    }
    json_t *evidence = evidence_json(watch, "settled", explained ? NULL : &finding);
    json_object_set_new(evidence, "factor", json_real(factor));
    json_object_set_new(evidence, "factor_by_clock", json_real(exp(detector->explained)));
    record(watch, explained ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, explained ? "pace" : "warn", what, evidence,
           explained ? NULL : &finding);
}

// ---- judging ----

static int check_bits(struct drift_watch *watch, bool same, struct error *err) {
    if (same) {
        return STATUS_OK;
    }
    char name[DRIFT_WATCH_NAME];
    say(watch, LOG_LEVEL_ERROR, "device", "the canary batch gave different bits than at calibration");
    return error_set(
        err, STATUS_DEVICE,
        "%sthe canary batch gave different bits than at calibration: the device computes wrong results",
        named(watch, name));
}

// The guard watches the canary as it watches a batch: a device may hang in either.
static int run_canary(struct drift_watch *watch, uint64_t batch, struct drift_time *time, struct error *err) {
    bool same = false;
    guard_set_device(watch->guard, watch->device);
    guard_canary_begins(watch->guard, batch, CANARY_RUNS * watch->canary_time.wall);
    int status = canary_run(watch->canary, &same, err);
    guard_batch_ends(watch->guard);
    *time = watch->canary->last;
    struct device_sample now;
    sample_device(watch, &now);
    heed_clock(watch, &now);
    note_moment(watch, *time, &watch->present);
    watch->present.queueing_seconds = watch->canary->queueing;
    return status == STATUS_OK ? check_bits(watch, same, err) : status;
}

// The pause before the second run relieves the host: what it said after the first, which the slow batches
// preceded, counts too.
static void keep_worst(struct drift_moment *moment, const struct drift_moment *before) {
    moment->host.cpu = fmax(moment->host.cpu, before->host.cpu);
    moment->host.memory = fmax(moment->host.memory, before->host.memory);
    moment->host.io = fmax(moment->host.io, before->host.io);
    moment->quota_share = fmax(moment->quota_share, before->quota_share);
    moment->others = fmax(moment->others, before->others);
    moment->stolen = fmax(moment->stolen, before->stolen);
}

static bool is_slow(const struct drift_watch *watch, struct drift_time canary) {
    return drift_reference_judged(watch, canary) > DRIFT_CONFIRM * canary_judged(watch);
}

static void clear(struct drift_watch *watch, struct drift_time first, struct drift_time second) {
    record_canary(watch, "cleared", first, second, NULL, LOG_LEVEL_INFO);
    drift_accept(&watch->detector, drift_reference_judged(watch, second) / canary_judged(watch));
    watch->cleared_at = clock_seconds();
    set_state(watch, "steady");
}

// The canary is slow, and a neighbour explains it: said once for each time.
static void excuse(struct drift_watch *watch, struct drift_time first, struct drift_time second,
                   const struct drift_finding *finding) {
    bool news = watch->detector.excused == 0;
    record_canary(watch, "shared", first, second, finding, news ? LOG_LEVEL_WARN : LOG_LEVEL_INFO);
    drift_excuse(&watch->detector, drift_reference_judged(watch, second) / canary_judged(watch));
    watch->cleared_at = clock_seconds();
    watch->excused_until = watch->cleared_at + EXCUSE_SECONDS;
    set_state(watch, "warned");
}

static int stop(struct drift_watch *watch, struct drift_time first, struct drift_time second,
                const struct drift_finding *finding, struct error *err) {
    record_canary(watch, watch->stops ? "stopped" : "slow", first, second, finding, LOG_LEVEL_ERROR);
    if (!watch->stops) {
        drift_cleared(&watch->detector);
        watch->cleared_at = clock_seconds();
        set_state(watch, "warned");
        return STATUS_OK;
    }
    set_state(watch, "stopped");
    double least = fmin(drift_reference_judged(watch, first), drift_reference_judged(watch, second));
    return error_set(err, STATUS_DRIFT,
                     "batches have become slow%s%s: the canary batch takes %.2f s%s, %.1f times its time at "
                     "calibration, twice in a row. Cause: %s: %s. Everything computed is kept; the evidence "
                     "is in the ledger (strata log --events)",
                     watch->device[0] == 0 ? "" : " on ", watch->device, least,
                     drift_reference_has_own_time(watch)
                         ? watch->canary->on_host ? " of processor time" : " by the device's clock"
                         : "",
                     least / drift_reference_canary(watch), drift_cause_name(finding->cause), finding->text);
}

static int follow_suspicion(struct drift_watch *watch, uint64_t batch, double batch_seconds, double score,
                            struct error *err) {
    struct drift_time first;
    struct drift_finding finding;
    struct error ignored; // a refusal is the journal's, and ends the run with the next batch
    set_state(watch, "suspect");
    journal_drift(watch->journal, watch->state, score);
    journal_show(watch->journal, &ignored);
    TRY(run_canary(watch, batch, &first, err));
    struct drift_time second = first;
    if (!is_slow(watch, first)) {
        clear(watch, first, second);
        return STATUS_OK;
    }
    find_cause(watch, pace(watch), &finding);
    if (!finding.passes) {
        guard_sleep(watch->guard, drift_pause(batch_seconds));
        if (guard_stop_requested(watch->guard)) {
            return STATUS_OK; // no verdict: the pause was cut short, and the run ends anyway
        }
        struct drift_moment at_first = watch->present;
        TRY(run_canary(watch, batch, &second, err));
        keep_worst(&watch->present, &at_first);
        if (!is_slow(watch, second)) {
            clear(watch, first, second);
            return STATUS_OK;
        }
        find_cause(watch, pace(watch), &finding);
    }
    if (finding.passes) {
        excuse(watch, first, second, &finding);
        return STATUS_OK;
    }
    return stop(watch, first, second, &finding, err);
}

// ---- the share of the device ----

static void say_share(struct drift_watch *watch, enum drift_share_event event) {
    char text[DRIFT_CAUSE_TEXT + 256];
    const struct drift_share *share = &watch->share;
    const char *what = watch->canary->on_host ? "its processors" : "the device's time";
    if (event == DRIFT_SHARE_BACK) {
        snprintf(text, sizeof text, "this run gets %.0f %% of %s again", 100 * drift_share_now(share), what);
        say(watch, LOG_LEVEL_INFO, "share", text);
        return;
    }
    struct drift_finding finding;
    struct drift_moment present = watch->present;
    struct drift_moment calibrated = watch->calibrated;
    note_moment(watch, (struct drift_time){share->wall, share->worked}, &present);
    calibrated.wall_seconds = share->expected; // of the same batches
    calibrated.own_seconds = share->worked;
    drift_cause_find_share(&calibrated, &present, &finding);
    watch->share_cause = drift_cause_name(finding.cause);
    snprintf(text, sizeof text,
             "this run gets %.0f %% of %s, at calibration %.0f %%, and its batches take %.1f times as long. "
             "Cause: %s: %s. The run goes on",
             100 * drift_share_now(share), what, 100 * drift_share_before(share), drift_share_longer(share),
             watch->share_cause, finding.text);
    say(watch, LOG_LEVEL_WARN, "share", text);
}

// A calibration on a busy machine must not make that the measure: a long canary on processors works for most
// of its time.
static struct drift_time predicted_time(const struct drift_watch *watch, const struct drift_batch *batch) {
    struct drift_time predicted = {
        batch->predicted_seconds,
        drift_predict(&watch->own_cost, batch->parts, (double)batch->tokens, batch->squared_lengths)};
    if (watch->canary->on_host && watch->canary_time.worked > CANARY_LONG) {
        predicted.wall = fmin(predicted.wall, SHARE_MOST * predicted.worked);
    }
    return predicted;
}

// A clock that a cap took down is the one to compare with: what slows the device later is something else.
static void follow_settling(struct drift_watch *watch) {
    tell_pace(watch);
    if (watch->detector.explained > 0) {
        watch->calibrated.sample.sm_clock = watch->present.sample.sm_clock;
    }
}

enum drift_event drift_watch_batch(struct drift_watch *watch, const struct drift_batch *batch,
                                   double *score) {
    struct drift_time time = {batch->seconds, watch->canary->on_host ? batch->times->worked_seconds
                                                                     : batch->times->compute_seconds};
    struct drift_time predicted = predicted_time(watch, batch);
    bool by_own = drift_reference_has_own_time(watch) && time.worked > 0 && predicted.worked > 0;
    double judged = by_own ? time.worked : batch->seconds;
    bool was_settled = watch->detector.settled;
    heed_clock(watch, batch->sample);
    enum drift_event event =
        drift_step(&watch->detector, judged, by_own ? predicted.worked : batch->predicted_seconds, score);
    size_t at = watch->seen++ % DRIFT_WATCH_HISTORY;
    watch->history[at].batch = batch->number;
    watch->history[at].seconds = batch->seconds;
    watch->history[at].own_seconds = time.worked;
    watch->history[at].predicted = batch->predicted_seconds;
    watch->history[at].score = *score;
    watch->present.sample = *batch->sample;
    look(watch);
    if (!was_settled && watch->detector.settled) {
        follow_settling(watch);
    }
    enum drift_share_event share = drift_share_step(&watch->share, time, predicted);
    if (share != DRIFT_SHARE_AS_EVER) {
        say_share(watch, share);
    }
    double now = clock_seconds();
    if (watch->detector.excused > 0 && now > watch->excused_until) {
        drift_excuse_ends(&watch->detector);
    }
    set_state(watch, event == DRIFT_WARN                 ? "warned"
                     : strcmp(watch->verdict, "suspect") ? watch->verdict
                                                         : "steady");
    return event == DRIFT_SUSPECT && now - watch->cleared_at < AGAIN_SECONDS ? DRIFT_STEADY : event;
}

int drift_watch_follow(struct drift_watch *watch, enum drift_event event, struct error *err) {
    size_t at = (watch->seen - 1) % DRIFT_WATCH_HISTORY;
    uint64_t batch = watch->history[at].batch;
    if (event == DRIFT_SUSPECT) {
        int status =
            follow_suspicion(watch, batch, watch->history[at].seconds, watch->history[at].score, err);
        journal_drift(watch->journal, watch->state, watch->history[at].score);
        return status;
    }
    double now = clock_seconds();
    if (event == DRIFT_WARN && now - watch->warned_at >= TREND_SECONDS) {
        char text[160];
        watch->warned_at = now;
        snprintf(text, sizeof text,
                 "batches up to %" PRIu64 " tend to take longer than calibrated (latest score %.3f)", batch,
                 watch->history[at].score);
        say(watch, LOG_LEVEL_WARN, "warn", text);
    }
    return STATUS_OK;
}

void drift_watch_end(struct drift_watch *watch) {
    struct drift *detector = &watch->detector;
    if (!watch->canary->on_host && !detector->settled && detector->batches >= DRIFT_BLOCK) {
        drift_settle(detector);
        tell_pace(watch);
    }
}
