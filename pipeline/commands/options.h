// SPDX-License-Identifier: MIT
// Strict parsing of a subcommand's arguments: every operand and option is in a table; anything else is
// refused (exit 64) with the nearest valid name. Values follow as "--name VALUE" or "--name=VALUE"; "--" ends
// the options.
#ifndef STRATA_COMMANDS_OPTIONS_H
#define STRATA_COMMANDS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct command;
struct inputs_options; // start/inputs.h

enum { ARGUMENTS_MAXIMUM = 16 }; // operands, and options, of one command

struct operand {
    const char *name; // as the usage line shows it: "JOB.yaml"
    const char *help;
    bool optional;
    bool repeats; // the last one: any number of words, at least one unless optional
};

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_INTEGER };

struct option {
    const char *name; // "--output"
    enum option_kind kind;
    const char *value; // placeholder of the value: "DIR"; of a flag with choices "[=all]"; NULL for a flag
    const char *help;  // one line; says the default. NULL: the choices are all that there is to say
    // Of a text, "npy|hdf5": anything else is refused; NULL: any text that is not empty. A flag may have some
    // too, and is then given alone or as "--name=CHOICE".
    const char *choices;
    // Of choices that are rows of a table elsewhere, in place of the former: their names, NULL past the last.
    const char *(*choice)(size_t index);
    bool list;                // of a text with choices: any number of them, separated by commas
    int64_t minimum, maximum; // of an integer, both allowed
    bool required;
};

enum { OPTION_CHOICES = 256 };

// The option's choices with bars between them, "npy|hdf5"; NULL when it has none.
const char *option_choices(const struct option *option, char out[OPTION_CHOICES]);

struct argument {
    bool given;
    const char *text;
    int64_t number; // of OPTION_INTEGER
};

struct arguments {
    const struct command *command;
    struct argument operands[ARGUMENTS_MAXIMUM]; // beside command->operands
    struct argument options[ARGUMENTS_MAXIMUM];  // beside command->options
    const char *const *words;                    // all operands, in their order
    size_t word_count;
};

// Parses argv[0..argc), the words after the subcommand, whose operands come to stand first. STATUS_USAGE with
// the word that is wrong.
int arguments_parse(struct arguments *arguments, const struct command *command, int argc, char **argv,
                    struct error *err);

// Puts another word in the place of the first operand; `text` lives as long as the arguments.
void arguments_replace_first(struct arguments *arguments, const char *text);

// What was given. `name` must be in the command's table (the program aborts otherwise: it is a mistake of the
// programmer).
bool argument_given(const struct arguments *arguments, const char *name);
const char *argument_text(const struct arguments *arguments, const char *name, const char *otherwise);
int64_t argument_integer(const struct arguments *arguments, const char *name, int64_t otherwise);

// The words of the last operand, which repeats.
const char *const *argument_words(const struct arguments *arguments, size_t *count);

// ---- what several commands take, declared once; each names in its tables those that it has ----

#define RUNS_OPERAND                                                                                         \
    {                                                                                                        \
        .name = "DIR", .repeats = true,                                                                      \
        .help = "a run directory, the folder of a set of parts, or several parts of one set"                 \
    }

#define JOB_OPERAND                                                                                          \
    { .name = "JOB.yaml", .help = "the job file (strata help job)" }

#define JOB_OPTION_OUTPUT                                                                                    \
    {                                                                                                        \
        .name = "--output", .kind = OPTION_TEXT, .value = "DIR",                                             \
        .help = "the run directory (default: run.output of the job)"                                         \
    }

// `note`, a literal, follows the first words of the help.
#define JOB_OPTION_LIMIT(note)                                                                               \
    {                                                                                                        \
        .name = "--limit", .kind = OPTION_INTEGER, .value = "N",                                             \
        .help = "process only the first N rows" note " (default: all)", .minimum = 1, .maximum = INT64_MAX   \
    }

#define JOB_OPTION_THREADS                                                                                   \
    {                                                                                                        \
        .name = "--threads", .kind = OPTION_INTEGER, .value = "N",                                           \
        .help = "threads of the CPU back end; the output does not depend on it (default: run.threads of "    \
                "the job)",                                                                                  \
        .minimum = 1, .maximum = 1024                                                                        \
    }

#define JOB_OPTION_PART                                                                                      \
    {                                                                                                        \
        .name = "--part", .kind = OPTION_TEXT, .value = "I/N",                                               \
        .help = "run part I of N (0/N to N-1/N), a run in a folder of its own under run.output; auto: as "   \
                "the batch system's array says"                                                              \
    }

#define JOB_OPTION_MODEL_COPY                                                                                \
    {                                                                                                        \
        .name = "--model-copy", .kind = OPTION_TEXT, .value = "PATH",                                        \
        .help = "read the model from this copy of it, on a local disk (default: model.path of the job)"      \
    }

// Sets in *options what was given of these; one that the command does not take stays as it is.
void job_arguments(struct inputs_options *options, const struct arguments *arguments);

#endif
