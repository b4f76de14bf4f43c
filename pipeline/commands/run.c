// SPDX-License-Identifier: MIT
#include <inttypes.h>

#include "base/printable.h"
#include "commands/command.h"
#include "commands/part_option.h"
#include "commands/run_parts.h"
#include "run/runner.h"

static void print_failures(FILE *out, const struct runner_summary *summary, bool asked) {
    const struct ledger_retry_counts *failures = &summary->failures;
    uint64_t failed = summary->totals.failed;
    if (summary->retried) {
        fprintf(out,
                "failed problems retried: %" PRIu64 "; done now: %" PRIu64 ", still to come: %" PRIu64 "\n",
                failures->tried, failures->succeeded, failures->waiting);
    } else if (asked && summary->totals.finished) {
        fprintf(out, "no failed problem to retry%s\n",
                failed > 0 ? ": they fail because of their rows (--retry-failed=all retries them)" : "");
    }
    if (failures->transient > 0 && failures->waiting == 0) {
        fprintf(out, "failed problems that --retry-failed may retry: %" PRIu64 " of %" PRIu64 "\n",
                failures->transient, failed);
    }
}

static void print_summary(FILE *out, const struct runner_summary *summary, bool asked) {
    const struct ledger_totals *totals = &summary->totals;
    printable_write(out, summary->folder);
    fprintf(out, ": %" PRIu64 " problems: %" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " skipped\n",
            summary->problems, totals->done, totals->failed, totals->skipped);
    fprintf(out, "%" PRIu64 " rows in %" PRIu64 " shards, %" PRIu64 " bytes\n", totals->rows, totals->shards,
            totals->bytes);
    print_failures(out, summary, asked);
    if (summary->launch_batches > 0 && summary->launch_seconds > 0) {
        fprintf(out,
                "this launch: %" PRIu64 " batches, %" PRIu64
                " tokens in %.3f s, %.0f tokens/s; %.1f %% of the time waiting; sealed %.3f s later; "
                "peak memory %.2f GB\n",
                summary->launch_batches, summary->launch_tokens, summary->launch_seconds,
                (double)summary->launch_tokens / summary->launch_seconds,
                100 * summary->wait_seconds / summary->launch_seconds, summary->seal_seconds,
                (double)summary->memory_peak * 1e-9);
    }
}

static int refuse_options_of_parts(const struct arguments *arguments, struct error *err) {
    bool given = argument_given(arguments, "--at-once") || argument_given(arguments, "--restarts");
    return given ? error_set(err, STATUS_USAGE, "--at-once and --restarts belong to --parts") : STATUS_OK;
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    if (argument_given(arguments, "--parts")) {
        return run_parts(context, err);
    }
    TRY(refuse_options_of_parts(arguments, err));
    const char *scope = argument_text(arguments, "--retry-failed", NULL);
    struct runner_options options = {.stop_after = (uint64_t)argument_integer(arguments, "--stop-after", 0),
                                     .retry = {.asked = argument_given(arguments, "--retry-failed"),
                                               .scope = scope == NULL ? RETRY_TRANSIENT : RETRY_ALL},
                                     .from_copy = argument_given(arguments, "--from-copy"),
                                     .display = argument_given(arguments, "--quiet") ? NULL : stderr};
    struct runner_summary summary;
    job_arguments(&options.inputs, arguments);
    TRY(part_option_parse(&options.inputs.part, argument_text(arguments, "--part", NULL), err));
    int status = runner_run(&options, &summary, err);
    if (status == STATUS_OK || summary.problems > 0) {
        print_summary(context->out, &summary, options.retry.asked);
    }
    return status;
}

static const struct operand operands[] = {
    JOB_OPERAND,
};

static const struct option options[] = {
    JOB_OPTION_OUTPUT,
    JOB_OPTION_LIMIT("; counts as a separate run"),
    JOB_OPTION_THREADS,
    JOB_OPTION_PART,
    JOB_OPTION_MODEL_COPY,
    {.name = "--stop-after",
     .kind = OPTION_INTEGER,
     .value = "BATCHES",
     .help = "stop cleanly (exit 75) after this many batches of this launch (default: at the end)",
     .minimum = 1,
     .maximum = INT64_MAX},
    {.name = "--retry-failed",
     .kind = OPTION_FLAG,
     .value = "[=all]",
     .choices = "all",
     .help = "once the run is finished, retry the failed problems whose cause may be transient (hidden "
             "states that were not finite); all: every failed problem"},
    {.name = "--device",
     .kind = OPTION_TEXT,
     .value = "NAME",
     .help = "cpu or cuda:N, in place of model.device"},
    {.name = "--parts",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "run all N parts of the job on this machine, each in a process of its own, one a GPU at once",
     .minimum = 1,
     .maximum = RUN_SET_PARTS},
    {.name = "--at-once",
     .kind = OPTION_INTEGER,
     .value = "K",
     .help = "with --parts: as many processes at once (default: one for each GPU of model.device, or one)",
     .minimum = 1,
     .maximum = RUN_PARTS_AT_ONCE},
    {.name = "--restarts",
     .kind = OPTION_INTEGER,
     .value = "R",
     .help = "with --parts: start a part that crashed as often again (default: 3)",
     .minimum = 0,
     .maximum = 1000},
    {.name = "--from-copy",
     .kind = OPTION_FLAG,
     .help =
         "with run.ledger: where the folder that had the ledger is lost, go on from the ledger's copy in the "
         "run directory, or anew while there is none; shards that were sealed since are computed again, and "
         "their number is logged"},
    {.name = "--quiet", .kind = OPTION_FLAG, .help = "show no progress"},
};

const struct command command_run = {
    .name = "run",
    .summary = "start a job, or resume it where it stopped",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .holds_signals = true,
    .sums_up = true,
    .details =
        "Starting and resuming are the same command. SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, "
        "SIGXCPU,\n"
        "SIGPWR and timers stop it within 20 s, with run.ledger 25 s, with exit code 75; every batch that "
        "was\n"
        "computed is kept. The same signal again ends it at once, and so does another one more than 3 s "
        "later;\n"
        "SIGHUP, SIGXCPU, SIGPWR and timers, which machines repeat, never do. After a crash at most\n"
        "run.checkpoint_every batches are computed again.\n"
        "A problem fails because of its row, or because its hidden states were not finite, which a hardware "
        "fault\n"
        "may have caused. --retry-failed retries the latter; if the rows of failed problems were corrected "
        "in the\n"
        "database (all other rows unchanged), it retries every failed problem. Results go into new shards; "
        "sealed\n"
        "shards stay as they are. Once started, the retry is part of the run: any launch finishes it.\n"
        "--parts N runs parts 0/N to N-1/N, each as --part does, in processes that share this machine: one a "
        "GPU,\n"
        "or --at-once K, each with cores and a memory node of its own. A part that crashes, loses its device "
        "or finds\n"
        "the database locked starts again after a pause; one that ends with 64, 65, 73, 78 or 80 does not, "
        "and "
        "the\n"
        "others go on. A stop signal stops all parts. The exit code is 75 after a stop, otherwise that of "
        "the "
        "part\n"
        "that most needs a person.\n"
        "Exit codes: strata help exit-codes.\n",
    .run = run,
};
