#include "checkpoints/verify.h"

#include <inttypes.h>

#include "base/printable.h"
#include "commands/command.h"
#include "commands/readable.h"
#include "commands/verify_model.h"

static void print_line(void *context, enum verify_kind kind, const char *line) {
    fprintf(context, "%s ", kind == VERIFY_FAULT ? "FAULT" : "NOTE ");
    printable_write(context, line);
    fputc('\n', context);
}

static int run(struct command_context *context, struct error *err) {
    const char *folder = argument_text(context->arguments, "DIR", NULL);
    struct verify_report report = {0};
    char problems[READABLE_TEXT];
    char rows[READABLE_TEXT];
    char bytes[READABLE_TEXT];
    TRY(verify_run(folder, print_line, context->out, &report, err));
    if (argument_given(context->arguments, "--deep")) {
        TRY(verify_model(folder, print_line, context->out, &report, err));
    }
    fputs(report.faults == 0 ? "PASS " : "FAIL ", context->out);
    printable_write(context->out, folder);
    fprintf(context->out, ": %" PRIu64 " shards, %s problems, %s rows, %s; %" PRIu64 " faults", report.shards,
            readable_count(report.problems, problems), readable_count(report.rows, rows),
            readable_bytes(report.bytes, bytes), report.faults);
    if (report.notes > 0) {
        fprintf(context->out, ", %" PRIu64 " notes", report.notes);
    }
    fputc('\n', context->out);
    return report.faults == 0
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "%s does not agree with its ledger: %" PRIu64 " faults", folder,
                           report.faults);
}

static const struct operand operands[] = {
    RUN_OPERAND,
};

static const struct option options[] = {
    {.name = "--deep",
     .kind = OPTION_FLAG,
     .help = "hash the model's files again too, and compare them with the run's identity"},
};

const struct command command_verify = {
    .name = "verify",
    .summary = "check a run's shards against its ledger: hashes, counts, IDs, finite values",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .details = "Reads every byte of every shard. Prints a line per FAULT, then PASS or FAIL; exit code 0 or "
               "65. Changes\n"
               "nothing. While a run is active it checks what was acknowledged when verify started. A NOTE "
               "is not a fault:\n"
               "a file that a crash left unacknowledged, which the next launch removes, or a file that is "
               "not the run's.\n"
               "\n"
               "With --deep it reads every byte of the model's files, where the run had them, and of its "
               "adapter's.\n"
               "Other files are a FAULT, files that are not there any more a NOTE.\n",
    .run = run,
};
