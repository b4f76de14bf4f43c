// The job file and what the command line puts in the place of its keys, declared once for the commands that
// open a job: each names in its tables what it takes.
#ifndef STRATA_COMMANDS_JOB_ARGUMENTS_H
#define STRATA_COMMANDS_JOB_ARGUMENTS_H

#include "commands/options.h"
#include "extract/inputs.h"

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
        .help = "only the first N rows of the query" note " (default: all)", .minimum = 1,                   \
        .maximum = INT64_MAX                                                                                 \
    }

#define JOB_OPTION_THREADS                                                                                   \
    {                                                                                                        \
        .name = "--threads", .kind = OPTION_INTEGER, .value = "N",                                           \
        .help = "threads that compute; changes no byte of the output (default: run.threads of the job)",     \
        .minimum = 1, .maximum = 1024                                                                        \
    }

// What was given of them; an option that the command does not take is as one that was not given.
struct inputs_options job_arguments(const struct arguments *arguments, struct watch watch);

#endif
