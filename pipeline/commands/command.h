// SPDX-License-Identifier: MIT
// The command line: one table of subcommands, each with its operands, options and the function that does the
// work. A subcommand is one file commands/NAME.c that defines `const struct command command_NAME`; the same
// tables parse the arguments and print the help. Only main turns the returned status into an exit code.
#ifndef STRATA_COMMANDS_COMMAND_H
#define STRATA_COMMANDS_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "commands/options.h"

struct command_context {
    FILE *out;                         // results; errors and warnings go to standard error
    const struct arguments *arguments; // parsed and checked against the command's tables: see options.h
};

struct command {
    const char *name;
    const char *summary;            // one line of `strata help`
    const struct operand *operands; // in order
    size_t operand_count;
    const struct option *options;
    size_t option_count;
    const char *details; // paragraphs of `strata help NAME`, lines of at most 100 characters, ending in a
                         // newline; or NULL
    void (*print_details)(FILE *out); // in its place, where a table elsewhere has some of it
    const char *companion; // the Python package's program that is called as the manual's page is; or NULL
    bool holds_signals;    // hears stop signals itself: until it does they wait, from the first moment on
    bool sums_up;          // its result lies elsewhere; what it prints only sums that up
    // Returns STATUS_OK, or a status with its one line in `err`, which main prints as "strata NAME: ..." to
    // standard error.
    int (*run)(struct command_context *context, struct error *err);
};

// Defined in commands/NAME.c; commands.c lists those that exist.
extern const struct command command_run;
extern const struct command command_survey;
extern const struct command command_import;
extern const struct command command_check;
extern const struct command command_plan;
extern const struct command command_status;
extern const struct command command_log;
extern const struct command command_report;
extern const struct command command_show;
extern const struct command command_verify;
extern const struct command command_export;
extern const struct command command_bench;
extern const struct command command_help;

// The table, in the order of `strata help`.
size_t command_count(void);
const struct command *command_at(size_t index);
const struct command *command_find(const char *name); // NULL when there is none

// Does what the command line asks and returns the process's exit code.
int commands_main(int argc, char **argv);

#endif
