// SPDX-License-Identifier: MIT
#include "export/export.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/printable.h"
#include "base/version.h"
#include "commands/command.h"
#include "commands/export_companion.h"
#include "commands/export_layers.h"
#include "commands/readable.h"

// "5GB" of 10^9 bytes, "5GiB" of 2^30, as transformers takes max_shard_size; a number alone is bytes.
static int parse_size(const char *text, uint64_t *bytes, struct error *err) {
    static const struct {
        const char *name;
        uint64_t bytes;
    } units[] = {{"", 1},
                 {"KB", 1000},
                 {"MB", 1000000},
                 {"GB", 1000000000},
                 {"TB", 1000000000000},
                 {"KiB", 1 << 10},
                 {"MiB", 1 << 20},
                 {"GiB", 1 << 30},
                 {"TiB", UINT64_C(1) << 40}};
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    bool good = errno == 0 && text[0] >= '0' && text[0] <= '9' && number > 0;
    for (size_t i = 0; good && i < sizeof units / sizeof units[0]; i++) {
        if (strcasecmp(end, units[i].name) == 0 && number <= INT64_MAX / units[i].bytes) {
            *bytes = number * units[i].bytes;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_USAGE,
                     "--max-shard-size is a whole number of bytes, KB, MB, GB, TB or GiB, not '%s'", text);
}

// The formats of both programs.
static const char *format_name(size_t index) {
    size_t own = 0;
    while (export_format_name(own) != NULL) {
        own++;
    }
    return index < own ? export_format_name(index) : export_companion_format(index - own);
}

static const char *format_help(size_t index) {
    size_t own = 0;
    while (export_format_help(own) != NULL) {
        own++;
    }
    return index < own ? export_format_help(index) : export_companion_help(index - own);
}

static enum export_normalization normalization_of(const char *text) {
    return strcmp(text, "standard") == 0        ? NORMALIZATION_STANDARD
           : strcmp(text, "expected-norm") == 0 ? NORMALIZATION_EXPECTED_NORM
                                                : NORMALIZATION_NONE;
}

// Of a folder of R-JEPA's shards before it gets its name.
static int add_tables(const char *folder, struct error *err) {
    bool missing = false;
    TRY(export_companion_tables(folder, &missing, err));
    if (missing) {
        fprintf(stderr,
                "strata export: warning: the shards have JSON lines and no Parquet, which R-JEPA's loader "
                "reads: it is written by strata-export with pyarrow (pip install 'strata-latents[export]'); "
                "then give this command again\n");
    }
    return STATUS_OK;
}

static void print_report(struct command_context *context, const struct export_request *request,
                         const struct export_report *report) {
    char problems[READABLE_TEXT];
    char rows[READABLE_TEXT];
    char bytes[READABLE_TEXT];
    char count[READABLE_TEXT];
    char column[PRINTABLE_TEXT];
    printable_write(context->out, request->target);
    if (report->was_there) {
        fprintf(context->out, ": complete already\n");
        return;
    }
    fprintf(context->out, ": %s problems, %s rows, %s in %" PRIu64 " files\n",
            readable_count(report->problems, problems), readable_count(report->rows, rows),
            readable_bytes(report->bytes, bytes), report->files);
    if (report->kept > 0) {
        fprintf(context->out, "%s of its files were finished before and kept\n",
                readable_count(report->kept, count));
    }
    if (report->failed + report->skipped > 0) {
        fprintf(context->out, "left out: %" PRIu64 " failed, %" PRIu64 " skipped (listed in export.json)\n",
                report->failed, report->skipped);
    }
    if (report->incomplete[0] != 0) {
        fprintf(stderr, "strata export: warning: %s; %s%s problems are not in this export\n",
                report->incomplete, report->at_least ? "at least " : "",
                readable_count(report->remaining, count));
    } else if (report->remaining > 0) {
        fprintf(stderr,
                "strata export: warning: the run is not complete; %s problems are not in this export\n",
                readable_count(report->remaining, count));
    }
    if (report->saturated > 0) {
        fprintf(
            stderr,
            "strata export: warning: %s numbers exceeded float16's range and were stored as its largest\n",
            readable_count(report->saturated, count));
    }
    if (report->unsplit > 0) {
        fprintf(stderr, "strata export: warning: %s problems lack the column '%s' and went to 'unsplit'\n",
                readable_count(report->unsplit, count),
                printable(column, sizeof column, request->split.column));
    }
}

static int refuse_options_of_companion(const struct arguments *arguments, struct error *err) {
    if (argument_given(arguments, "--per")) {
        return error_set(err, STATUS_USAGE, "--per belongs to --format parquet");
    }
    return argument_given(arguments, "--draft-vocab-size") || argument_given(arguments, "--vocab-size")
               ? error_set(err, STATUS_USAGE,
                           "--draft-vocab-size and --vocab-size belong to draft heads: --format speculators, "
                           "specforge")
               : STATUS_OK;
}

static int run(struct command_context *context, struct error *err) {
    const struct arguments *arguments = context->arguments;
    if (export_companion_has(argument_text(arguments, "--format", NULL))) {
        return export_companion_become(arguments, err);
    }
    struct export_layer layers[EXPORT_LAYERS_MOST];
    struct export_report report = {0};
    struct export_request request = {
        .target = argument_text(arguments, "--to", NULL),
        .layers = layers,
        .convert = argument_given(arguments, "--dtype"),
        .shuffle = argument_given(arguments, "--shuffle"),
        .shuffle_seed = (uint64_t)argument_integer(arguments, "--shuffle", 0),
        .shuffle_rows = argument_given(arguments, "--shuffle-rows"),
        .row_seed = (uint64_t)argument_integer(arguments, "--shuffle-rows", 0),
        .normalization = normalization_of(argument_text(arguments, "--normalize", "none")),
        .require_complete = argument_given(arguments, "--require-complete"),
        .program = "strata " STRATA_VERSION,
        .format = export_format_find(argument_text(arguments, "--format", "")),
    };
    if (request.format == NULL ||
        !dtype_parse(argument_text(arguments, "--dtype", "float32"), &request.dtype)) {
        return error_set(err, STATUS_INTERNAL, "a choice of the option table is not known to the export");
    }
    request.runs = argument_words(arguments, &request.run_count);
    const char *split = argument_text(arguments, "--split", NULL);
    if (split == NULL &&
        (argument_given(arguments, "--seed") || argument_given(arguments, "--split-column"))) {
        return error_set(err, STATUS_USAGE, "--seed and --split-column belong to --split");
    }
    if (request.shuffle && request.shuffle_rows) {
        return error_set(err, STATUS_USAGE,
                         "--shuffle shuffles problems and --shuffle-rows rows: choose one");
    }
    TRY(refuse_options_of_companion(arguments, err));
    if (argument_given(arguments, "--max-shard-size")) {
        TRY(parse_size(argument_text(arguments, "--max-shard-size", ""), &request.file_bytes, err));
    }
    if (strcmp(argument_text(arguments, "--format", ""), "rjepa") == 0) {
        request.complete = add_tables;
        request.completes = ".parquet";
    }
    TRY(export_layers_parse(argument_text(arguments, "--layers", NULL), layers, &request.layer_count, err));
    TRY(split_parse(&request.split, split, argument_text(arguments, "--split-column", "split"),
                    (uint64_t)argument_integer(arguments, "--seed", 0), err));
    TRY(export_run(&request, &report, err));
    print_report(context, &request, &report);
    return STATUS_OK;
}

// What each format makes of a split, the lines of it below each other.
static void print_formats(FILE *out) {
    enum { NAME_WIDTH = 11 };
    for (size_t i = 0; format_name(i) != NULL; i++) {
        fprintf(out, "  %-*s  ", NAME_WIDTH, format_name(i));
        for (const char *at = format_help(i); *at != 0; at++) {
            fputc(*at, out);
            if (*at == '\n') {
                fprintf(out, "%*s", NAME_WIDTH + 4, "");
            }
        }
        fputc('\n', out);
    }
}

static void print_details(FILE *out) {
    fputs("Each split S is one tensor of rows for each layer, hs_035 [rows, hidden], "
          "and row_offset [problems + 1]:\n",
          out);
    print_formats(out);
    fputs("Beside them statistics.safetensors (mean and deviation of every dimension, as the run has them) "
          "and\n"
          "export.json: model and tokenizer fingerprints, layers, counts, what was left out and why, the "
          "SHA-256 of\n"
          "every file.\n"
          "\n"
          "--split source takes the split column as it is. Fractions split by a seeded hash of each ID, so a "
          "problem\n"
          "stays in its split when others are added; problems that the source marks 'test' stay in test.\n"
          "\n"
          "--max-shard-size cuts a split into S-00001-of-00012 and so on, between problems; one that is "
          "larger by\n"
          "itself has a file of its own. Each file has its arrays and lines whole, with places counted "
          "within it, and\n"
          "S.safetensors.index.json (S.index.json of npy) lists them.\n"
          "\n"
          "--shuffle-rows puts the rows of a split in a uniform order, as sparse autoencoders want them. A "
          "row leads\n"
          "back by 'problem' (its line in S.jsonl, from 0), 'step' and its spans, one of a token also by "
          "'token_id'.\n"
          "Files end between rows. It takes 64 MiB of memory and, while it works, 8 bytes of disk for each "
          "row.\n"
          "\n"
          "--normalize standard exports (x - mean) / deviation of every dimension, expected-norm x * "
          "sqrt(hidden) /\n"
          "mean norm, from the sums of the split 'train' (of everything without --split), in float64 and "
          "rounded\n"
          "once. A dimension that never changes becomes 0. normalization.safetensors undoes it: x = y * "
          "scale + shift.\n"
          "\n"
          "The folder appears once it is complete. An export that was killed or had no room left goes on "
          "with the\n"
          "same command: files that are finished stay, and an export that is complete is left as it is. An\n"
          "unfinished run is exported up to its last sealed shard, with a warning.\n"
          "\n"
          "Of the folder of a set, or several of its parts, all rows are exported in the query's order: the "
          "bytes of\n"
          "one undivided run (statistics are sums in the order of the shards, and agree to rounding). Parts "
          "that are\n"
          "missing or not complete are named. While the folder is made, 140 bytes of its disk are taken for "
          "each\n"
          "problem; memory does not grow with them.\n",
          out);
}

static const struct operand operands[] = {
    RUNS_OPERAND,
};

static const struct option options[] = {
    {.name = "--format", .kind = OPTION_TEXT, .value = "FORMAT", .choice = format_name, .required = true},
    {.name = "--to",
     .kind = OPTION_TEXT,
     .value = "FOLDER",
     .help = "the folder to create",
     .required = true},
    {.name = "--layers",
     .kind = OPTION_TEXT,
     .value = "LIST",
     .help = "-2,35,pre_norm or names as the job's, model.layers.3 (default: all that are stored)"},
    {.name = "--dtype",
     .kind = OPTION_TEXT,
     .value = "DTYPE",
     .help = "float32, float16 or bfloat16 (default: as stored)",
     .choices = "float32|float16|bfloat16"},
    {.name = "--shuffle",
     .kind = OPTION_INTEGER,
     .value = "SEED",
     .help = "shuffle the problems (default: the query's order)",
     .maximum = INT64_MAX},
    {.name = "--shuffle-rows",
     .kind = OPTION_INTEGER,
     .value = "SEED",
     .help = "shuffle rows, each by itself, whatever problem it is of",
     .maximum = INT64_MAX},
    {.name = "--max-shard-size",
     .kind = OPTION_TEXT,
     .value = "SIZE",
     .help = "bytes of a file, 5GB or 500MB, with whole problems in it (default: a split is one file)"},
    {.name = "--normalize",
     .kind = OPTION_TEXT,
     .value = "RULE",
     .help = "none, standard or expected-norm, by the split 'train' (default: none)",
     .choices = "none|standard|expected-norm"},
    {.name = "--per",
     .kind = OPTION_TEXT,
     .value = "WHAT",
     .help = "a row of parquet is a 'row' of latents or a 'problem' (default: row)",
     .choices = "row|problem"},
    {.name = "--draft-vocab-size",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "of a draft head: write down its vocabulary, the tokens that are trained on most often",
     .minimum = 1,
     .maximum = INT32_MAX},
    {.name = "--vocab-size",
     .kind = OPTION_INTEGER,
     .value = "N",
     .help = "of the model, as its config.json has it; with --draft-vocab-size",
     .minimum = 1,
     .maximum = INT32_MAX},
    {.name = "--split",
     .kind = OPTION_TEXT,
     .value = "RULE",
     .help = "'source', or fractions: train=0.9,validation=0.1 (default: one split, 'all')"},
    {.name = "--split-column",
     .kind = OPTION_TEXT,
     .value = "COLUMN",
     .help = "the column with the split names (default: split)"},
    {.name = "--seed",
     .kind = OPTION_INTEGER,
     .value = "SEED",
     .help = "seed of the split by fractions (default: 0)",
     .maximum = INT64_MAX},
    {.name = "--require-complete",
     .kind = OPTION_FLAG,
     .help = "refuse a run or set that has not processed every problem"},
};

const struct command command_export = {
    .name = "export",
    .companion = "strata-export",
    .summary = "export the latents for training: safetensors, .npy, HDF5, Parquet, R-JEPA ...",
    .operands = operands,
    .operand_count = sizeof operands / sizeof operands[0],
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .sums_up = true,
    .print_details = print_details,
    .run = run,
};
