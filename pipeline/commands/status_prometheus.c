// SPDX-License-Identifier: MIT
#include "commands/status_prometheus.h"

#include <math.h>
#include <stdbool.h>

#include "base/json.h"
#include "base/printable.h"
#include "commands/status_json.h"

// ---- the metrics ----

enum metric {
    SNAPSHOT_TIME,
    RUN_STATE,
    FINISHED,
    PARTS,
    PROBLEMS,
    RETRYABLE,
    TOKENS,
    SEALED_TOKENS,
    SEALED_BATCHES,
    BATCH_SECONDS,
    RATE,
    PREDICTED,
    ETA,
    ELAPSED,
    DRIFT,
    CHECKPOINT_AGE,
    SHARDS,
    SHARD_BYTES,
    DISK_FREE,
    DISK_PLANNED,
    MEMORY,
    LAUNCHES,
    EXIT_CODE,
    DEVICE_RATE,
    DEVICE_FIGURES, // the first of those of struct ledger_device
    METRICS = DEVICE_FIGURES + LEDGER_FIGURES
};

static const struct {
    const char *name, *type, *help;
    double scale; // of a device's figure, to base units; of others nothing
} metrics[METRICS] = {
    [SNAPSHOT_TIME] = {"snapshot_timestamp_seconds", "gauge",
                       "When these figures were read, in seconds since 1970."},
    [RUN_STATE] = {"run_state", "gauge", "1 for the run's state: new, running, killed or ended."},
    [FINISHED] = {"finished", "gauge", "1 once every problem is accounted for."},
    [PARTS] = {"parts", "gauge", "Parts of a set by state."},
    [PROBLEMS] = {"problems", "gauge",
                  "Problems by state, sealed and recorded; remaining ones have none yet."},
    [RETRYABLE] = {"problems_retryable", "gauge",
                   "Failed problems that strata run --retry-failed would try again."},
    [TOKENS] = {"tokens", "gauge", "Tokens done, with those that are not sealed yet, and planned in all."},
    [SEALED_TOKENS] = {"sealed_tokens_total", "counter", "Tokens in sealed shards."},
    [SEALED_BATCHES] = {"sealed_batches_total", "counter", "Batches in sealed shards."},
    [BATCH_SECONDS] = {"batch_seconds_total", "counter", "Seconds that sealed batches took, by stage."},
    [RATE] = {"tokens_per_second", "gauge", "Speed over the last batches; 0 while nothing runs."},
    [PREDICTED] = {"predicted_tokens_per_second", "gauge",
                   "Speed that the last launch's calibration foretold."},
    [ETA] = {"eta_seconds", "gauge", "Time left at this speed."},
    [ELAPSED] = {"elapsed_seconds", "gauge", "Time that all launches worked."},
    [DRIFT] = {"drift_score", "gauge", "Logarithm of batch time over prediction and baseline."},
    [CHECKPOINT_AGE] = {"checkpoint_age_seconds", "gauge", "Time since the last commit of a shard."},
    [SHARDS] = {"shards", "gauge", "Sealed shards."},
    [SHARD_BYTES] = {"shard_bytes", "gauge", "Bytes of sealed shards."},
    [DISK_FREE] = {"disk_free_bytes", "gauge", "Free bytes on the file system of the run directory."},
    [DISK_PLANNED] = {"disk_planned_bytes", "gauge", "Bytes of shards still to be written."},
    [MEMORY] = {"memory_bytes", "gauge",
                "Resident memory of the process, or the GPU's in use, at the last batch."},
    [LAUNCHES] = {"launches", "gauge", "Launches so far."},
    [EXIT_CODE] = {"exit_code", "gauge", "Exit code of the last launch, once it has ended."},
    [DEVICE_RATE] = {"device_tokens_per_second", "gauge", "Speed of one of several devices."},
#define FIGURE(figure) [DEVICE_FIGURES + (figure)]
    FIGURE(FIGURE_UPLOAD_SECONDS) = {"device_upload_seconds", "gauge", "Upload of the last batch.", 1},
    FIGURE(FIGURE_DEVICE_SECONDS) = {"device_compute_seconds", "gauge",
                                     "Computing of the last batch, by the device's clock.", 1},
    FIGURE(FIGURE_DOWNLOAD_SECONDS) = {"device_download_seconds", "gauge", "Download of the last batch.", 1},
    FIGURE(FIGURE_MEMORY_USED) = {"device_memory_used_bytes", "gauge",
                                  "Memory in use on the device, everybody's.", 1},
    FIGURE(FIGURE_PROCESS_MEMORY) = {"device_process_memory_bytes", "gauge",
                                     "Memory of this process on the device.", 1},
    FIGURE(FIGURE_UTILIZATION) = {"device_utilization_ratio", "gauge",
                                  "Share of the time with a kernel running.", 0.01},
    FIGURE(FIGURE_SM_CLOCK) = {"device_sm_clock_hertz", "gauge", "Clock of the multiprocessors.", 1e6},
    FIGURE(FIGURE_POWER) = {"device_power_watts", "gauge", "Power draw.", 1},
    FIGURE(FIGURE_TEMPERATURE) = {"device_temperature_celsius", "gauge", "Temperature.", 1},
    FIGURE(FIGURE_THROTTLE_REASONS) = {"device_throttle_reasons", "gauge",
                                       "NVML's bits of why clocks are held back.", 1},
    FIGURE(FIGURE_PCIE_RECEIVED) = {"device_pcie_received_bytes_per_second", "gauge",
                                    "Traffic from host to device.", 1},
    FIGURE(FIGURE_PCIE_SENT) = {"device_pcie_sent_bytes_per_second", "gauge", "Traffic from device to host.",
                                1},
    FIGURE(FIGURE_XID) = {"device_xid", "gauge", "Code of the last critical error; 0: none.", 1},
#undef FIGURE
};

