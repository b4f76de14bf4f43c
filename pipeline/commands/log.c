#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/printable.h"
#include "checkpoints/ledger.h"
#include "commands/command.h"
#include "commands/device_figures.h"
#include "commands/readable.h"
#include "commands/run_snapshot.h"
#include "start/fill.h"

struct listing {
    FILE *out;
    uint64_t skip; // batches not shown
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

static void print_heading(const struct listing *listing) {
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

static int print_launch(void *context, const struct ledger_launch_record *launch) {
    FILE *out = context;
    char started[CLOCK_TEXT];
    char ended[CLOCK_TEXT];
    char threads[READABLE_TEXT];
    clock_text(launch->started, started);
    clock_text(launch->ended, ended);
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
    FILE *out = context;
    char when[CLOCK_TEXT];
    clock_text(at, when);
    char shown[64];
    fprintf(out, "%s launch %" PRIu64 " %-7s ", when, epoch, printable(shown, sizeof shown, kind));
    printable_write(out, text);
    fputc('\n', out);
    return STATUS_OK;
}

static int print_events(FILE *out, struct ledger *ledger, struct error *err) {
    TRY(ledger_each_launch(ledger, print_launch, out, err));
    return ledger_each_event(ledger, print_event, out, err);
}

// ---- the command ----

static int print_batches(const struct command_context *context, struct ledger *ledger, struct error *err) {
    struct ledger_totals totals;
    struct predicted predicted;
    struct listing listing = {.out = context->out, .csv = argument_given(context->arguments, "--csv")};
    uint64_t batch_tokens = 0;
    TRY(ledger_totals(ledger, &totals, err));
    TRY(run_snapshot_batch_tokens(&batch_tokens, ledger, err));
    TRY(predicted_read(&predicted, ledger, err));
    uint64_t last = (uint64_t)argument_integer(context->arguments, "--last", INT64_MAX);
    listing.skip = totals.batches > last ? totals.batches - last : 0;
    TRY(ledger_each_batch(ledger, collect_known, &listing, err));
    listing.seen = 0;
    print_heading(&listing);
    TRY(ledger_each_batch(ledger, print_batch, &listing, err));
    if (listing.csv) {
        return STATUS_OK;
    }
    struct fill fill;
    bool has_fill = batch_tokens > 0 && totals.batches > 0;
    if (has_fill) {
        TRY(fill_of_ledger(&fill, ledger, batch_tokens, err));
    }
    print_summary(context->out, &totals, has_fill ? &fill : NULL);
    predicted_write(context->out, 0, &predicted);
    return STATUS_OK;
}

static int run(struct command_context *context, struct error *err) {
    struct ledger *ledger = NULL;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, argument_text(context->arguments, "DIR", NULL), err));
    status = argument_given(context->arguments, "--events") ? print_events(context->out, ledger, err)
                                                            : print_batches(context, ledger, err);
done:
    ledger_close(ledger);
    return status;
}

static const struct operand operands[] = {
    RUN_OPERAND,
};

static const struct option options[] = {
    {.name = "--csv",
     .kind = OPTION_FLAG,
     .help = "comma-separated values in full precision, without the summary"},
    {.name = "--last",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "only the last N batches (default: all)",
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
               "the share of the computed tokens that were text.\n",
    .run = run,
};
