// SPDX-License-Identifier: MIT
#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/printable.h"
#include "commands/command.h"
#include "commands/companion.h"
#include "commands/readable.h"
#include "job/job.h"
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

static void add_mended(char *words, size_t size, uint64_t count, const char *what) {
    size_t used = strlen(words);
    if (count > 0) {
        snprintf(words + used, size - used, "%s%" PRIu64 " %s", used == 0 ? "" : ", ", count, what);
    }
}

static void print_mended(const char *path, const struct import_report *report) {
    char text[PRINTABLE_TEXT];
    char words[256] = "";
    add_mended(words, sizeof words, report->mended_values.halves, "x half of a surrogate pair -> U+FFFD");
    add_mended(words, sizeof words, report->mended_values.not_finite, "x NaN or Infinity -> NULL");
    add_mended(words, sizeof words, report->mended_values.beyond,
               "x integer beyond 64 bits -> text of its digits");
    if (report->mended > 0) {
        fprintf(stderr, "%s: %" PRIu64 " %s not JSON, mended (the first: line %" PRIu64 "): %s\n",
                printable(text, sizeof text, path), report->mended,
                report->mended == 1 ? "line was" : "lines were", report->first_mended, words);
    }
}

// Becomes strata-import, which reads what is not JSON lines; returns where that is not on this machine.
static void hand_over(const struct arguments *arguments, const char *path, const char *database,
                      struct error *err) {
    static const char *const options[] = {"--table", "--id", "--append", "--skip-broken"};
    const char *words[12] = {NULL, path, database};
    size_t count = 3;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const char *value = i < 2 ? argument_text(arguments, options[i], NULL) : NULL;
        if (value != NULL || (i >= 2 && argument_given(arguments, options[i]))) {
            words[count++] = options[i];
        }
        if (value != NULL) {
            words[count++] = value;
        }
    }
    companion_become("strata-import", "tables are read by", words, err);
}

static const char *const problem_endings[] = {".jsonl", ".jsonl.gz", ".json", ".parquet", ".csv", NULL};

static bool is_hub_name(const char *path) {
    const char *slash = strchr(path, '/');
    return slash != NULL && slash != path && slash[1] != 0 && strchr(slash + 1, '/') == NULL &&
           path[0] != '.' && !file_exists(path);
}

// What else could be done about a file that is not read here.
static void advise(const char *path, const char *database, const char *foreign, struct error *err) {
    char folder[PATH_SIZE];
    struct error ignored;
    if (foreign != NULL) {
        error_append(err, "; or `pip install 'strata-latents[import]'`, which reads it as it is");
    } else if (is_hub_name(path)) {
        error_append(err, " (a data set of the hub? strata-import %s PROBLEMS.db downloads it)", path);
    } else if (err->status == STATUS_WRITE &&
               path_folder(folder, sizeof folder, database, &ignored) == STATUS_OK && !file_exists(folder)) {
        error_append(err, " (there is no folder %s)", folder);
    } else if (!file_exists(path) && strcmp(path, "-") != 0) {
        char hint[JOB_PATH_HINT];
        error_append(err, "%s", job_path_hint(hint, path, problem_endings));
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
    const char *foreign = import_foreign(path);
    if (foreign != NULL) {
        hand_over(arguments, path, database, err); // when it returns, the import here says what the file is
    }
    int status = import_jsonl(path, database, &options, print_fault, (void *)(uintptr_t)path, &report, err);
    if (status != STATUS_OK) {
        advise(path, database, foreign, err);
        return status;
    }
    print_mended(path, &report);
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
    .companion = "strata-import",
    .summary = "import problems from JSON lines, Parquet, CSV ... into an SQLite database",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .sums_up = true,
    .details =
        "Parquet, Arrow, CSV, a JSON array, JSON lines in zstd, bzip2 or xz, and folders of these are handed "
        "over to the\n"
        "Python package's strata-import with the same options (pip install 'strata-latents[import]'; it "
        "has more of\n"
        "them: chats by a model's template, names on the hub). It stores what is below in the same way.\n"
        "\n"
        "Numbers, strings and true/false (1/0) become columns; arrays and objects become JSON text; null and "
        "missing\n"
        "members become NULL. Either everything is imported or nothing: lines that are broken, lack the ID "
        "or repeat\n"
        "one are listed by number (the first 20). With --skip-broken they are skipped and all listed.\n"
        "\n"
        "What Python's json.dumps writes although JSON, or 64 bits, do not have it is mended, in columns and "
        "inside of\n"
        "arrays and objects alike, and one line on standard error counts it:\n"
        "  half of a surrogate pair (\\ud83d)       U+FFFD, each half one\n"
        "  NaN, Infinity, -Infinity, 1e999         NULL (inside of arrays and objects null)\n"
        "  an integer beyond signed 64 bits        a text of its digits, as they are written (SQLite's type "
        "TEXT)\n"
        "The ID is never mended: such a line is broken. So is one with half of a surrogate pair in a "
        "member's name,\n"
        "with bytes that are not UTF-8, or with a member twice.\n",
    .run = run,
};
