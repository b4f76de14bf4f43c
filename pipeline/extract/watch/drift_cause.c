// SPDX-License-Identifier: MIT
#include "watch/drift_cause.h"

#include <inttypes.h>
#include <stdio.h>

// A canary is called slow from 1.5 times on. Each limit is far from what a healthy run shows, and less than
// what such a slow-down takes.
#define CLOCK_DOWN 0.85        // of the clock at calibration
#define CLOCK_DOWN_OF_MOST 0.7 // of the highest one, where that at calibration is not known
#define TRAFFIC 1e9            // bytes a second over PCIe: a batch's tokens and pooled rows are far below
#define TRAFFIC_GROWTH 4.0
#define POWER_LOW 0.7 // of the power at calibration
#define POWER_LOW_OF_LIMIT 0.5
#define DEVICE_FLAT 1.15 // times the device's own time at calibration
#define WORK_FLAT 1.5    // times the processors' own time: from here on the canary is slow by itself
#define WORK_SHARED 2.5  // times that sharing cores, caches, bandwidth and clock explains
#define WALL_GROWN 1.4
#define QUEUEING_ALL 0.8 // of the wall time: the device has nothing else to wait for
#define QUEUEING_PART 0.5
#define QUOTA_SHARE 0.2  // seconds held back for each second
#define OTHERS_LEAST 0.5 // processors
#define OTHERS_PART 0.1  // of all of them
#define STOLEN_LEAST 0.1
#define POWER_GROWTH_MOST 1.6 // times as long that the power cap explains

const char *drift_cause_name(enum drift_cause cause) {
    static const char *const names[] = {
        [DRIFT_CAUSE_UNKNOWN] = "unknown",       [DRIFT_CAUSE_HARDWARE] = "hardware",
        [DRIFT_CAUSE_THROTTLING] = "throttling", [DRIFT_CAUSE_OFFLOAD] = "offload",
        [DRIFT_CAUSE_NEIGHBOUR] = "neighbour",   [DRIFT_CAUSE_HOST] = "host",
        [DRIFT_CAUSE_MEMORY] = "memory",         [DRIFT_CAUSE_STORAGE] = "storage",
        [DRIFT_CAUSE_QUOTA] = "quota",           [DRIFT_CAUSE_PAUSED] = "paused"};
    return names[cause];
}

void drift_moment_clear(struct drift_moment *moment) {
    *moment = (struct drift_moment){.quota_share = DRIFT_HOST_UNKNOWN,
                                    .processors = DRIFT_HOST_UNKNOWN,
                                    .others = DRIFT_HOST_UNKNOWN,
                                    .stolen = DRIFT_HOST_UNKNOWN,
                                    .host = {DRIFT_HOST_UNKNOWN, DRIFT_HOST_UNKNOWN, DRIFT_HOST_UNKNOWN,
                                             DRIFT_HOST_UNKNOWN, DRIFT_HOST_UNKNOWN, DRIFT_HOST_UNKNOWN,
                                             DRIFT_HOST_UNKNOWN}};
    device_sample_clear(&moment->sample);
}

// ---- the device's signatures: each true when it is there, with its sentence ----

typedef bool signature(const struct drift_moment *calibrated, const struct drift_moment *present,
                       uint64_t model_bytes, char *out);

// Errors of the device's memory, by NVIDIA's list of XID codes.
static bool is_memory_error(int64_t xid) {
    static const int64_t codes[] = {48, 63, 64, 94, 95};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] == xid) {
            return true;
        }
    }
    return false;
}

static bool shows_hardware(const struct drift_moment *calibrated, const struct drift_moment *present,
                           uint64_t model_bytes, char *out) {
    (void)model_bytes;
    int64_t xid = present->sample.xid;
    snprintf(out, DRIFT_CAUSE_TEXT, "the driver reported error XID %" PRId64 "%s", xid,
             is_memory_error(xid) ? " (the device's memory, ECC)" : "");
    return xid > 0 && xid != calibrated->sample.xid && !device_xid_blames_program(xid);
}

