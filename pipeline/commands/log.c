#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/printable.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_list.h"
#include "commands/command.h"
#include "commands/device_figures.h"
#include "commands/readable.h"
#include "commands/run_snapshot.h"
#include "start/fill.h"

struct listing {
    FILE *out;
    const char *part; // "7/64"; NULL: of a run by itself, which has no such column
    uint64_t skip;    // batches not shown
    uint64_t seen;
    bool csv;
    uint32_t known; // figures of the device that any batch listed has: only they get columns
    bool devices;   // and so does its name
};

// Seconds from one batch to the next: computing and waiting.
static double wall_seconds(const struct ledger_batch *batch) {
    return batch->compute_seconds + batch->wait_seconds;
}

static double rate_of(uint64_t tokens, double seconds) {
    return seconds > 0 ? (double)tokens / seconds : 0;
}

static void print_name(const struct listing *listing, const char *name) {
    if (listing->csv) {
        fprintf(listing->out, "%s,", name);
    } else {
        fprintf(listing->out, "%9s ", name);
    }
}

static void print_heading(const struct listing *listing) {
    if (listing->part != NULL) {
        print_name(listing, "part");
    }
    if (listing->csv) {
        fputs("batch,launch,problems,rows,tokens,prepare_seconds,wait_seconds,compute_seconds,write_seconds,"
              "predicted_seconds,tokens_per_second,memory_bytes,drift_score,overflowed",
              listing->out);
        for (int i = 0; i < LEDGER_FIGURES; i++) {
            if ((listing->known >> i & 1) != 0) {
                fprintf(listing->out, ",%s", ledger_figure_name((enum ledger_figure)i));
            }
        }
        fputs(listing->devices ? ",device" : "", listing->out);
    } else {
        fprintf(listing->out, "%8s %8s %9s %9s %8s %9s %8s %9s %10s %8s", "batch", "problems", "tokens",
                "prepare s", "wait s", "compute s", "write s", "tokens/s", "memory", "drift");
        fprintf(listing->out, "%s", listing->devices ? "   device" : "");
        device_figures_heading(listing->out, listing->known);
    }
    fputc('\n', listing->out);
}

static int collect_known(void *context, const struct ledger_batch *batch) {
    struct listing *listing = context;
    if (listing->seen++ >= listing->skip) {
        listing->known |= batch->device.known;
        listing->devices = listing->devices || batch->device_name[0] != 0;
    }
    return STATUS_OK;
}

static int print_batch(void *context, const struct ledger_batch *batch) {
    struct listing *listing = context;
    char rate[READABLE_TEXT];
    char memory[READABLE_TEXT];
    if (listing->seen++ < listing->skip) {
        return STATUS_OK;
    }
    double per_second = rate_of(batch->tokens, wall_seconds(batch));
    if (listing->part != NULL) {
        print_name(listing, listing->part);
    }
    if (listing->csv) {
        fprintf(listing->out,
                "%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64
                ",%.6f,%.6f,%.6f,%.6f,%.6f,%.3f,%" PRIu64 ",%.6f,%" PRIu64,
                batch->number, batch->epoch, batch->problems, batch->rows, batch->tokens,
                batch->prepare_seconds, batch->wait_seconds, batch->compute_seconds, batch->write_seconds,
                batch->predicted_seconds, per_second, batch->memory_bytes, batch->score, batch->overflowed);
        for (int i = 0; i < LEDGER_FIGURES; i++) {
            if ((listing->known >> i & 1) != 0) {
                ledger_device_csv(listing->out, &batch->device, (enum ledger_figure)i);
            }
        }
        fputs(listing->devices ? "," : "", listing->out);
        printable_write(listing->out, batch->device_name);
        fputc('\n', listing->out);
        return STATUS_OK;
    }
    fprintf(listing->out, "%8" PRIu64 " %8" PRIu32 " %9" PRIu64 " %9.3f %8.3f %9.3f %8.3f %9s %10s %+8.3f",
            batch->number, batch->problems, batch->tokens, batch->prepare_seconds, batch->wait_seconds,
            batch->compute_seconds, batch->write_seconds, readable_rate(per_second, rate),
            readable_bytes(batch->memory_bytes, memory), batch->score);
    if (listing->devices) {
        char name[PRINTABLE_TEXT];
        bool known = batch->device_name[0] != 0;
        fprintf(listing->out, " %8s", known ? printable(name, sizeof name, batch->device_name) : "-");
    }
    device_figures_row(listing->out, listing->known, &batch->device);
    fputc('\n', listing->out);
    return STATUS_OK;
}

