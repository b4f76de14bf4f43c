// SPDX-License-Identifier: MIT
#include "commands/set_snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/survey_file.h"
#include "commands/readable.h"

const char *part_state_name(enum part_state state) {
    static const char *const names[] = {
        [PART_FINISHED] = "finished", [PART_RUNNING] = "running", [PART_STOPPED] = "stopped",
        [PART_KILLED] = "killed",     [PART_FAILED] = "failed",   [PART_DAMAGED] = "damaged",
        [PART_NEW] = "not begun"};
    return names[state];
}

// ---- one part ----

static enum part_state state_of_end(const struct ledger_launch_record *launch) {
    return launch->ended == 0                                               ? PART_KILLED
           : launch->exit_code == 0 || launch->exit_code == -STATUS_STOPPED ? PART_STOPPED
                                                                            : PART_FAILED;
}

// The last launch counts, though it came to nothing: it is what has to be seen to.
static enum part_state state_of(const struct run_snapshot *run) {
    if (run->state == RUN_RUNNING) {
        return PART_RUNNING;
    }
    if (run->totals.finished) {
        return PART_FINISHED;
    }
    return run->state == RUN_NEW ? PART_NEW : state_of_end(run->refused ? &run->refusal : &run->launch);
}

static void take_launch(struct part_snapshot *part, const struct ledger_launch_record *launch) {
    part->process = launch->process;
    part->exit_code = launch->ended == 0 ? -1 : launch->exit_code;
    snprintf(part->host, sizeof part->host, "%s", launch->host);
    snprintf(part->reason, sizeof part->reason, "%s", launch->ended == 0 ? "" : launch->reason);
}

static void take_run(struct part_snapshot *part, const struct run_snapshot *run) {
    part->state = state_of(run);
    part->totals = run->totals;
    part->transient = run->failures.transient;
    part->has_survey = run->has_survey;
    part->problems = run->survey.problems;
    part->tokens_total = run->survey.tokens;
    part->tokens = run->tokens;
    if (part->state == PART_RUNNING && run->has_progress) {
        part->rate = run->progress.tokens_per_second;
        part->has_eta = run->has_eta;
        part->eta = run->eta;
        snprintf(part->stage, sizeof part->stage, "%s", run->progress.stage);
    }
    if (run->launches > 0) {
        bool refused = run->refused && part->state != PART_FINISHED;
        take_launch(part, refused ? &run->refusal : &run->launch);
    }
}

static int damaged(struct part_snapshot *part, const char *why) {
    part->state = PART_DAMAGED;
    snprintf(part->reason, sizeof part->reason, "%.*s", (int)sizeof part->reason - 1, why);
    return STATUS_OK;
}

static int take_part(struct part_snapshot *part, const struct run_list_member *member, struct error *err) {
    struct run_snapshot run;
    *part = (struct part_snapshot){.state = PART_NEW, .given = member->folder[0] != 0, .exit_code = -1};
    if (member->fault != NULL) {
        return damaged(part, member->fault);
    }
    if (!member->there) { // it may wait for the survey
        part->state = part->given && run_folder_busy(member->folder) ? PART_RUNNING : PART_NEW;
        return STATUS_OK;
    }
    int status = run_snapshot_take(&run, member->folder, err);
    if (status == STATUS_OK) {
        take_run(part, &run);
    }
    run_snapshot_free(&run);
    return status == STATUS_DATA ? damaged(part, err->message) : status;
}

// ---- all of them ----

static void add_totals(struct ledger_totals *sum, const struct ledger_totals *totals) {
    sum->done += totals->done;
    sum->failed += totals->failed;
    sum->skipped += totals->skipped;
    sum->shards += totals->shards;
    sum->batches += totals->batches;
    sum->rows += totals->rows;
    sum->tokens += totals->tokens;
    sum->bytes += totals->bytes;
    sum->truncated += totals->truncated;
    sum->overflowed += totals->overflowed;
    sum->compute_seconds += totals->compute_seconds;
    sum->wait_seconds += totals->wait_seconds;
    sum->last_commit = totals->last_commit > sum->last_commit ? totals->last_commit : sum->last_commit;
}

static void add_part(struct set_snapshot *snapshot, const struct part_snapshot *part) {
    snapshot->has_tokens = snapshot->has_tokens && part->given && part->has_survey;
    if (!part->given) {
        return;
    }
    snapshot->given++;
    snapshot->states[part->state]++;
    add_totals(&snapshot->totals, &part->totals);
    snapshot->transient += part->transient;
    snapshot->tokens += part->tokens;
    snapshot->rate += part->rate;
    snapshot->problems += part->problems;
    snapshot->tokens_total += part->tokens_total;
    if (part->state == PART_RUNNING && part->has_eta && part->eta >= snapshot->slowest) {
        snapshot->has_slowest = true;
        snapshot->slowest = part->eta;
    }
}

static double bytes_of(const struct row_blocks *blocks, uint64_t first, uint64_t end) {
    double bytes = 0;
    for (uint64_t row = first; row < end && row < blocks->rows; row += blocks->per_block) {
        bytes += (double)blocks->blocks[row / blocks->per_block].bytes;
    }
    return bytes;
}