// ---- the format ----

struct writer {
    FILE *out;
    const char *folder;
    enum metric current;
    bool begun; // HELP and TYPE of the current one are written
};

static void label(FILE *out, const char *name, const char *value) {
    char shown[PRINTABLE_TEXT];
    fprintf(out, "%s=\"", name);
    for (const char *c = printable(shown, sizeof shown, value); *c != 0; c++) {
        if (*c == '\\' || *c == '"') {
            fputc('\\', out);
        }
        fputc(*c, out);
    }
    fputc('"', out);
}

static void begin(struct writer *writer, enum metric metric) {
    if (!writer->begun || writer->current != metric) {
        fprintf(writer->out, "# HELP strata_%s %s\n# TYPE strata_%s %s\n", metrics[metric].name,
                metrics[metric].help, metrics[metric].name, metrics[metric].type);
        writer->current = metric;
        writer->begun = true;
    }
}

// key NULL: no label but the run's. Samples of a metric come one after another.
static void sample(struct writer *writer, enum metric metric, const char *key, const char *value,
                   double number) {
    if (!isfinite(number)) {
        return;
    }
    begin(writer, metric);
    fprintf(writer->out, "strata_%s{", metrics[metric].name);
    label(writer->out, "run", writer->folder);
    if (key != NULL) {
        fputc(',', writer->out);
        label(writer->out, key, value);
    }
    fprintf(writer->out, "} %.15g\n", number);
}

static void plain(struct writer *writer, enum metric metric, double number) {
    sample(writer, metric, NULL, NULL, number);
}

static void counts(struct writer *writer, const struct ledger_totals *totals, bool known, uint64_t problems) {
    uint64_t settled = totals->done + totals->failed + totals->skipped;
    sample(writer, PROBLEMS, "state", "done", (double)totals->done);
    sample(writer, PROBLEMS, "state", "failed", (double)totals->failed);
    sample(writer, PROBLEMS, "state", "skipped", (double)totals->skipped);
    if (known) {
        sample(writer, PROBLEMS, "state", "remaining", problems > settled ? (double)(problems - settled) : 0);
    }
}

static void sealed(struct writer *writer, const struct ledger_totals *totals, int64_t now) {
    plain(writer, SEALED_TOKENS, (double)totals->tokens);
    plain(writer, SEALED_BATCHES, (double)totals->batches);
    plain(writer, SHARDS, (double)totals->shards);
    plain(writer, SHARD_BYTES, (double)totals->bytes);
    if (totals->last_commit > 0) {
        plain(writer, CHECKPOINT_AGE, now > totals->last_commit ? (double)(now - totals->last_commit) : 0);
    }
}

// ---- a run ----

static void states(struct writer *writer, const struct run_snapshot *snapshot) {
    for (enum run_state state = RUN_NEW; state <= RUN_ENDED; state++) {
        sample(writer, RUN_STATE, "state", run_state_name(state), state == snapshot->state);
    }
    plain(writer, FINISHED, snapshot->totals.finished);
    plain(writer, LAUNCHES, (double)snapshot->launches);
    const struct ledger_launch_record *last = snapshot->refused ? &snapshot->refusal : &snapshot->launch;
    if (snapshot->launches > 0 && last->ended != 0) {
        plain(writer, EXIT_CODE, last->exit_code);
    }
}

