// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/printable.h"
#include "base/terminal.h"
#include "checkpoints/view.h"
#include "commands/command.h"
#include "commands/device_figures.h"
#include "commands/readable.h"
#include "commands/run_snapshot.h"
#include "commands/set_status.h"
#include "commands/status_json.h"
#include "commands/status_prometheus.h"
#include "start/fill.h"

// ---- text ----

static void print_headline(FILE *out, const char *folder, const struct run_snapshot *snapshot) {
    const struct ledger_launch_record *launch = &snapshot->launch;
    char started[CLOCK_TEXT];
    char ended[CLOCK_TEXT];
    char threads[READABLE_TEXT];
    char host[PRINTABLE_TEXT];
    clock_text(launch->started, started);
    clock_text(launch->ended, ended);
    printable(host, sizeof host, launch->host);
    printable_write(out, folder);
    fputs(": ", out);
    switch (snapshot->state) {
    case RUN_NEW:
        fputs("not launched yet\n", out);
        break;
    case RUN_RUNNING:
        fprintf(out, "running since %s, launch %" PRIu64 ", process %" PRId64 " on %s%s\n", started,
                launch->epoch, launch->process, host, readable_threads(launch->threads, threads));
        break;
    case RUN_KILLED:
        fprintf(out,
                "not running (killed): launch %" PRIu64 " of %s, process %" PRId64 " on %s, left no end\n",
                launch->epoch, started, launch->process, host);
        break;
    case RUN_ENDED:
        fprintf(out, "not running: launch %" PRIu64 " ended %s with exit code %d%s", launch->epoch, ended,
                launch->exit_code, launch->reason[0] == 0 ? "" : ": ");
        printable_write(out, launch->reason);
        fputc('\n', out);
        break;
    }
}

// A launch that came to nothing before it worked on the run (another identity, no model) is told apart.
static void print_refusal(FILE *out, const struct run_snapshot *snapshot) {
    const struct ledger_launch_record *refusal = &snapshot->refusal;
    char when[CLOCK_TEXT];
    if (!snapshot->refused) {
        return;
    }
    clock_text(refusal->ended == 0 ? refusal->started : refusal->ended, when);
    fprintf(out, "  refused     launch %" PRIu64, refusal->epoch);
    if (refusal->ended == 0) {
        fprintf(out, " of %s ended without a record before its first batch\n", when);
    } else {
        fprintf(out, " ended %s before its first batch with exit code %d%s", when, refusal->exit_code,
                refusal->reason[0] == 0 ? "" : ": ");
        printable_write(out, refusal->reason);
        fputc('\n', out);
    }
}

static void print_elsewhere(FILE *out, const struct run_snapshot *snapshot) {
    if (snapshot->elsewhere.size > 0) {
        fputs("  elsewhere   ", out);
        printable_write(out, snapshot->elsewhere.data);
        fputs(", or was killed there; this is its last copy\n", out);
    }
}

static void print_bar(FILE *out, const struct run_snapshot *snapshot, int columns) {
    enum { WIDEST = 50, AROUND = 12 }; // the brackets and "100.0 %"
    int width = columns < WIDEST + AROUND ? columns - AROUND : WIDEST;
    char share[READABLE_TEXT];
    uint64_t all = snapshot->survey.tokens;
    uint64_t part = snapshot->totals.finished || snapshot->tokens > all ? all : snapshot->tokens;
    int filled = all == 0 ? 0 : (int)((double)part / (double)all * width);
    fputs("  [", out);
    for (int i = 0; i < width; i++) {
        fputc(i < filled ? '#' : '.', out);
    }
    fprintf(out, "] %s\n", readable_share(part, all, share));
}

static void print_failures(FILE *out, const struct run_snapshot *snapshot) {
    const struct ledger_retry_counts *failures = &snapshot->failures;
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char c[READABLE_TEXT];
    uint64_t failed = snapshot->totals.failed;
    uint64_t others = failed > failures->transient ? failed - failures->transient : 0;
    if (failures->transient > 0) {
        fprintf(out,
                "  failed      %s may be retried (strata run --retry-failed), %s because of their rows\n",
                readable_count(failures->transient, a), readable_count(others, b));
    }
    if (failures->tried > 0) {
        fprintf(out, "  retry       %s retried: %s done, %s still to come\n",
                readable_count(failures->tried, a), readable_count(failures->succeeded, b),
                readable_count(failures->waiting, c));
    }
}