static bool shows_throttling(const struct drift_moment *calibrated, const struct drift_moment *present,
                             uint64_t model_bytes, char *out) {
    (void)model_bytes;
    const struct device_sample *now = &present->sample;
    bool compares = calibrated->sample.sm_clock > 0;
    int32_t before = compares ? calibrated->sample.sm_clock : now->sm_clock_most;
    char reasons[64];
    char heat[32] = "";
    device_throttle_names(now->throttle_reasons, reasons, sizeof reasons);
    if (now->temperature >= 0) {
        snprintf(heat, sizeof heat, " at %" PRId32 " C", now->temperature);
    }
    snprintf(out, DRIFT_CAUSE_TEXT,
             "the SM clock is %" PRId32 " MHz, %s %" PRId32 " MHz; the device says that it is slowed by %s%s",
             now->sm_clock, compares ? "at calibration it was" : "the highest is", before, reasons, heat);
    bool slowed = now->throttle_reasons > 0 && reasons[0] != 'n'; // "none"
    return slowed && now->sm_clock >= 0 && before > 0 &&
           now->sm_clock < (compares ? CLOCK_DOWN : CLOCK_DOWN_OF_MOST) * before;
}

// This process's bytes, or everybody's where its own are not known.
static int64_t held_bytes(const struct device_sample *sample) {
    return sample->process_memory >= 0 ? sample->process_memory : sample->memory_used;
}

// A sample may be a second old: one that was taken before the model was loaded is no sign that it went away.
static bool shows_missing_memory(const struct drift_moment *calibrated, const struct drift_moment *present,
                                 uint64_t model_bytes, char *out) {
    int64_t own = present->sample.process_memory;
    int64_t held = held_bytes(&present->sample);
    int64_t before = held_bytes(&calibrated->sample);
    snprintf(out, DRIFT_CAUSE_TEXT,
             "%s %.3f GB of the device's memory, less than the %.3f GB that the model takes",
             own >= 0 ? "this process has" : "all processes have", (double)held * 1e-9,
             (double)model_bytes * 1e-9);
    bool was_there = before < 0 || (uint64_t)before >= model_bytes;
    return held >= 0 && model_bytes > 0 && (uint64_t)held < model_bytes && was_there;
}

static bool has_much_traffic(double now, double before) {
    return now >= TRAFFIC && (before < 0 || now >= TRAFFIC_GROWTH * before);
}

static bool shows_offload(const struct drift_moment *calibrated, const struct drift_moment *present,
                          uint64_t model_bytes, char *out) {
    (void)model_bytes;
    const struct device_sample *now = &present->sample;
    const struct device_sample *before = &calibrated->sample;
    bool compares = before->power > 0;
    double usual = compares ? before->power : now->power_limit;
    bool traffic = has_much_traffic(now->pcie_received, before->pcie_received) ||
                   has_much_traffic(now->pcie_sent, before->pcie_sent);
    bool low =
        now->power >= 0 && usual > 0 && now->power < (compares ? POWER_LOW : POWER_LOW_OF_LIMIT) * usual;
    snprintf(out, DRIFT_CAUSE_TEXT,
             "%.2f GB/s come over PCIe and %.2f GB/s go back, while the device takes %.0f W (%s %.0f W): "
             "data moves that should stay on the device",
             now->pcie_received * 1e-9, now->pcie_sent * 1e-9, now->power,
             compares ? "at calibration" : "its limit:", usual);
    return traffic && low && !present->streams;
}

static bool shows_neighbour(const struct drift_moment *calibrated, const struct drift_moment *present,
                            uint64_t model_bytes, char *out) {
    (void)model_bytes;
    int32_t now = present->sample.foreign_processes;
    int32_t before = calibrated->sample.foreign_processes;
    snprintf(out, DRIFT_CAUSE_TEXT, "%" PRId32 " other process%s on the device, %" PRId32 " at calibration",
             now, now == 1 ? " computes" : "es compute", before < 0 ? 0 : before);
    return now > 0 && now > before;
}

// ---- the host's ----

static bool shows_idle_device(const struct drift_moment *calibrated, const struct drift_moment *present,
                              uint64_t model_bytes, char *out) {
    (void)model_bytes;
    double before = calibrated->own_seconds;
    double now = present->own_seconds;
    snprintf(out, DRIFT_CAUSE_TEXT,
             "the device itself takes %.4f s, at calibration %.4f s, but the batch takes %.4f s instead of "
             "%.4f s: the device waits for this host",
             now, before, present->wall_seconds, calibrated->wall_seconds);
    return !present->on_host && before > 0 && now > 0 && now < DEVICE_FLAT * before &&
           present->wall_seconds > WALL_GROWN * calibrated->wall_seconds;
}