static void speed(struct writer *writer, const struct run_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    sample(writer, BATCH_SECONDS, "stage", "compute", totals->compute_seconds);
    sample(writer, BATCH_SECONDS, "stage", "wait", totals->wait_seconds);
    sample(writer, BATCH_SECONDS, "stage", "prepare", totals->prepare_seconds);
    sample(writer, BATCH_SECONDS, "stage", "write", totals->write_seconds);
    plain(writer, RATE, snapshot->state == RUN_RUNNING ? snapshot->progress.tokens_per_second : 0);
    plain(writer, PREDICTED,
          snapshot->predicted.known ? snapshot->predicted.prediction.tokens_per_second : NAN);
    plain(writer, ETA, snapshot->totals.finished ? 0 : snapshot->has_eta ? snapshot->eta : NAN);
    plain(writer, ELAPSED, snapshot->elapsed);
}

static void health(struct writer *writer, const struct run_snapshot *snapshot) {
    const struct ledger_progress *progress = &snapshot->progress;
    plain(writer, DISK_FREE, (double)snapshot->disk_free);
    plain(writer, DISK_PLANNED, snapshot->has_planned ? (double)snapshot->planned : NAN);
    plain(writer, DRIFT, snapshot->has_progress && progress->drift[0] != 0 ? progress->score : NAN);
    plain(writer, MEMORY, snapshot->has_progress ? (double)progress->memory_bytes : NAN);
}

static void figure(struct writer *writer, enum ledger_figure which, const char *device,
                   const struct ledger_device *figures) {
    enum metric metric = (enum metric)(DEVICE_FIGURES + which);
    double value;
    if (ledger_device_get(figures, which, &value)) {
        sample(writer, metric, "device", device, value * metrics[metric].scale);
    }
}

// Of several devices, each by its name; of one, by its kind.
static void devices(struct writer *writer, const struct run_snapshot *snapshot) {
    json_t *residency = status_residency(snapshot);
    const char *kind = json_string_value(json_object_get(residency, "kind"));
    for (size_t i = 0; i < snapshot->lane_count; i++) {
        sample(writer, DEVICE_RATE, "device", snapshot->lanes[i].name, snapshot->lanes[i].tokens_per_second);
    }
    for (int which = 0; which < LEDGER_FIGURES; which++) {
        for (size_t i = 0; i < snapshot->lane_count; i++) {
            figure(writer, (enum ledger_figure)which, snapshot->lanes[i].name, &snapshot->lanes[i].figures);
        }
        if (snapshot->lane_count == 0) {
            figure(writer, (enum ledger_figure)which, kind == NULL ? "device" : kind,
                   &snapshot->progress.device);
        }
    }
    json_decref(residency);
}

void status_prometheus_run(FILE *out, const char *folder, const struct run_snapshot *snapshot) {
    struct writer writer = {.out = out, .folder = folder};
    plain(&writer, SNAPSHOT_TIME, (double)snapshot->now);
    states(&writer, snapshot);
    counts(&writer, &snapshot->totals, snapshot->has_survey, snapshot->survey.problems);
    plain(&writer, RETRYABLE, (double)snapshot->failures.transient);
    sample(&writer, TOKENS, "state", "done", (double)snapshot->tokens);
    sample(&writer, TOKENS, "state", "planned", snapshot->has_survey ? (double)snapshot->survey.tokens : NAN);
    sealed(&writer, &snapshot->totals, snapshot->now);
    speed(&writer, snapshot);
    health(&writer, snapshot);
    if (snapshot->has_progress) {
        devices(&writer, snapshot);
    }
}

// ---- a set ----

void status_prometheus_set(FILE *out, const struct set_snapshot *snapshot) {
    struct writer writer = {.out = out, .folder = snapshot->list.name};
    const struct ledger_totals *totals = &snapshot->totals;
    bool known = snapshot->has_tokens || snapshot->has_estimate;
    plain(&writer, SNAPSHOT_TIME, (double)snapshot->now);
    plain(&writer, FINISHED, totals->finished);
    for (int i = 0; i < PART_STATES; i++) {
        sample(&writer, PARTS, "state", part_state_name((enum part_state)i), (double)snapshot->states[i]);
    }
    counts(&writer, totals, snapshot->has_problems, snapshot->problems);
    plain(&writer, RETRYABLE, (double)snapshot->transient);
    sample(&writer, TOKENS, "state", "done", (double)snapshot->tokens);
    sample(&writer, TOKENS, "state", "planned", known ? (double)snapshot->tokens_total : NAN);
    sealed(&writer, totals, snapshot->now);
    sample(&writer, BATCH_SECONDS, "stage", "compute", totals->compute_seconds);
    sample(&writer, BATCH_SECONDS, "stage", "wait", totals->wait_seconds);
    plain(&writer, RATE, snapshot->rate);
    plain(&writer, ETA, totals->finished ? 0 : snapshot->has_all ? snapshot->all : NAN);
}