// fill: of a run on a GPU; NULL: nothing is said of it.
static void print_summary(FILE *out, const struct ledger_totals *totals, const struct fill *fill) {
    char full[READABLE_TEXT] = "";
    char problems[READABLE_TEXT];
    char tokens[READABLE_TEXT];
    char compute[READABLE_TEXT];
    char rate[READABLE_TEXT];
    double wall = totals->compute_seconds + totals->wait_seconds;
    if (fill != NULL) {
        snprintf(full, sizeof full, " (%.1f %% full)", 100 * fill->share);
    }
    fprintf(
        out,
        "%" PRIu64 " batches%s, %s problems done, %s tokens, %s of computing, %s tokens/s, waiting %.1f %%\n",
        totals->batches, full, readable_count(totals->done, problems), readable_count(totals->tokens, tokens),
        readable_duration(totals->compute_seconds, compute),
        readable_rate(rate_of(totals->tokens, wall), rate), wall > 0 ? 100 * totals->wait_seconds / wall : 0);
}

// ---- events ----

static void print_part(const struct listing *listing) {
    if (listing->part != NULL) {
        fprintf(listing->out, "part %s ", listing->part);
    }
}

static int print_launch(void *context, const struct ledger_launch_record *launch) {
    const struct listing *listing = context;
    FILE *out = listing->out;
    char started[CLOCK_TEXT];
    char ended[CLOCK_TEXT];
    char threads[READABLE_TEXT];
    clock_text(launch->started, started);
    clock_text(launch->ended, ended);
    print_part(listing);
    fprintf(out, "launch %" PRIu64 ": %s to %s, process %" PRId64 " on ", launch->epoch, started,
            launch->ended == 0 ? "(no end recorded)" : ended, launch->process);
    printable_write(out, launch->host);
    fputs(readable_threads(launch->threads, threads), out);
    if (launch->ended != 0) {
        fprintf(out, "%s, exit code %d%s", launch->worked ? "" : ", before its first batch",
                launch->exit_code, launch->reason[0] == 0 ? "" : ": ");
        printable_write(out, launch->reason);
    }
    fputc('\n', out);
    return STATUS_OK;
}

static int print_event(void *context, int64_t at, uint64_t epoch, const char *kind, const char *text) {
    const struct listing *listing = context;
    FILE *out = listing->out;
    char when[CLOCK_TEXT];
    clock_text(at, when);
    print_part(listing);
    char shown[64];
    fprintf(out, "%s launch %" PRIu64 " %-7s ", when, epoch, printable(shown, sizeof shown, kind));
    printable_write(out, text);
    fputc('\n', out);
    return STATUS_OK;
}

static int print_events(const struct listing *listing, struct ledger *ledger, struct error *err) {
    struct listing events = *listing;
    TRY(ledger_each_launch(ledger, print_launch, &events, err));
    return ledger_each_event(ledger, print_event, &events, err);
}

// ---- batches of one ledger ----

static void begin_listing(struct listing *listing, const struct ledger_totals *totals, uint64_t last) {
    listing->skip = totals->batches > last ? totals->batches - last : 0;
    listing->seen = 0;
}

static int print_batches(struct listing *listing, struct ledger *ledger, uint64_t last, struct error *err) {
    struct ledger_totals totals;
    struct predicted predicted;
    uint64_t batch_tokens = 0;
    TRY(ledger_totals(ledger, &totals, err));
    TRY(run_snapshot_batch_tokens(&batch_tokens, ledger, err));
    TRY(predicted_read(&predicted, ledger, err));
    begin_listing(listing, &totals, last);
    TRY(ledger_each_batch(ledger, collect_known, listing, err));
    begin_listing(listing, &totals, last);
    print_heading(listing);
    TRY(ledger_each_batch(ledger, print_batch, listing, err));
    if (listing->csv) {
        return STATUS_OK;
    }
    struct fill fill;
    bool has_fill = batch_tokens > 0 && totals.batches > 0;
    if (has_fill) {
        TRY(fill_of_ledger(&fill, ledger, batch_tokens, err));
    }
    print_summary(listing->out, &totals, has_fill ? &fill : NULL);
    predicted_write(listing->out, 0, &predicted);
    return STATUS_OK;
}

static int log_run(struct listing *listing, const char *folder, bool events, uint64_t last,
                   struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, folder, err));
    status = events ? print_events(listing, ledger, err) : print_batches(listing, ledger, last, err);