// A device that is done when the last of its work is queued had to wait for it, by its own clock too.
static bool shows_late_work(const struct drift_moment *calibrated, const struct drift_moment *present,
                            uint64_t model_bytes, char *out) {
    (void)model_bytes;
    snprintf(
        out, DRIFT_CAUSE_TEXT,
        "queueing the work takes %.4f s of its %.4f s, at calibration %.4f s of %.4f s: the device waits "
        "for this host",
        present->queueing_seconds, present->wall_seconds, calibrated->queueing_seconds,
        calibrated->wall_seconds);
    return !present->on_host && calibrated->queueing_seconds > 0 &&
           calibrated->queueing_seconds < QUEUEING_PART * calibrated->wall_seconds &&
           present->queueing_seconds > QUEUEING_ALL * present->wall_seconds;
}

static bool shows_pauses(const struct drift_moment *calibrated, const struct drift_moment *present,
                         uint64_t model_bytes, char *out) {
    (void)calibrated;
    (void)model_bytes;
    snprintf(out, DRIFT_CAUSE_TEXT,
             "the threads work %.4f s of %.4f s, and nothing shows who used the processors: the process or "
             "its machine was suspended for part of the time",
             present->own_seconds, present->wall_seconds);
    return present->on_host && present->own_seconds > 0 &&
           present->wall_seconds > WALL_GROWN * present->own_seconds;
}

double drift_cause_growth(const struct drift_moment *calibrated, const struct drift_moment *present) {
    return calibrated->own_seconds > 0 && present->own_seconds > 0
               ? present->own_seconds / calibrated->own_seconds
               : 0;
}

// By `least` and by more than at calibration.
static bool has_grown(double now, double before, double least, double growth) {
    return now >= least && now >= (before < 0 ? 0 : before) + growth;
}

static bool shows_quota(const struct drift_moment *calibrated, const struct drift_moment *present,
                        uint64_t model_bytes, char *out) {
    (void)model_bytes;
    snprintf(out, DRIFT_CAUSE_TEXT,
             "the control group's CPU quota throttles tasks for %.2f s per second, over all processors; at "
             "calibration for %.2f s",
             present->quota_share, calibrated->quota_share < 0 ? 0 : calibrated->quota_share);
    return has_grown(present->quota_share, calibrated->quota_share, QUOTA_SHARE, QUOTA_SHARE);
}

// The limits below are percents of the last 10 s in which tasks waited.

static void say_pressure(char *out, const char *what, double now, double before) {
    int used = snprintf(out, DRIFT_CAUSE_TEXT, "tasks wait for %s %.0f %% of the time", what, now);
    if (before >= 0) {
        snprintf(out + used, (size_t)(DRIFT_CAUSE_TEXT - used), ", at calibration %.0f %%", before);
    }
}

static bool shows_memory_pressure(const struct drift_moment *calibrated, const struct drift_moment *present,
                                  uint64_t model_bytes, char *out) {
    (void)model_bytes;
    say_pressure(out, "memory", present->host.memory, calibrated->host.memory);
    return has_grown(present->host.memory, calibrated->host.memory, 10, 5);
}

static bool shows_others(const struct drift_moment *calibrated, const struct drift_moment *present,
                         uint64_t model_bytes, char *out) {
    (void)calibrated;
    (void)model_bytes;
    snprintf(out, DRIFT_CAUSE_TEXT, "other processes use %.1f of this host's %.0f processors",
             present->others, present->processors);
    return present->on_host && present->others >= OTHERS_LEAST &&
           present->others >= OTHERS_PART * present->processors;
}

static bool shows_stolen(const struct drift_moment *calibrated, const struct drift_moment *present,
                         uint64_t model_bytes, char *out) {
    (void)model_bytes;
    snprintf(out, DRIFT_CAUSE_TEXT, "other virtual machines take %.1f of this machine's processors",
             present->stolen);
    return has_grown(present->stolen, calibrated->stolen, STOLEN_LEAST, STOLEN_LEAST);
}

static bool shows_busy_processors(const struct drift_moment *calibrated, const struct drift_moment *present,
                                  uint64_t model_bytes, char *out) {
    (void)model_bytes;
    say_pressure(out, "a processor", present->host.cpu, calibrated->host.cpu);
    // This process's own threads wait for one another too: without a comparison only much says something.
    return has_grown(present->host.cpu, calibrated->host.cpu, calibrated->host.cpu < 0 ? 50 : 20, 20);
}

static bool shows_storage_pressure(const struct drift_moment *calibrated, const struct drift_moment *present,
                                   uint64_t model_bytes, char *out) {
    (void)model_bytes;
    say_pressure(out, "storage", present->host.io, calibrated->host.io);
    return has_grown(present->host.io, calibrated->host.io, 30, 20);
}