static void print_counts(FILE *out, const struct run_snapshot *snapshot) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    char c[READABLE_TEXT];
    char d[READABLE_TEXT];
    char e[READABLE_TEXT];
    const struct ledger_totals *totals = &snapshot->totals;
    const struct ledger_progress *progress = &snapshot->progress;
    if (snapshot->has_survey) {
        fprintf(out, "  problems    %s done, %s failed, %s skipped, %s remaining of %s\n",
                readable_count(totals->done, a), readable_count(totals->failed, b),
                readable_count(totals->skipped, c), readable_count(snapshot->remaining, d),
                readable_count(snapshot->survey.problems, e));
    } else {
        fputs("  problems    not counted yet\n", out);
    }
    print_failures(out, snapshot);
    char stage[PRINTABLE_TEXT];
    fprintf(out, "  stage       %s; %s of %s batches",
            snapshot->has_progress ? printable(stage, sizeof stage, progress->stage) : "none yet",
            readable_count(snapshot->batches, a),
            snapshot->has_survey ? readable_count(snapshot->planned_batches, b) : "?");
    if (snapshot->state == RUN_RUNNING && strcmp(progress->stage, "loading") == 0) {
        fprintf(out, "; %s of %s of weights", readable_bytes(progress->loaded_bytes, a),
                readable_bytes(progress->load_bytes, b));
    }
    fputc('\n', out);
    if (snapshot->has_survey && snapshot->text_tokens > 0) {
        fprintf(out, "  prefixes    %s tokens are computed of %s, since texts begin alike\n",
                readable_count(snapshot->survey.tokens, a), readable_count(snapshot->text_tokens, b));
    }
}

static void print_speed(FILE *out, const struct run_snapshot *snapshot) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    bool running = snapshot->state == RUN_RUNNING && snapshot->progress.tokens_per_second > 0;
    fprintf(out, "  speed       %s tokens/s now, %s overall\n",
            running ? readable_rate(snapshot->progress.tokens_per_second, a) : "0",
            snapshot->overall_rate > 0 ? readable_rate(snapshot->overall_rate, b) : "-");
    fprintf(out, "  time        %s elapsed", readable_duration(snapshot->elapsed, a));
    if (snapshot->totals.finished) {
        fputs(", finished", out);
    } else if (snapshot->has_eta) {
        fprintf(out, ", about %s left", readable_duration(snapshot->eta, b));
    }
    fputc('\n', out);
    enum { INDENT = 2 };
    predicted_write(out, INDENT, &snapshot->predicted);
}

// Only of a run on a GPU, which takes every batch for as large as the largest.
static void print_fill(FILE *out, const struct run_snapshot *snapshot) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    if (snapshot->batch_tokens > 0 && snapshot->filled_shapes > 0) {
        struct fill fill = fill_of(snapshot->filled_tokens, snapshot->filled_shapes, snapshot->batch_tokens);
        fprintf(out, "  fill        %.1f %%: %s tokens computed for %s of texts\n", 100 * fill.share,
                readable_count(fill.device_tokens, a), readable_count(snapshot->filled_tokens, b));
    }
}

static void print_storage(FILE *out, const struct run_snapshot *snapshot) {
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    const struct ledger_totals *totals = &snapshot->totals;
    if (totals->last_commit == 0) {
        fputs("  checkpoint  none yet\n", out);
    } else {
        fprintf(out, "  checkpoint  %s ago; %" PRIu64 " shards, %s\n",
                readable_duration((double)(snapshot->now - totals->last_commit), a), totals->shards,
                readable_bytes(totals->bytes, b));
    }
    fprintf(out, "  disk        %s free", readable_bytes(snapshot->disk_free, a));
    if (snapshot->has_planned) {
        fprintf(out, ", about %s still to be written", readable_bytes(snapshot->planned, b));
    }
    fputc('\n', out);
    if (totals->shards > VIEW_SHARDS) {
        fprintf(out, "  latents.h5  not written beyond %d shards: " VIEW_INSTEAD "\n", VIEW_SHARDS);
    }
}

