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

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *number_if(bool known, uint64_t value) {
    return known ? number(value) : json_null();
}

static json_t *real_if(bool known, double value) {
    json_t *real = known ? json_real(value) : NULL;
    return real != NULL ? real : json_null();
}

static json_t *text_or_null(const char *text) {
    json_t *value = text == NULL ? NULL : json_string(text);
    return value != NULL ? value : json_null();
}

static json_t *describe_launch(bool known, const struct ledger_launch_record *launch) {
    if (!known) {
        return json_null();
    }
    bool ended = launch->ended != 0;
    return json_pack("{s:o, s:o, s:I, s:i, s:I, s:o, s:o, s:o}", "number", number(launch->epoch), "host",
                     text_or_null(launch->host), "process", (json_int_t)launch->process, "threads",
                     launch->threads, "started", (json_int_t)launch->started, "ended",
                     number_if(ended, (uint64_t)launch->ended), "exit_code",
                     ended ? json_integer(launch->exit_code) : json_null(), "reason",
                     ended ? text_or_null(launch->reason) : json_null());
}

static json_t *describe_fill(const struct run_snapshot *snapshot) {
    if (snapshot->batch_tokens == 0 || snapshot->filled_shapes == 0) {
        return json_null();
    }
    struct fill fill = fill_of(snapshot->filled_tokens, snapshot->filled_shapes, snapshot->batch_tokens);
    return json_pack("{s:o, s:o}", "device_tokens", number(fill.device_tokens), "share",
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
        "status_version", 1, "folder", text_or_null(folder), "time", (json_int_t)snapshot->now, "state",
        run_state_name(snapshot->state), "finished", (int)totals->finished, "launch",
        describe_launch(snapshot->launches > 0, &snapshot->launch), "stage",
        live ? text_or_null(progress->stage) : json_null(), "problems", "total",
        number_if(survey, snapshot->survey.problems), "done", number(totals->done), "failed",
        number(totals->failed), "skipped", number(totals->skipped), "remaining",
        number_if(survey, snapshot->remaining), "truncated", number(totals->truncated), "batches", "done",
        number(snapshot->batches), "total", number_if(survey, snapshot->planned_batches), "tokens", "done",
        number(snapshot->tokens), "total", number_if(survey, snapshot->survey.tokens), "tokens_per_second",
        "now", real_if(live, snapshot->state == RUN_RUNNING ? progress->tokens_per_second : 0), "overall",
        real_if(snapshot->overall_rate > 0, snapshot->overall_rate), "seconds", "elapsed",
        json_real(snapshot->elapsed), "remaining", real_if(snapshot->has_eta, snapshot->eta),
        "last_checkpoint", number_if(totals->last_commit != 0, (uint64_t)totals->last_commit), "overflowed",
        number(totals->overflowed), "shards", "count", number(totals->shards), "bytes", number(totals->bytes),
        "rows", number(totals->rows), "disk", "free_bytes", number(snapshot->disk_free), "planned_bytes",
        number_if(snapshot->has_planned, snapshot->planned), "drift", "state",
        live ? text_or_null(progress->drift) : json_null(), "score", real_if(live, progress->score),
        "memory_bytes", number_if(live, progress->memory_bytes), "updated",
        number_if(live, (uint64_t)progress->updated), "device",
        live && progress->device.known != 0 ? device_figures_json(&progress->device) : json_null(),
        "cpu_paths", snapshot->cpu_paths.size > 0 ? text_or_null(snapshot->cpu_paths.data) : json_null(),
        "residency", status_residency(snapshot), "refused",
        describe_launch(snapshot->refused, &snapshot->refusal), "retry", "transient",
        number(snapshot->failures.transient), "tried", number(snapshot->failures.tried), "succeeded",
        number(snapshot->failures.succeeded), "waiting", number(snapshot->failures.waiting), "fill",
        describe_fill(snapshot), "prediction", predicted_json(&snapshot->predicted), "weights",
        snapshot->weights.size > 0 ? text_or_null(snapshot->weights.data) : json_null(), "adapter",
        snapshot->adapter.size > 0 ? text_or_null(snapshot->adapter.data) : json_null(), "devices",
        device_lanes_json(snapshot->lanes, snapshot->lane_count), "elsewhere",
        snapshot->elsewhere.size > 0 ? text_or_null(snapshot->elsewhere.data) : json_null());
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
