// SPDX-License-Identifier: MIT
#include "commands/report_facts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoints/run_set.h"
#include "commands/readable.h"
#include "kernels/telemetry.h"

// ---- a run ----

static void state_of(struct report_facts *facts, const struct run_snapshot *snapshot) {
    switch (snapshot->state) {
    case RUN_NEW:
        facts->state = "not launched yet";
        facts->tone = TONE_GREY;
        return;
    case RUN_RUNNING:
        facts->state = snapshot->has_progress ? snapshot->progress.stage : "running";
        facts->tone = TONE_BLUE;
        return;
    case RUN_KILLED:
        facts->state = "killed";
        facts->tone = TONE_RED;
        return;
    case RUN_ENDED:
        break;
    }
    bool stopped = snapshot->launch.exit_code == 0 || snapshot->launch.exit_code == -STATUS_STOPPED;
    facts->state = snapshot->totals.finished ? "finished" : stopped ? "stopped" : "failed";
    facts->tone = snapshot->totals.finished ? TONE_GREEN : stopped ? TONE_AMBER : TONE_RED;
}

static int describe(struct buffer *detail, const struct run_snapshot *snapshot, struct error *err) {
    const struct ledger_launch_record *launch = &snapshot->launch;
    char text[CLOCK_TEXT];
    if (snapshot->state == RUN_NEW) {
        return buffer_printf(detail, err, "The ledger is there; no launch has begun.");
    }
    TRY(buffer_printf(detail, err, "Launch %" PRIu64 " on %s", launch->epoch, launch->host));
    if (snapshot->state == RUN_ENDED) {
        clock_text(launch->ended, text);
        return buffer_printf(detail, err, " ended %s with exit code %d%s%s", text, launch->exit_code,
                             launch->reason[0] == 0 ? "" : ": ", launch->reason);
    }
    clock_text(launch->started, text);
    return buffer_printf(detail, err,
                         snapshot->state == RUN_RUNNING ? ", since %s, process %" PRId64
                                                        : ", of %s, process %" PRId64 ", left no end",
                         text, launch->process);
}

static int describe_refusal(struct buffer *out, const struct run_snapshot *snapshot, struct error *err) {
    const struct ledger_launch_record *refusal = &snapshot->refusal;
    if (!snapshot->refused) {
        return STATUS_OK;
    }
    return refusal->ended == 0
               ? buffer_printf(out, err, "Launch %" PRIu64 " left no end before its first batch.",
                               refusal->epoch)
               : buffer_printf(out, err, "Launch %" PRIu64 ", exit code %d: %s", refusal->epoch,
                               refusal->exit_code, refusal->reason);
}

static const char *text_of(const struct buffer *text) {
    return text->size > 0 ? text->data : NULL;
}

static double rate_of(uint64_t tokens, double seconds) {
    return tokens > 0 && seconds > 0 ? (double)tokens / seconds : 0;
}

static void take_speed(struct report_facts *facts, const struct run_snapshot *snapshot) {
    const struct predicted *predicted = &snapshot->predicted;
    const struct ledger_totals *totals = &snapshot->totals;
    double wall = totals->compute_seconds + totals->wait_seconds;
    facts->elapsed = snapshot->elapsed;
    facts->has_eta = snapshot->has_eta;
    facts->eta = snapshot->eta;
    facts->rate = snapshot->progress.tokens_per_second;
    facts->rate_overall = snapshot->overall_rate;
    facts->wait_share = wall > 0 ? totals->wait_seconds / wall : 0;
    if (predicted->known) {
        facts->predicted = predicted->prediction.tokens_per_second;
        facts->predicted_seconds = predicted->prediction.seconds;
        facts->limit = predicted->prediction.limit;
        facts->measured = rate_of(predicted->work.tokens, predicted->work.compute_seconds);
    }
}

static void take_device(struct report_source *source) {
    struct report_facts *facts = &source->facts;
    const struct ledger_device *device = &source->snapshot.progress.device;
    double value;
    if (ledger_device_get(device, FIGURE_THROTTLE_REASONS, &value)) {
        device_throttle_names((int64_t)value, source->throttle, sizeof source->throttle);
        facts->throttle = strcmp(source->throttle, "none") == 0 ? NULL : source->throttle;
    }
    if (ledger_device_get(device, FIGURE_XID, &value)) {
        facts->xid = value;
    }
}

static void take_counts(struct report_facts *facts, const struct run_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    facts->has_survey = snapshot->has_survey;
    facts->problems = snapshot->survey.problems;
    facts->done = totals->done;
    facts->failed = totals->failed;
    facts->skipped = totals->skipped;
    facts->remaining = snapshot->remaining;
    facts->tokens = snapshot->tokens;
    facts->tokens_total = snapshot->survey.tokens;
    facts->text_tokens = snapshot->text_tokens;
    facts->batches = snapshot->batches;
    facts->batches_total = snapshot->planned_batches;
    facts->rows = totals->rows;
    facts->shards = totals->shards;
    facts->bytes = totals->bytes;
    facts->truncated = totals->truncated;
    facts->overflowed = totals->overflowed;
    facts->transient = snapshot->failures.transient;
    facts->disk_free = snapshot->disk_free;
    facts->has_planned = snapshot->has_planned;
    facts->planned = snapshot->planned;
    facts->last_commit = totals->last_commit;
}