// Where the model lies, as the last launch found it piece by piece.
static void print_residency(FILE *out, const struct run_snapshot *snapshot) {
    json_t *report = status_residency(snapshot);
    const char *kind = json_string_value(json_object_get(report, "kind"));
    const json_t *driver = json_object_get(report, "process_bytes");
    const json_t *streaming = json_object_get(report, "streaming");
    char a[READABLE_TEXT];
    char b[READABLE_TEXT];
    if (kind != NULL) {
        char shown[PRINTABLE_TEXT];
        fprintf(out, "  resident    %s: all %lld pieces, %s", printable(shown, sizeof shown, kind),
                (long long)json_integer_value(json_object_get(report, "pieces")),
                readable_bytes((uint64_t)json_integer_value(json_object_get(report, "bytes")), a));
        if (streaming != NULL) {
            fprintf(out, "; %lld of %lld blocks come from %s for every %lld batches",
                    (long long)json_integer_value(json_object_get(streaming, "streamed")),
                    (long long)json_integer_value(json_object_get(streaming, "blocks")),
                    json_is_true(json_object_get(streaming, "host")) ? "host memory" : "their files",
                    (long long)json_integer_value(json_object_get(streaming, "batches")));
        }
        if (driver != NULL) {
            fprintf(out, "; the driver counts %s for the process",
                    readable_bytes((uint64_t)json_integer_value(driver), b));
        }
        fputc('\n', out);
    }
    json_decref(report);
}

// Of several devices, each has a line of its own.
static void print_devices(FILE *out, const struct run_snapshot *snapshot) {
    const char *when = snapshot->state == RUN_RUNNING ? "" : " (at the last batch)";
    for (size_t i = 0; i < snapshot->lane_count; i++) {
        device_lane_line(out, &snapshot->lanes[i], when);
    }
    if (snapshot->lane_count == 0) {
        device_figures_lines(out, &snapshot->progress.device, when);
    }
}

static void print_health(FILE *out, const struct run_snapshot *snapshot) {
    char a[READABLE_TEXT];
    const struct ledger_progress *progress = &snapshot->progress;
    if (snapshot->has_progress) {
        char drift[PRINTABLE_TEXT];
        if (progress->drift[0] == 0) { // it ended before its batches were watched
            fputs("  drift       -\n", out);
        } else {
            fprintf(out, "  drift       %s, score %+.3f\n", printable(drift, sizeof drift, progress->drift),
                    progress->score);
        }
        fprintf(out, "  memory      %s\n", readable_bytes(progress->memory_bytes, a));
    }
    if (snapshot->cpu_paths.size > 0) {
        fputs("  cpu paths   ", out);
        printable_write(out, snapshot->cpu_paths.data);
        fputs(": latents may differ in bits between them\n", out);
    }
    if (snapshot->weights.size > 0) {
        fputs("  weights     ", out);
        printable_write(out, snapshot->weights.data);
        fputc('\n', out);
    }
    if (snapshot->adapter.size > 0) {
        fputs("  adapter     ", out);
        printable_write(out, snapshot->adapter.data);
        fputc('\n', out);
    }
    print_residency(out, snapshot);
    if (snapshot->has_progress) {
        print_devices(out, snapshot);
    }
    if (snapshot->totals.truncated > 0) {
        fprintf(out, "  truncated   %s problems\n", readable_count(snapshot->totals.truncated, a));
    }
    if (snapshot->totals.overflowed > 0) {
        fprintf(out, "  overflowed  %s numbers beyond float16\n",
                readable_count(snapshot->totals.overflowed, a));
    }
}

// columns: of the terminal, which a bar is for; 0: of none.
static void print_text(FILE *out, const char *folder, const struct run_snapshot *snapshot, int columns) {
    print_headline(out, folder, snapshot);
    print_refusal(out, snapshot);
    print_elsewhere(out, snapshot);
    if (columns > 0 && snapshot->has_survey) {
        print_bar(out, snapshot, columns);
    }
    print_counts(out, snapshot);
    print_speed(out, snapshot);
    print_fill(out, snapshot);
    print_storage(out, snapshot);
    print_health(out, snapshot);
}

