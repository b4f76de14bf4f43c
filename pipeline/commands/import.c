#include <inttypes.h>
#include <string.h>

#include "base/printable.h"
#include "commands/command.h"
#include "commands/readable.h"
#include "problems/import.h"

static void print_fault(void *context, uint64_t line, const char *what) {
    char path[PRINTABLE_TEXT];
    char text[PRINTABLE_TEXT];
    fprintf(stderr, "%s:%" PRIu64 ": %s\n", printable(path, sizeof path, context), line,
            printable(text, sizeof text, what));
}

static void print_report(FILE *out, const char *database, const struct import_options *options,
                         const struct import_report *report) {
    printable_write(out, database);
    fprintf(out, ": %" PRIu64 " rows, %" PRIu64 " columns in table ", report->rows, report->columns);
    printable_write(out, options->table);
    fputc('\n', out);
    if (options->id == NULL && strcmp(report->id, IMPORT_STANDARD_ID) != 0) {
        fputs("there is no '" IMPORT_STANDARD_ID "': the id is '", out);
        printable_write(out, report->id);
        fputs("' (problems.id of the job)\n", out);
    }
    if (report->skipped > 0) {
        fprintf(out, "%" PRIu64 " broken %s left out\n", report->skipped,
                report->skipped == 1 ? "line was" : "lines were");
    }
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    const char *path = argument_text(arguments, "FILE.jsonl[.gz]", NULL);
    const char *database = argument_text(arguments, "PROBLEMS.db", NULL);
    struct readable_waiting waiting;
    const struct watch watch = readable_watch(&waiting, "import");
    const struct import_options options = {
        .table = argument_text(arguments, "--table", "problems"),
        .id = argument_text(arguments, "--id", NULL),
        .append = argument_given(arguments, "--append"),
        .watch = &watch,
        .skip_broken = argument_given(arguments, "--skip-broken"),
    };
    struct import_report report;
    TRY(import_jsonl(path, database, &options, print_fault, (void *)(uintptr_t)path, &report, err));
    print_report(context->out, database, &options, &report);
    return STATUS_OK;
}

static const struct operand operands[] = {
    {.name = "FILE.jsonl[.gz]", .help = "one JSON object per line; - reads standard input"},
    {.name = "PROBLEMS.db", .help = "the SQLite database; created if it does not exist"},
};

static const struct option options[] = {
    {.name = "--table",
     .kind = OPTION_TEXT,
     .value = "TABLE",
     .help = "the table to create (default: problems)"},
    {.name = "--id",
     .kind = OPTION_TEXT,
     .value = "COLUMN",
     .help = "the member with the problem's ID, unique and in every line (default: problem_id, or another "
             "common name that fits)"},
    {.name = "--append", .kind = OPTION_FLAG, .help = "append to an existing table"},
    {.name = "--skip-broken",
     .kind = OPTION_FLAG,
     .help = "skip broken lines and list them (default: import nothing if one is broken)"},
};

const struct command command_import = {
    .name = "import",
    .summary = "import problems from JSON lines into an SQLite database",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .sums_up = true,
    .details = "Numbers, strings and true/false (1/0) become columns; arrays and objects become JSON text; "
               "null and missing\n"
               "members become NULL. Either everything is imported or nothing: lines that are broken, lack "
               "the ID or repeat\n"
               "one are listed by number (the first 20). With --skip-broken they are skipped and all listed; "
               "that includes\n"
               "what Python's json.dumps writes although JSON does not allow it (NaN, half of a surrogate "
               "pair), and numbers\n"
               "beyond 64 bits.\n",
    .run = run,
};