int report_source_take(struct report_source *source, const char *folder, struct error *err) {
    struct run_snapshot *snapshot = &source->snapshot;
    struct report_facts *facts = &source->facts;
    *source = (struct report_source){0};
    TRY(run_snapshot_take(snapshot, folder, err));
    TRY(describe(&source->detail, snapshot, err));
    TRY(describe_refusal(&source->refused, snapshot, err));
    *facts = (struct report_facts){.folder = folder,
                                   .now = snapshot->now,
                                   .running = snapshot->state == RUN_RUNNING,
                                   .detail = text_of(&source->detail),
                                   .refused = text_of(&source->refused),
                                   .elsewhere = text_of(&snapshot->elsewhere),
                                   .cpu_paths = text_of(&snapshot->cpu_paths),
                                   .weights = text_of(&snapshot->weights),
                                   .adapter = text_of(&snapshot->adapter)};
    state_of(facts, snapshot);
    take_counts(facts, snapshot);
    take_speed(facts, snapshot);
    if (snapshot->has_progress) {
        facts->stage = snapshot->progress.stage;
        facts->drift = snapshot->progress.drift[0] == 0 ? NULL : snapshot->progress.drift;
        facts->drift_score = snapshot->progress.score;
        take_device(source);
    }
    return STATUS_OK;
}

void report_source_free(struct report_source *source) {
    run_snapshot_free(&source->snapshot);
    buffer_destroy(&source->detail);
    buffer_destroy(&source->refused);
}

// ---- a set ----

static enum report_tone tone_of(enum part_state state) {
    static const enum report_tone tones[] = {
        [PART_FINISHED] = TONE_GREEN, [PART_RUNNING] = TONE_BLUE, [PART_STOPPED] = TONE_AMBER,
        [PART_KILLED] = TONE_RED,     [PART_FAILED] = TONE_RED,   [PART_DAMAGED] = TONE_RED,
        [PART_NEW] = TONE_GREY};
    return tones[state];
}

static void take_totals(struct report_part *out, const struct ledger_totals *totals) {
    out->done = totals->done;
    out->failed = totals->failed;
    out->skipped = totals->skipped;
    out->shards = totals->shards;
    out->bytes = totals->bytes;
}

static int take_part(struct report_set_source *source, size_t index, struct error *err) {
    const struct part_snapshot *part = &source->snapshot.parts[index];
    struct report_part *out = &source->parts[index];
    TRY(part_snapshot_describe(&source->snapshot, index, &source->details[index], err));
    const struct run_list_member *member = &source->snapshot.list.members[index];
    bool readable = member->there && part->state != PART_DAMAGED;
    *out = (struct report_part){.folder = readable ? member->folder : NULL,
                                .state = part_state_name(part->state),
                                .tone = tone_of(part->state),
                                .detail = text_of(&source->details[index]),
                                .has_total = part->has_survey,
                                .problems = part->problems,
                                .tokens = part->tokens,
                                .tokens_total = part->tokens_total,
                                .rate = part->rate,
                                .eta = part->has_eta ? part->eta : 0};
    take_totals(out, &part->totals);
    return STATUS_OK;
}

static int describe_states(struct buffer *out, const struct set_snapshot *snapshot, struct error *err) {
    TRY(buffer_printf(out, err, "%" PRIu64 " parts", snapshot->list.parts));
    for (int i = 0; i < PART_STATES; i++) {
        if (snapshot->states[i] > 0) {
            TRY(buffer_printf(out, err, ", %" PRIu64 " %s", snapshot->states[i],
                              part_state_name((enum part_state)i)));
        }
    }
    return STATUS_OK;
}

static void take_sums(struct report_set_source *source) {
    const struct set_snapshot *snapshot = &source->snapshot;
    struct report_part *total = &source->set.total;
    bool bad =
        snapshot->states[PART_FAILED] + snapshot->states[PART_KILLED] + snapshot->states[PART_DAMAGED] > 0;
    bool running = snapshot->states[PART_RUNNING] > 0;
    *total = (struct report_part){.detail = text_of(&source->detail),
                                  .has_total = snapshot->has_problems,
                                  .problems = snapshot->problems,
                                  .tokens = snapshot->tokens,
                                  .tokens_total = snapshot->tokens_total,
                                  .rate = snapshot->rate,
                                  .eta = snapshot->has_all ? snapshot->all : 0};
    total->state = snapshot->totals.finished ? "finished" : running ? "running" : "not running";
    total->tone = snapshot->totals.finished ? TONE_GREEN : bad ? TONE_RED : running ? TONE_BLUE : TONE_AMBER;
    take_totals(total, &snapshot->totals);
}

int report_set_source_take(struct report_set_source *source, const char *folder, struct error *err) {
    const char *const folders[] = {folder};
    struct set_snapshot *snapshot = &source->snapshot;
    *source = (struct report_set_source){0};
    TRY(set_snapshot_take(snapshot, folders, 1, err));
    TRY(memory_zeroed(&source->parts, snapshot->list.count, sizeof *source->parts, err));
    TRY(memory_zeroed(&source->details, snapshot->list.count, sizeof *source->details, err));
    for (size_t i = 0; i < snapshot->list.count; i++) {
        TRY(take_part(source, i, err));
    }
    TRY(describe_states(&source->detail, snapshot, err));
    source->set = (struct report_set){.folder = folder,
                                      .now = snapshot->now,
                                      .running = snapshot->states[PART_RUNNING] > 0,
                                      .parts = source->parts,
                                      .part_count = snapshot->list.count};
    take_sums(source);
    return STATUS_OK;
}

void report_set_source_free(struct report_set_source *source) {
    for (size_t i = 0; source->details != NULL && i < source->snapshot.list.count; i++) {
        buffer_destroy(&source->details[i]);
    }
    free(source->details);
    free(source->parts);
    buffer_destroy(&source->detail);
    set_snapshot_free(&source->snapshot);
}