// One line, for logs that watch.
static void print_line(FILE *out, const struct run_snapshot *snapshot) {
    char now[CLOCK_TEXT];
    char share[READABLE_TEXT];
    char rate[READABLE_TEXT];
    char left[READABLE_TEXT];
    char stage[PRINTABLE_TEXT];
    char drift[PRINTABLE_TEXT];
    bool has_drift = snapshot->has_progress && snapshot->progress.drift[0] != 0;
    clock_text(snapshot->now, now);
    fprintf(out, "%s %s %s %s, %" PRIu64 " failed, %s tokens/s, %s left, drift %s\n", now,
            run_state_name(snapshot->state),
            snapshot->has_progress ? printable(stage, sizeof stage, snapshot->progress.stage) : "-",
            readable_share(snapshot->totals.finished ? snapshot->survey.tokens : snapshot->tokens,
                           snapshot->survey.tokens, share),
            snapshot->totals.failed, readable_rate(snapshot->progress.tokens_per_second, rate),
            snapshot->has_eta ? readable_duration(snapshot->eta, left) : "-",
            has_drift ? printable(drift, sizeof drift, snapshot->progress.drift) : "-");
}

// ---- the command ----

// What is printed of a moment: all of it, all of it on a cleared screen, or a line; or as programs read it.
enum form { PAGE, SCREEN, LINE, JSON, JSON_LINE, PROMETHEUS };

// A page or a screen, into memory first: on a terminal its lines fit.
static int print_page(FILE *out, struct readable_page *page, enum form form, struct error *err) {
    enum { HANG = 12 }; // behind the names, which begin in column 2
    return form == SCREEN ? readable_page_screen(page, out, HANG, err)
                          : readable_page_print(page, out, HANG, 0, readable_columns(out), err);
}

static int print_snapshot(FILE *out, const char *folder, const struct run_snapshot *snapshot, enum form form,
                          struct error *err) {
    struct readable_page page;
    switch (form) {
    case PAGE:
    case SCREEN:
        TRY(readable_page_open(&page, "the status", err));
        print_text(page.out, folder, snapshot, readable_columns(out));
        return print_page(out, &page, form, err);
    case LINE:
        print_line(out, snapshot);
        return STATUS_OK;
    case PROMETHEUS:
        status_prometheus_run(out, folder, snapshot);
        return STATUS_OK;
    default:
        return status_json_print(out, folder, snapshot, form == JSON_LINE, err);
    }
}

// out NULL: only *state.
static int look(FILE *out, const char *folder, enum form form, enum run_state *state, struct error *err) {
    struct run_snapshot snapshot;
    int status;
    TRY_TO(done, status = run_snapshot_take(&snapshot, folder, err));
    *state = snapshot.state;
    if (out != NULL) {
        status = print_snapshot(out, folder, &snapshot, form, err);
    }
done:
    run_snapshot_free(&snapshot);
    return status;
}

// Redraws in place on a terminal every second; otherwise a line every 10 s. Ends with the run.
static int watch(FILE *out, const char *folder, bool json, struct error *err) {
    enum { EVERY = 10 };
    bool terminal = !json && terminal_redraws(out);
    enum run_state state = RUN_RUNNING;
    for (;;) {
        TRY(look(out, folder, json ? JSON_LINE : terminal ? SCREEN : LINE, &state, err));
        if (fflush(out) != 0 || state != RUN_RUNNING) {
            return STATUS_OK;
        }
        // Between two lines the end of the run is still noticed within a second.
        for (int i = 0; i < (terminal ? 1 : EVERY) && state == RUN_RUNNING; i++) {
            clock_sleep(1);
            TRY(look(NULL, folder, LINE, &state, err));
        }
    }
}

// ---- of a set ----

struct folders {
    const char *const *words;
    size_t count;
};

