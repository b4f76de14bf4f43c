// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/printable.h"
#include "base/terminal.h"
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
    uint32_t known;    // figures of the device that any batch listed has: only they get columns
    bool devices;      // and so does its name
    unsigned left_out; // bits of the columns that the terminal has no room for
    bool lacks_room;   // for some column
};

enum column { BATCH, PROBLEMS, TOKENS, PREPARE, WAIT, COMPUTE, WRITE, RATE, MEMORY, DRIFT, COLUMNS };

static const struct {
    const char *name;
    int width;
} columns[COLUMNS] = {
    [BATCH] = {"batch", 8},       [PROBLEMS] = {"problems", 8}, [TOKENS] = {"tokens", 9},
    [PREPARE] = {"prepare s", 9}, [WAIT] = {"wait s", 8},       [COMPUTE] = {"compute s", 9},
    [WRITE] = {"write s", 8},     [RATE] = {"tokens/s", 9},     [MEMORY] = {"memory", 10},
    [DRIFT] = {"drift", 8},
};

enum { PART_WIDTH = 10, DEVICE_WIDTH = 9 }; // with the space beside them

// The columns that a line of the terminal has room for. What is left out first are the device's figures, from
// the last on, then these.
static void fit_columns(struct listing *listing) {
    static const enum column least_needed[] = {PREPARE, WRITE, MEMORY, WAIT, DRIFT, PROBLEMS, COMPUTE};
    int room = 0;
    int rows;
    int width = -1 + (listing->part != NULL ? PART_WIDTH : 0) + (listing->devices ? DEVICE_WIDTH : 0);
    if (listing->csv || readable_columns(listing->out) == 0) {
        return;
    }
    terminal_size(listing->out, &room, &rows);
    room = room > 0 ? room : readable_columns(listing->out);
    for (size_t i = 0; i < COLUMNS; i++) {
        width += 1 + columns[i].width;
    }
    for (int i = LEDGER_FIGURES - 1; i >= 0 && width + device_figures_width(listing->known) > room; i--) {
        listing->lacks_room = listing->lacks_room || (listing->known >> i & 1) != 0;
        listing->known &= ~(1u << i);
    }
    for (size_t i = 0; i < sizeof least_needed / sizeof least_needed[0] && width > room; i++) {
        listing->left_out |= 1u << least_needed[i];
        listing->lacks_room = true;
        width -= 1 + columns[least_needed[i]].width;
    }
}

static void print_cell(const struct listing *listing, enum column column, const char *text) {
    if ((listing->left_out >> column & 1) == 0) {
        fprintf(listing->out, "%s%*s", column == BATCH ? "" : " ", columns[column].width, text);
    }
}

static void print_count(const struct listing *listing, enum column column, uint64_t count) {
    char text[READABLE_TEXT];
    snprintf(text, sizeof text, "%" PRIu64, count);
    print_cell(listing, column, text);
}

static void print_number(const struct listing *listing, enum column column, double number) {
    char text[512]; // of any double
    snprintf(text, sizeof text, column == DRIFT ? "%+.3f" : "%.3f", number);
    print_cell(listing, column, text);
}

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
        for (int i = 0; i < COLUMNS; i++) {
            print_cell(listing, (enum column)i, columns[i].name);
        }
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
    print_count(listing, BATCH, batch->number);
    print_count(listing, PROBLEMS, batch->problems);
    print_count(listing, TOKENS, batch->tokens);
    print_number(listing, PREPARE, batch->prepare_seconds);
    print_number(listing, WAIT, batch->wait_seconds);
    print_number(listing, COMPUTE, batch->compute_seconds);
    print_number(listing, WRITE, batch->write_seconds);
    print_cell(listing, RATE, readable_rate(per_second, rate));
    print_cell(listing, MEMORY, readable_bytes(batch->memory_bytes, memory));
    print_number(listing, DRIFT, batch->score);
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
static void write_summary(FILE *out, const struct ledger_totals *totals, const struct fill *fill) {
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

// Behind the table. predicted NULL: nothing is said of it.
static int print_summary(const struct listing *listing, const struct ledger_totals *totals,
                         const struct fill *fill, const struct predicted *predicted, struct error *err) {
    enum { HANG = 2 };
    struct readable_page page;
    TRY(readable_page_open(&page, "the summary", err));
    write_summary(page.out, totals, fill);
    if (predicted != NULL) {
        predicted_write(page.out, 0, predicted);
    }
    if (listing->lacks_room) {
        fputs("more columns have no room on this terminal (--csv has all)\n", page.out);
    }
    return readable_page_print(&page, listing->out, HANG, 0, readable_columns(listing->out), err);
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
    fit_columns(listing);
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
    return print_summary(listing, &totals, has_fill ? &fill : NULL, &predicted, err);
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
    fit_columns(listing);
    print_heading(listing);
    TRY_TO(done, status = pass_parts(listing, PASS_BATCHES, &list, last, &sum, err));
    if (!listing->csv) {
        status = print_summary(listing, &sum, NULL, NULL, err);
    }
done:
    run_list_destroy(&list);
    return status;
}

// ---- the command ----

static int list(struct listing *listing, const char *const *folders, size_t count, bool events, uint64_t last,
                struct error *err) {
    bool is_set = false;
    TRY(run_list_is_set(folders, count, &is_set, err));
    return is_set ? log_set(listing, folders, count, events, last, err)
                  : log_run(listing, folders[0], events, last, err);
}

// Events are texts: on a terminal they go into memory first, to be broken into its lines.
static int list_events(struct listing *listing, const char *const *folders, size_t count, struct error *err) {
    enum { HANG = 4 };
    FILE *out = listing->out;
    struct readable_page page;
    TRY(readable_page_open(&page, "the events", err));
    listing->out = page.out;
    int status = list(listing, folders, count, true, 0, err);
    if (status != STATUS_OK) {
        readable_page_drop(&page);
        return status;
    }
    return readable_page_print(&page, out, HANG, 0, readable_columns(out), err);
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    struct listing listing = {.out = context->out, .csv = argument_given(arguments, "--csv")};
    uint64_t last = (uint64_t)argument_integer(arguments, "--last", INT64_MAX);
    bool events = argument_given(arguments, "--events");
    size_t count = 0;
    const char *const *folders = argument_words(arguments, &count);
    return events && readable_columns(context->out) > 0 ? list_events(&listing, folders, count, err)
                                                        : list(&listing, folders, count, events, last, err);
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
