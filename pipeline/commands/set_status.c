// SPDX-License-Identifier: MIT
#include "commands/set_status.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/printable.h"
#include "commands/readable.h"

// ---- text ----

// "41 finished, 20 running, 3 not begun".
static void print_states(FILE *out, const uint64_t states[PART_STATES]) {
    const char *between = "";
    for (int i = 0; i < PART_STATES; i++) {
        if (states[i] > 0) {
            fprintf(out, "%s%" PRIu64 " %s", between, states[i], part_state_name((enum part_state)i));
            between = ", ";
        }
    }
}

static void print_headline(FILE *out, const struct set_snapshot *snapshot) {
    const struct run_list *list = &snapshot->list;
    printable_write(out, list->name);
    if (snapshot->given < list->parts) {
        fprintf(out, ": %" PRIu64 " of %" PRIu64 " parts: ", snapshot->given, list->parts);
    } else {
        fprintf(out, ": %" PRIu64 " parts: ", list->parts);
    }
    print_states(out, snapshot->states);
    fputc('\n', out);
}

static uint64_t remaining(const struct set_snapshot *snapshot) {
    uint64_t settled = snapshot->totals.done + snapshot->totals.failed + snapshot->totals.skipped;
    return snapshot->problems > settled ? snapshot->problems - settled : 0;
}

static bool has_total(const struct set_snapshot *snapshot) {
    return snapshot->has_tokens || snapshot->has_estimate;
}

static void print_counts(FILE *out, const struct set_snapshot *snapshot) {
    const struct ledger_totals *totals = &snapshot->totals;
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char c[READABLE_TEXT];
    char d[READABLE_TEXT];
    char e[READABLE_TEXT];
    fprintf(out, "  problems    %s done, %s failed, %s skipped", readable_count(totals->done, a),
            readable_count(totals->failed, b), readable_count(totals->skipped, c));
    if (snapshot->has_problems) {
        fprintf(out, ", %s remaining of %s", readable_count(remaining(snapshot), d),
                readable_count(snapshot->problems, e));
    }
    fputc('\n', out);
    if (snapshot->transient > 0) {
        fprintf(out, "  failed      %s may be retried (strata run --retry-failed, part by part)\n",
                readable_count(snapshot->transient, a));
    }
    fprintf(out, "  tokens      %s", readable_count(snapshot->tokens, a));
    if (has_total(snapshot)) {
        fprintf(out, " of %s%s, %s", snapshot->has_tokens ? "" : "about ",
                readable_count(snapshot->tokens_total, b),
                readable_share(snapshot->tokens, snapshot->tokens_total, c));
    }
    fprintf(out, "\n  latents     %s rows in %s shards, %s\n", readable_count(totals->rows, a),
            readable_count(totals->shards, b), readable_bytes(totals->bytes, c));
}

static void print_speed(FILE *out, const struct set_snapshot *snapshot) {
    char text[READABLE_TEXT];
    uint64_t running = snapshot->states[PART_RUNNING];
    fprintf(out, "  speed       %s tokens/s now, %" PRIu64 " part%s running\n",
            snapshot->rate > 0 ? readable_rate(snapshot->rate, text) : "0", running, running == 1 ? "" : "s");
    if (snapshot->has_slowest) {
        fprintf(out, "  time        about %s until the slowest running part is done",
                readable_duration(snapshot->slowest, text));
        if (snapshot->has_all) {
            fprintf(out, ", %s for all parts at this speed", readable_duration(snapshot->all, text));
        }
        fputc('\n', out);
    }
    if (snapshot->totals.last_commit != 0) {
        fprintf(out, "  checkpoint  %s ago\n",
                readable_duration((double)(snapshot->now - snapshot->totals.last_commit), text));
    }
}