// Tokens of the parts that have not counted theirs, from the bytes of their rows.
static void estimate(struct set_snapshot *snapshot, const struct row_blocks *blocks) {
    double all = bytes_of(blocks, 0, blocks->rows);
    double known = 0;
    for (size_t i = 0; i < snapshot->list.count; i++) {
        const struct run_list_member *member = &snapshot->list.members[i];
        if (snapshot->parts[i].has_survey && member->begun) {
            known += bytes_of(blocks, member->first, member->end);
        }
    }
    if (known > 0) {
        double per_byte = (double)snapshot->tokens_total / known;
        double others = all > known ? all - known : 0;
        snapshot->tokens_total += (uint64_t)(others * per_byte);
        snapshot->has_estimate = true;
    }
}

// The survey of all rows knows of the parts that have none yet. One that cannot be read is verify's to tell.
static int read_survey(struct set_snapshot *snapshot, struct error *err) {
    struct survey_file survey = {0};
    char path[PATH_SIZE];
    bool found = false;
    TRY(path_join(path, sizeof path, snapshot->list.set, RUN_SET_SURVEY, err));
    int status = survey_file_read(&survey, path, &found, err);
    if (status == STATUS_OK && found) {
        snapshot->has_problems = true;
        snapshot->problems = survey.blocks.rows;
        if (!snapshot->has_tokens) {
            estimate(snapshot, &survey.blocks);
        }
    }
    survey_file_destroy(&survey);
    return status == STATUS_DATA ? STATUS_OK : status;
}

static void derive(struct set_snapshot *snapshot) {
    bool known = snapshot->has_tokens || snapshot->has_estimate;
    uint64_t left = snapshot->tokens_total > snapshot->tokens ? snapshot->tokens_total - snapshot->tokens : 0;
    snapshot->totals.finished = snapshot->states[PART_FINISHED] == snapshot->list.parts;
    snapshot->has_all = known && !snapshot->totals.finished && snapshot->rate > 0;
    snapshot->all = snapshot->has_all ? (double)left / snapshot->rate : 0;
}

int set_snapshot_take(struct set_snapshot *snapshot, const char *const *folders, size_t count,
                      struct error *err) {
    *snapshot = (struct set_snapshot){.now = clock_unix(), .has_tokens = true};
    TRY(run_list_look(&snapshot->list, folders, count, err));
    TRY(memory_zeroed(&snapshot->parts, snapshot->list.count, sizeof *snapshot->parts, err));
    for (size_t i = 0; i < snapshot->list.count; i++) {
        TRY(take_part(&snapshot->parts[i], &snapshot->list.members[i], err));
        add_part(snapshot, &snapshot->parts[i]);
    }
    snapshot->has_problems = snapshot->has_tokens;
    TRY(snapshot->list.set[0] != 0 ? read_survey(snapshot, err) : STATUS_OK);
    derive(snapshot);
    return STATUS_OK;
}

bool set_snapshot_runs(const struct set_snapshot *snapshot) {
    for (size_t i = 0; i < snapshot->list.count; i++) {
        if (snapshot->parts[i].state == PART_RUNNING && run_folder_busy(snapshot->list.members[i].folder)) {
            return true;
        }
    }
    return false;
}

void set_snapshot_free(struct set_snapshot *snapshot) {
    free(snapshot->parts);
    run_list_destroy(&snapshot->list);
    *snapshot = (struct set_snapshot){0};
}

// ---- a part in one line ----

static int describe_end(const struct part_snapshot *part, struct buffer *line, struct error *err) {
    if (part->exit_code >= 0) {
        TRY(buffer_printf(line, err, ", exit code %d", part->exit_code));
    }
    return part->reason[0] == 0 ? STATUS_OK : buffer_printf(line, err, ": %s", part->reason);
}

static int describe_running(const struct part_snapshot *part, struct buffer *line, struct error *err) {
    char text[READABLE_TEXT];
    if (part->host[0] != 0) {
        TRY(buffer_printf(line, err, " on %s", part->host));
    }
    if (part->rate == 0) {
        return part->stage[0] == 0 ? STATUS_OK : buffer_printf(line, err, ", %s", part->stage);
    }
    TRY(buffer_printf(line, err, ", %s tokens/s", readable_rate(part->rate, text)));
    return part->has_eta ? buffer_printf(line, err, ", about %s left", readable_duration(part->eta, text))
                         : STATUS_OK;
}

int part_snapshot_describe(const struct set_snapshot *snapshot, size_t index, struct buffer *line,
                           struct error *err) {
    const struct part_snapshot *part = &snapshot->parts[index];
    char text[READABLE_TEXT];
    TRY(buffer_printf(line, err, "%s", part_state_name(part->state)));
    if (part->state == PART_RUNNING) {
        TRY(describe_running(part, line, err));
    }
    if (part->has_survey && part->state != PART_FINISHED) {
        TRY(buffer_printf(line, err, ", %s", readable_share(part->tokens, part->tokens_total, text)));
    }
    if (part->state != PART_RUNNING) {
        TRY(describe_end(part, line, err));
    }
    if (part->state == PART_RUNNING || part->state == PART_FINISHED || part->state == PART_DAMAGED) {
        return STATUS_OK;
    }
    TRY(buffer_printf(line, err, "; run it: "));
    return run_list_command(&snapshot->list, index, line, err);
}
