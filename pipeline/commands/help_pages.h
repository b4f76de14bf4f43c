// SPDX-License-Identifier: MIT
// What `strata help` makes of the tables of commands for other programs to show: manual pages and the shells'
// completion.
#ifndef STRATA_COMMANDS_HELP_PAGES_H
#define STRATA_COMMANDS_HELP_PAGES_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "commands/command.h"

struct help_exit_code {
    int code;
    const char *meaning;
};

extern const struct help_exit_code help_exit_codes[];
extern const size_t help_exit_code_count;

enum { HELP_FULL_LINE = 80 }; // a line of details of so many characters goes on in the next one

// The pages in the language of man(7): strata(1), strata-NAME(1) and strata-job(5).
void manual_print_overview(FILE *out);
int manual_print_command(FILE *out, const struct command *command, struct error *err);
int manual_print_job(FILE *out, struct error *err);

// Scripts for bash (loaded by bash-completion, or sourced) and zsh (a file _strata along fpath): commands,
// options, their choices, and files where a file is meant.
void completion_print_bash(FILE *out);
void completion_print_zsh(FILE *out);

#endif