// What is wrong comes first, then what goes on, then what has not begun; what is done needs no line.
static int urgency(const struct part_snapshot *part) {
    static const int of_state[PART_STATES] = {[PART_DAMAGED] = 0, [PART_FAILED] = 0,  [PART_KILLED] = 1,
                                              [PART_STOPPED] = 1, [PART_RUNNING] = 2, [PART_NEW] = 3};
    return part->state == PART_FINISHED ? (part->exit_code > 0 ? 0 : -1) : of_state[part->state];
}

static int print_part(FILE *out, const struct set_snapshot *snapshot, size_t index, struct error *err) {
    struct buffer line = {0};
    int status = part_snapshot_describe(snapshot, index, &line, err);
    if (status == STATUS_OK) {
        fprintf(out, "  part %zu/%" PRIu64 "  ", index, snapshot->list.parts);
        printable_write(out, line.data);
        fputc('\n', out);
    }
    buffer_destroy(&line);
    return status;
}

static int print_parts(FILE *out, const struct set_snapshot *snapshot, int most, struct error *err) {
    enum { LEVELS = 4 };
    uint64_t more[PART_STATES] = {0};
    uint64_t left_out = 0;
    int shown = 0;
    for (int level = 0; level < LEVELS; level++) {
        for (size_t i = 0; i < snapshot->list.count; i++) {
            const struct part_snapshot *part = &snapshot->parts[i];
            if (!part->given || urgency(part) != level) {
                continue;
            }
            if (shown < most) {
                TRY(print_part(out, snapshot, i, err));
                shown++;
            } else {
                more[part->state]++;
                left_out++;
            }
        }
    }
    if (left_out > 0) {
        fprintf(out, "  and %" PRIu64 " more: ", left_out);
        print_states(out, more);
        fputc('\n', out);
    }
    return STATUS_OK;
}

int set_status_page(FILE *out, const struct set_snapshot *snapshot, int most, struct error *err) {
    print_headline(out, snapshot);
    print_counts(out, snapshot);
    print_speed(out, snapshot);
    return print_parts(out, snapshot, most, err);
}

void set_status_line(FILE *out, const struct set_snapshot *snapshot) {
    char now[CLOCK_TEXT];
    char share[READABLE_TEXT];
    char rate[READABLE_TEXT];
    char left[READABLE_TEXT];
    clock_text(snapshot->now, now);
    fprintf(out, "%s ", now);
    print_states(out, snapshot->states);
    fprintf(out, "; %s, %" PRIu64 " problems failed, %s tokens/s, %s left\n",
            has_total(snapshot) ? readable_share(snapshot->tokens, snapshot->tokens_total, share) : "-",
            snapshot->totals.failed, readable_rate(snapshot->rate, rate),
            snapshot->has_all ? readable_duration(snapshot->all, left) : "-");
}

// ---- JSON ----

static const char *json_name(enum part_state state) {
    return state == PART_NEW ? "new" : part_state_name(state);
}

static json_t *describe_part(const struct set_snapshot *snapshot, size_t index, const char *command) {
    const struct part_snapshot *part = &snapshot->parts[index];
    const struct run_list_member *member = &snapshot->list.members[index];
    const struct ledger_totals *totals = &part->totals;
    bool has_rows = member->begun && member->first < member->end;
    return json_pack(
        "{s:I, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o, s:o, s:o}, s:{s:I, s:o}, s:o, s:o, "
        "s:{s:I, s:I, s:I}, s:s}",
        "part", (json_int_t)index, "folder", json_text_if(member->folder[0] != 0, member->folder), "state",
        json_name(part->state), "host", json_text_if(part->host[0] != 0, part->host), "process",
        json_count_if(part->host[0] != 0, (uint64_t)part->process), "exit_code",
        json_count_if(part->exit_code >= 0, (uint64_t)part->exit_code), "reason",
        json_text_if(part->reason[0] != 0, part->reason), "first_row", json_count_if(has_rows, member->first),
        "last_row", json_count_if(has_rows, member->end - 1), "problems", "total",
        json_count_if(part->has_survey, part->problems), "done", json_count(totals->done), "failed",
        json_count(totals->failed), "skipped", json_count(totals->skipped), "tokens", "done",
        (json_int_t)part->tokens, "total", json_count_if(part->has_survey, part->tokens_total),
        "tokens_per_second", json_real(part->rate), "seconds_remaining",
        json_real_if(part->has_eta, part->eta), "shards", "count", (json_int_t)totals->shards, "bytes",
        (json_int_t)totals->bytes, "rows", (json_int_t)totals->rows, "command", command);
}

