// SPDX-License-Identifier: MIT
#include "commands/export_companion.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "commands/command.h"
#include "commands/companion.h"

static const char program[] = "strata-export";

static const struct {
    const char *name;
    const char *help;
} formats[] = {
    {"parquet", "Parquet and a dataset card, as load_dataset(FOLDER) reads them: by strata-export (Python)"},
    {"speculators", "samples for training speculators on: by strata-export"},
    {"specforge", "samples for training EAGLE-3 in SpecForge: by strata-export"},
};
enum { FORMATS = sizeof formats / sizeof formats[0] };

const char *export_companion_format(size_t index) {
    return index < FORMATS ? formats[index].name : NULL;
}

const char *export_companion_help(size_t index) {
    return index < FORMATS ? formats[index].help : NULL;
}

bool export_companion_has(const char *format) {
    for (size_t i = 0; format != NULL && i < FORMATS; i++) {
        if (strcmp(formats[i].name, format) == 0) {
            return true;
        }
    }
    return false;
}

static bool takes(const char *option) {
    static const char *const known[] = {
        "--format",           "--to",        "--layers",         "--dtype", "--split",
        "--split-column",     "--seed",      "--max-shard-size", "--per",   "--require-complete",
        "--draft-vocab-size", "--vocab-size"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i], option) == 0) {
            return true;
        }
    }
    return false;
}

// The words that were given, as strata-export takes them.
static int collect(const struct arguments *arguments, const char **words, char numbers[][24],
                   struct error *err) {
    const struct command *command = arguments->command;
    size_t count = 1; // the program's name
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        const struct argument *argument = &arguments->options[i];
        if (!argument->given) {
            continue;
        }
        if (!takes(option->name)) {
            return error_set(err, STATUS_USAGE, "%s does not go with --format %s", option->name,
                             argument_text(arguments, "--format", ""));
        }
        words[count++] = option->name;
        if (option->kind == OPTION_INTEGER) {
            snprintf(numbers[i], sizeof numbers[i], "%" PRId64, argument->number);
            words[count++] = numbers[i];
        } else if (option->kind == OPTION_TEXT) {
            words[count++] = argument->text;
        }
    }
    words[count++] = "--"; // folders may begin with anything
    for (size_t i = 0; i < arguments->word_count; i++) {
        words[count++] = arguments->words[i];
    }
    return STATUS_OK;
}

int export_companion_become(const struct arguments *arguments, struct error *err) {
    char numbers[ARGUMENTS_MAXIMUM][24];
    char purpose[64];
    void *words;
    TRY(memory_zeroed(&words, arguments->word_count + 2 * ARGUMENTS_MAXIMUM + 3, sizeof(const char *), err));
    snprintf(purpose, sizeof purpose, "--format %s is written by", argument_text(arguments, "--format", ""));
    int status = collect(arguments, words, numbers, err);
    if (status == STATUS_OK) {
        status = companion_become(program, purpose, words, err);
    }
    free(words);
    return status;
}

int export_companion_tables(const char *folder, bool *missing, struct error *err) {
    const char *words[] = {program, "--format", "rjepa-parquet", "--", folder, NULL};
    int code = 0;
    TRY(companion_run(program, words, missing, &code, err));
    *missing = *missing || code == -STATUS_DEVICE;
    return *missing || code == 0
               ? STATUS_OK
               : error_set(err, STATUS_WRITE, "%s could not write the tables of %s (exit code %d)", program,
                           folder, code);
}
