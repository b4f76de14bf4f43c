// SPDX-License-Identifier: MIT
// Words that people type who know other programs.
#ifndef STRATA_COMMANDS_HABITS_H
#define STRATA_COMMANDS_HABITS_H

#include <stddef.h>

// What to type in place of a command or of an option that does not exist, or NULL.
const char *habit_command(const char *word);
const char *habit_option(const char *command, const char *word);

// The name among those of a command's options that a word such as -o stands for elsewhere, or NULL.
const char *habit_option_name(const char *word, const char *const *names, size_t count);

#endif