static json_t *describe_states(const struct set_snapshot *snapshot) {
    json_t *states = json_object();
    for (int i = 0; i < PART_STATES; i++) {
        json_object_set_new(states, json_name((enum part_state)i), json_count(snapshot->states[i]));
    }
    return states;
}

static json_t *describe(const struct set_snapshot *snapshot, json_t *parts) {
    const struct ledger_totals *totals = &snapshot->totals;
    bool problems = snapshot->has_problems;
    return json_pack(
        "{s:i, s:o, s:I, s:I, s:b, s:o, s:{s:o, s:I, s:I, s:I, s:o, s:I, s:I}, s:{s:I, s:o, s:b}, s:f, "
        "s:{s:o, s:o}, s:o, s:I, s:{s:I, s:I, s:I}, s:o}",
        "set_version", 1, "folder", json_text_if(snapshot->list.set[0] != 0, snapshot->list.set), "time",
        (json_int_t)snapshot->now, "count", (json_int_t)snapshot->list.parts, "finished",
        (int)totals->finished, "states", describe_states(snapshot), "problems", "total",
        json_count_if(problems, snapshot->problems), "done", (json_int_t)totals->done, "failed",
        (json_int_t)totals->failed, "skipped", (json_int_t)totals->skipped, "remaining",
        json_count_if(problems, remaining(snapshot)), "truncated", (json_int_t)totals->truncated, "transient",
        (json_int_t)snapshot->transient, "tokens", "done", (json_int_t)snapshot->tokens, "total",
        json_count_if(has_total(snapshot), snapshot->tokens_total), "estimated",
        !snapshot->has_tokens && snapshot->has_estimate, "tokens_per_second", snapshot->rate,
        "seconds_remaining", "slowest", json_real_if(snapshot->has_slowest, snapshot->slowest), "all",
        json_real_if(snapshot->has_all, snapshot->all), "last_checkpoint",
        json_count_if(totals->last_commit != 0, (uint64_t)totals->last_commit), "overflowed",
        (json_int_t)totals->overflowed, "shards", "count", (json_int_t)totals->shards, "bytes",
        (json_int_t)totals->bytes, "rows", (json_int_t)totals->rows, "parts", parts);
}

static int describe_parts(json_t *parts, const struct set_snapshot *snapshot, struct error *err) {
    struct buffer command = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < snapshot->list.count; i++) {
        if (!snapshot->parts[i].given) {
            continue;
        }
        buffer_clear(&command);
        TRY_TO(done, status = run_list_command(&snapshot->list, i, &command, err));
        json_array_append_new(parts, describe_part(snapshot, i, command.data));
    }
done:
    buffer_destroy(&command);
    return status;
}

int set_status_json(FILE *out, const struct set_snapshot *snapshot, bool one_line, struct error *err) {
    json_t *parts = json_array();
    json_t *document = NULL;
    char *text = NULL;
    int status = describe_parts(parts, snapshot, err);
    if (status != STATUS_OK) {
        json_decref(parts);
        return status;
    }
    document = describe(snapshot, parts);
    if (document != NULL) {
        text = json_dumps(document, (one_line ? JSON_COMPACT : JSON_INDENT(2)) | JSON_REAL_PRECISION(12));
    }
    json_decref(document);
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "cannot describe the set as JSON");
    }
    printable_write_lines(out, text);
    fputc('\n', out);
    free(text);
    return STATUS_OK;
}