static int print_set(FILE *out, const struct set_snapshot *snapshot, enum form form, struct error *err) {
    enum { ON_A_PAGE = 40, ON_A_SCREEN = 14 }; // the page that is redrawn has to fit
    struct readable_page page;
    int status;
    switch (form) {
    case SCREEN:
    case PAGE:
        TRY(readable_page_open(&page, "the status", err));
        status = set_status_page(page.out, snapshot, form == SCREEN ? ON_A_SCREEN : ON_A_PAGE, err);
        if (status != STATUS_OK) {
            readable_page_drop(&page);
            return status;
        }
        return print_page(out, &page, form, err);
    case LINE:
        set_status_line(out, snapshot);
        return STATUS_OK;
    case PROMETHEUS:
        status_prometheus_set(out, snapshot);
        return STATUS_OK;
    default:
        return set_status_json(out, snapshot, form == JSON_LINE, err);
    }
}

// Off a terminal, the end of the last part that runs is noticed within a second all the same.
static void wait_for_set(const struct set_snapshot *snapshot, double seconds) {
    for (double waited = 0; waited < seconds && set_snapshot_runs(snapshot); waited++) {
        clock_sleep(1);
    }
}

// every > 0: then waits so many seconds, or until no part runs.
static int look_at_set(FILE *out, const struct folders *folders, enum form form, double every, bool *running,
                       struct error *err) {
    struct set_snapshot snapshot;
    int status;
    TRY_TO(done, status = set_snapshot_take(&snapshot, folders->words, folders->count, err));
    TRY_TO(done, status = print_set(out, &snapshot, form, err));
    *running = snapshot.states[PART_RUNNING] > 0;
    if (*running && every > 0 && fflush(out) == 0) {
        wait_for_set(&snapshot, every);
    }
done:
    set_snapshot_free(&snapshot);
    return status;
}

static int watch_set(FILE *out, const struct folders *folders, bool json, struct error *err) {
    enum { EVERY = 10 };
    bool terminal = !json && terminal_redraws(out);
    enum form form = json ? JSON_LINE : terminal ? SCREEN : LINE;
    bool running = true;
    while (running && ferror(out) == 0) {
        TRY(look_at_set(out, folders, form, terminal ? 1 : EVERY, &running, err));
    }
    return STATUS_OK;
}

static int run(struct command_context *context, struct error *err) {
    bool json = argument_given(context->arguments, "--json");
    bool watches = argument_given(context->arguments, "--watch");
    bool metrics = argument_given(context->arguments, "--prometheus");
    enum form form = metrics ? PROMETHEUS : json ? JSON : PAGE;
    bool is_set = false;
    bool running;
    enum run_state state;
    struct folders folders = {0};
    folders.words = argument_words(context->arguments, &folders.count);
    if (metrics && (json || watches)) {
        return error_set(err, STATUS_USAGE, "--prometheus goes alone, without %s",
                         json ? "--json" : "--watch");
    }
    TRY(run_list_is_set(folders.words, folders.count, &is_set, err));
    if (is_set) {
        return watches ? watch_set(context->out, &folders, json, err)
                       : look_at_set(context->out, &folders, form, 0, &running, err);
    }
    return watches ? watch(context->out, folders.words[0], json, err)
                   : look(context->out, folders.words[0], form, &state, err);
}

static const struct operand operands[] = {
    RUNS_OPERAND,
};

static const struct option options[] = {
    {.name = "--json", .kind = OPTION_FLAG, .help = "one JSON object, documented below"},
    {.name = "--prometheus",
     .kind = OPTION_FLAG,
     .help = "metrics in Prometheus' text format, for node_exporter's textfile collector"},
    {.name = "--watch",
     .kind = OPTION_FLAG,
     .help = "refresh every second (every 10 s if not a terminal) until the run, or all parts that run, have "
             "ended"},
};