done:
    ledger_close(ledger);
    return status;
}

// ---- of the parts of a set, in their order ----

enum pass { PASS_EVENTS, PASS_KNOWN, PASS_BATCHES };

static int pass_part(struct listing *listing, enum pass pass, const char *folder, uint64_t last,
                     struct ledger_totals *sum, struct error *err) {
    struct ledger *ledger = NULL;
    struct ledger_totals totals;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, folder, err));
    if (pass == PASS_EVENTS) {
        status = print_events(listing, ledger, err);
        goto done;
    }
    TRY_TO(done, status = ledger_totals(ledger, &totals, err));
    begin_listing(listing, &totals, last);
    status = ledger_each_batch(ledger, pass == PASS_KNOWN ? collect_known : print_batch, listing, err);
    sum->batches += totals.batches;
    sum->done += totals.done;
    sum->tokens += totals.tokens;
    sum->compute_seconds += totals.compute_seconds;
    sum->wait_seconds += totals.wait_seconds;
done:
    ledger_close(ledger);
    return status;
}

static int pass_parts(struct listing *listing, enum pass pass, const struct run_list *list, uint64_t last,
                      struct ledger_totals *sum, struct error *err) {
    *sum = (struct ledger_totals){0};
    for (size_t i = 0; i < list->count; i++) {
        char part[RUN_SET_NAME];
        snprintf(part, sizeof part, "%zu/%" PRIu64, i, list->parts);
        listing->part = part;
        if (list->members[i].there) {
            TRY(pass_part(listing, pass, list->members[i].folder, last, sum, err));
        }
    }
    listing->part = "";
    return STATUS_OK;
}

static int log_set(struct listing *listing, const char *const *folders, size_t count, bool events,
                   uint64_t last, struct error *err) {
    struct run_list list = {0};
    struct ledger_totals sum;
    int status;
    TRY_TO(done, status = run_list_open(&list, folders, count, err));
    if (events) {
        status = pass_parts(listing, PASS_EVENTS, &list, last, &sum, err);
        goto done;
    }
    TRY_TO(done, status = pass_parts(listing, PASS_KNOWN, &list, last, &sum, err));
    print_heading(listing);
    TRY_TO(done, status = pass_parts(listing, PASS_BATCHES, &list, last, &sum, err));
    if (!listing->csv) {
        print_summary(listing->out, &sum, NULL);
    }
done:
    run_list_destroy(&list);
    return status;
}

// ---- the command ----

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct listing listing = {.out = context->out, .csv = argument_given(arguments, "--csv")};
    uint64_t last = (uint64_t)argument_integer(arguments, "--last", INT64_MAX);
    bool events = argument_given(arguments, "--events");
    bool is_set = false;
    size_t count = 0;
    const char *const *folders = argument_words(arguments, &count);
    TRY(run_list_is_set(folders, count, &is_set, err));
    return is_set ? log_set(&listing, folders, count, events, last, err)
                  : log_run(&listing, folders[0], events, last, err);
}

static const struct operand operands[] = {
    RUNS_OPERAND,
};

static const struct option options[] = {
    {.name = "--csv",
     .kind = OPTION_FLAG,
     .help = "comma-separated values in full precision, without the summary"},
    {.name = "--last",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "only the last N batches, of each part of a set (default: all)",
     .minimum = 1,
     .maximum = INT64_MAX},
    {.name = "--events",
     .kind = OPTION_FLAG,
     .help = "list launches, warnings and drift evidence instead of batches"},
};

const struct command command_log = {
    .name = "log",
    .summary = "list a run's sealed batches with their times, or its events",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details = "prepare is tokenising and planning, in the reader's thread; wait is the time the device "
               "waited for the\n"
               "reader or the writer; write is the writer's thread. tokens/s counts computing and waiting. "
               "drift is the\n"
               "detector's score: the natural logarithm of a batch's time over its prediction and the run's "
               "baseline; 0 is\n"
               "normal, +0.69 is twice as slow. A GPU's own figures (times, memory, clock, power, "
               "temperature, PCIe traffic,\n"
               "throttle reasons, XID errors) have columns if any listed batch has them. throughput.csv in "
               "the run directory\n"
               "also has the batches that are not sealed yet. For a run on a GPU the summary says how full "
               "its batches were:\n"
               "the share of the computed tokens that were text. Of a set of parts all are listed in their "
               "order, in a column\n"
               "that names the part.\n",
    .run = run,
};