// The surest first: what the device says of its own state, then what it shows, then what the host shows.
static const struct {
    enum drift_cause cause;
    signature *shows;
    // OF_SHARED_WORK: processors work longer for it. OF_QUEUE: a GPU's own time grows with it.
    enum { OF_DEVICE, OF_HOST, OF_SHARED_WORK, OF_QUEUE } kind;
} signatures[] = {
    {DRIFT_CAUSE_HARDWARE, shows_hardware, OF_DEVICE},
    {DRIFT_CAUSE_THROTTLING, shows_throttling, OF_DEVICE},
    {DRIFT_CAUSE_OFFLOAD, shows_missing_memory, OF_DEVICE},
    {DRIFT_CAUSE_OFFLOAD, shows_offload, OF_DEVICE},
    {DRIFT_CAUSE_NEIGHBOUR, shows_neighbour, OF_DEVICE},
    {DRIFT_CAUSE_QUOTA, shows_quota, OF_HOST},
    {DRIFT_CAUSE_MEMORY, shows_memory_pressure, OF_SHARED_WORK},
    {DRIFT_CAUSE_NEIGHBOUR, shows_others, OF_SHARED_WORK},
    {DRIFT_CAUSE_NEIGHBOUR, shows_stolen, OF_SHARED_WORK},
    {DRIFT_CAUSE_NEIGHBOUR, shows_busy_processors, OF_SHARED_WORK},
    {DRIFT_CAUSE_STORAGE, shows_storage_pressure, OF_HOST},
    {DRIFT_CAUSE_HOST, shows_idle_device, OF_HOST},
    {DRIFT_CAUSE_HOST, shows_late_work, OF_QUEUE},
    {DRIFT_CAUSE_PAUSED, shows_pauses, OF_HOST},
};

// Whether a cause of this kind can be it, when the device takes `growth` times as long for its work.
static bool explains(int kind, double growth, bool on_host) {
    if (kind == OF_DEVICE || kind == OF_QUEUE || growth == 0) {
        return true;
    }
    if (!on_host) {
        return growth < DEVICE_FLAT;
    }
    return growth <= (kind == OF_SHARED_WORK ? WORK_SHARED : WORK_FLAT);
}

static void find(const struct drift_moment *calibrated, const struct drift_moment *present,
                 uint64_t model_bytes, double growth, bool of_device, struct drift_finding *out) {
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        if ((of_device || signatures[i].kind != OF_DEVICE) &&
            explains(signatures[i].kind, growth, present->on_host) &&
            signatures[i].shows(calibrated, present, model_bytes, out->text)) {
            out->cause = signatures[i].cause;
            out->passes = signatures[i].kind != OF_DEVICE;
            return;
        }
    }
    out->cause = DRIFT_CAUSE_UNKNOWN;
    out->passes = false;
    snprintf(out->text, DRIFT_CAUSE_TEXT, "no figure of the device or the host shows why");
}

void drift_cause_find(const struct drift_moment *calibrated, const struct drift_moment *present,
                      uint64_t model_bytes, struct drift_finding *out) {
    double growth = drift_cause_growth(calibrated, present);
    find(calibrated, present, model_bytes, growth, true, out);
    if (out->cause == DRIFT_CAUSE_UNKNOWN && present->on_host && growth > WORK_SHARED) {
        snprintf(out->text, DRIFT_CAUSE_TEXT,
                 "the threads themselves work %.1f times as long, more than a neighbour explains", growth);
    }
}

void drift_cause_find_share(const struct drift_moment *calibrated, const struct drift_moment *present,
                            struct drift_finding *out) {
    find(calibrated, present, 0, 0, false, out);
    out->passes = true;
}

// ---- the power cap ----

// The cap and no other reason that slows a clock.
static bool is_capped(const struct device_sample *now) {
    const int64_t others = DEVICE_THROTTLE_HARDWARE | DEVICE_THROTTLE_THERMAL |
                           DEVICE_THROTTLE_THERMAL_HARDWARE | DEVICE_THROTTLE_POWER_BRAKE;
    return (now->throttle_reasons & DEVICE_THROTTLE_POWER) != 0 && (now->throttle_reasons & others) == 0;
}

double drift_cause_power_growth(const struct device_sample *calibrated, const struct device_sample *now) {
    if (calibrated->sm_clock <= 0 || now->sm_clock <= 0 || now->throttle_reasons < 0) {
        return 0;
    }
    double growth = (double)calibrated->sm_clock / now->sm_clock;
    return is_capped(now) && growth > 1 && growth <= POWER_GROWTH_MOST ? growth : 1;
}