const struct command command_status = {
    .name = "status",
    .summary = "show a run's progress: counts, speed, time left, checkpoint, disk, drift",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details =
        "Reads the ledger only, and may be called at any time during and after a run.\n"
        "Of a set of parts it shows the sums, and a line for each part that is not finished or ended with an "
        "error, those\n"
        "that need a person first, with the command that runs the part.\n"
        "\n"
        "--json: these members stay; others may join them. Times are seconds since 1970, null means not "
        "known.\n"
        "  status_version 1, folder, time, finished (every problem is accounted for)\n"
        "  state              new, running, killed (no end recorded and the lock is free) or ended\n"
        "  launch             the last one that worked on the run or is starting: number, host, process, "
        "threads,\n"
        "                     started, ended, exit_code, reason; or null\n"
        "  refused            the last one, with the same members, if it ended before it worked on the run; "
        "or null\n"
        "  stage              surveying, loading, calibrating, running, stopped, finished, drift, failed\n"
        "  problems           total, done, failed, skipped, remaining, truncated: sealed and recorded\n"
        "  batches, tokens    done, total: with those computed but not sealed yet while it runs\n"
        "  tokens_per_second  now, overall\n"
        "  seconds            elapsed (all launches), remaining\n"
        "  last_checkpoint, overflowed (numbers beyond float16), memory_bytes, updated (of the live "
        "figures)\n"
        "  shards             count, bytes, rows\n"
        "  disk               free_bytes, planned_bytes (still to be written)\n"
        "  drift              state (calibrating, steady, sharing: CAUSE, SHARE %,\n"
        "                     warned, suspect, stopped), score\n"
        "  device             a GPU's own figures at the last batch (each may be null), else null:\n"
        "                     upload_seconds, device_seconds, download_seconds, memory_used and "
        "process_memory (bytes),\n"
        "                     utilization (percent), sm_clock (MHz), power (W), temperature (C), "
        "pcie_received and\n"
        "                     pcie_sent (bytes per second, as the device counts), xid, throttle_reasons "
        "(NVML's bits),\n"
        "                     throttle (their names)\n"
        "  devices            of a run on several: a list of name, batches (of this launch), "
        "tokens_per_second,\n"
        "                     and the members of device; else null\n"
        "  cpu_paths          of a run resumed with another CPU path: \"avx512bf16, avx2 from batch 12\"; or "
        "null\n"
        "  fill               of a run on a GPU, which computes every batch at one shape: device_tokens\n"
        "                     (computed so far), share (of them that are text); else null\n"
        "  prediction         of the last launch that worked on the run, before its first batch: launch, "
        "tokens "
        "left,\n"
        "                     seconds, tokens_per_second, limit, sweep_batches (null: nothing streams); "
        "measured\n"
        "                     (over its sealed batches): tokens, compute_seconds, wait_seconds, "
        "tokens_per_second (of\n"
        "                     computing), with_waiting; or null\n"
        "  weights            of a run whose matrices are packed or quantised: \"Q4_K and Q6_K\"; or null\n"
        "  adapter            of a run with one: \"LoRA of rank 8 on 14 matrices, SHA-256 ...\"; or null\n"
        "  residency          where the last launch found the model: kind and name of the device, pieces, "
        "bytes, planned\n"
        "                     and taken (bytes by purpose), process_bytes (the driver's figure, if any), "
        "streaming (if\n"
        "                     any: streamed of blocks, host (from its memory), batches of a sweep); or null\n"
        "  elsewhere          with run.ledger: the launch on another machine that this copy of the ledger "
        "says "
        "nothing of;\n"
        "                     or null\n"
        "  retry              transient (failed problems that strata run --retry-failed would try again); of "
        "the last\n"
        "                     retry: tried, succeeded, waiting (0: it is over)\n"
        "\n"
        "--json of a set of parts:\n"
        "  set_version 1, folder (null: parts that were named), time, count (of parts), finished (all parts "
        "are),\n"
        "  last_checkpoint, overflowed\n"
        "  states             how many parts are finished, running, stopped, killed, failed, damaged, new\n"
        "  problems           total, done, failed, skipped, remaining, truncated, transient: of all parts\n"
        "  tokens             done, total, estimated (total counts parts that have not begun by their "
        "bytes);\n"
        "                     tokens_per_second: now, of all parts that run\n"
        "  seconds_remaining  slowest (until the last part that runs is done), all (until all parts are, at "
        "this\n"
        "                     speed)\n"
        "  shards             count, bytes, rows\n"
        "  parts              a list: part (number), folder, state, host and process (of the last launch), "
        "exit_code\n"
        "                     and reason (of its end), first_row and last_row (of the query), problems "
        "(total, done,\n"
        "                     failed, skipped), tokens (done, total), tokens_per_second, "
        "seconds_remaining,\n"
        "                     shards (count, bytes, rows), command (that runs it)\n",
    .run = run,
};
