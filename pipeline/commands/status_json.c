// SPDX-License-Identifier: MIT
#include "commands/status_json.h"

#include <stdlib.h>

#include "base/json.h"
#include "base/printable.h"
#include "commands/device_figures.h"
#include "start/fill.h"

json_t *status_residency(const struct run_snapshot *snapshot) {
    struct error ignored;
    json_t *report = NULL;
    return snapshot->residency.size > 0 &&
                   json_parse(&report, snapshot->residency.data, snapshot->residency.size,
                              "the residency report", &ignored) == STATUS_OK
               ? report
               : json_null();
}

static json_t *describe_launch(bool known, const struct ledger_launch_record *launch) {
    if (!known) {
        return json_null();
    }
    bool ended = launch->ended != 0;
    return json_pack("{s:o, s:o, s:I, s:i, s:I, s:o, s:o, s:o}", "number", json_count(launch->epoch), "host",
                     json_text_if(true, launch->host), "process", (json_int_t)launch->process, "threads",
                     launch->threads, "started", (json_int_t)launch->started, "ended",
                     json_count_if(ended, (uint64_t)launch->ended), "exit_code",
                     ended ? json_integer(launch->exit_code) : json_null(), "reason",
                     json_text_if(ended, launch->reason));
}

static json_t *describe_fill(const struct run_snapshot *snapshot) {
    if (snapshot->batch_tokens == 0 || snapshot->filled_shapes == 0) {
        return json_null();
    }
    struct fill fill = fill_of(snapshot->filled_tokens, snapshot->filled_shapes, snapshot->batch_tokens);
    return json_pack("{s:o, s:o}", "device_tokens", json_count(fill.device_tokens), "share",
                     json_real(fill.share));
}

static json_t *describe(const char *folder, const struct run_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    const struct ledger_progress *progress = &snapshot->progress;
    bool survey = snapshot->has_survey;
    bool live = snapshot->has_progress;
    return json_pack(
        "{s:i, s:o, s:I, s:s, s:b, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:o}, s:{s:o, s:o}, s:{s:o, s:o}, "
        "s:{s:o, s:o},"
        " s:{s:o, s:o}, s:o, s:o, s:{s:o, s:o, s:o}, s:{s:o, s:o}, s:{s:o, s:o}, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:{s:o, s:o, s:o, s:o}, s:o, s:o, s:o, s:o, s:o, s:o}",
        "status_version", 1, "folder", json_text_if(true, folder), "time", (json_int_t)snapshot->now, "state",
        run_state_name(snapshot->state), "finished", (int)totals->finished, "launch",
        describe_launch(snapshot->launches > 0, &snapshot->launch), "stage",
        json_text_if(live, progress->stage), "problems", "total",
        json_count_if(survey, snapshot->survey.problems), "done", json_count(totals->done), "failed",
        json_count(totals->failed), "skipped", json_count(totals->skipped), "remaining",
        json_count_if(survey, snapshot->remaining), "truncated", json_count(totals->truncated), "batches",
        "done", json_count(snapshot->batches), "total", json_count_if(survey, snapshot->planned_batches),
        "tokens", "done", json_count(snapshot->tokens), "total",
        json_count_if(survey, snapshot->survey.tokens), "tokens_per_second", "now",
        json_real_if(live, snapshot->state == RUN_RUNNING ? progress->tokens_per_second : 0), "overall",
        json_real_if(snapshot->overall_rate > 0, snapshot->overall_rate), "seconds", "elapsed",
        json_real(snapshot->elapsed), "remaining", json_real_if(snapshot->has_eta, snapshot->eta),
        "last_checkpoint", json_count_if(totals->last_commit != 0, (uint64_t)totals->last_commit),
        "overflowed", json_count(totals->overflowed), "shards", "count", json_count(totals->shards), "bytes",
        json_count(totals->bytes), "rows", json_count(totals->rows), "disk", "free_bytes",
        json_count(snapshot->disk_free), "planned_bytes",
        json_count_if(snapshot->has_planned, snapshot->planned), "drift", "state",
        json_text_if(live, progress->drift), "score", json_real_if(live, progress->score), "memory_bytes",
        json_count_if(live, progress->memory_bytes), "updated",
        json_count_if(live, (uint64_t)progress->updated), "device",
        live && progress->device.known != 0 ? device_figures_json(&progress->device) : json_null(),
        "cpu_paths", json_text_if(snapshot->cpu_paths.size > 0, snapshot->cpu_paths.data), "residency",
        status_residency(snapshot), "refused", describe_launch(snapshot->refused, &snapshot->refusal),
        "retry", "transient", json_count(snapshot->failures.transient), "tried",
        json_count(snapshot->failures.tried), "succeeded", json_count(snapshot->failures.succeeded),
        "waiting", json_count(snapshot->failures.waiting), "fill", describe_fill(snapshot), "prediction",
        predicted_json(&snapshot->predicted), "weights",
        json_text_if(snapshot->weights.size > 0, snapshot->weights.data), "adapter",
        json_text_if(snapshot->adapter.size > 0, snapshot->adapter.data), "devices",
        device_lanes_json(snapshot->lanes, snapshot->lane_count), "elsewhere",
        json_text_if(snapshot->elsewhere.size > 0, snapshot->elsewhere.data));
}

int status_json_print(FILE *out, const char *folder, const struct run_snapshot *snapshot, bool one_line,
                      struct error *err) {
    json_t *document = describe(folder, snapshot);
    char *text =
        document == NULL
            ? NULL
            : json_dumps(document, (one_line ? JSON_COMPACT : JSON_INDENT(2)) | JSON_REAL_PRECISION(12));
    json_decref(document);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "cannot describe the run as JSON");
    }
    printable_write_lines(out, text);
    fputc('\n', out);
    free(text);
    return STATUS_OK;
}
