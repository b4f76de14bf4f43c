// SPDX-License-Identifier: MIT
// The process of one part: started in its place on the machine, heard through a pipe, told to stop, reaped.
//
// It leads a process group of its own and has no terminal, so that what a terminal or a shell sends to all
// (^C, a hang-up) reaches it through its parent alone: a run that hears the same signal twice ends at once. A
// batch system may tell it as well, so the parent says SIGHUP, which a run may hear any number of times
// beside others; and so does the kernel when the parent dies.
#ifndef STRATA_PARTS_CHILD_H
#define STRATA_PARTS_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"
#include "parts/places.h"

enum { CHILD_TAIL = 2048, CHILD_END = 128 };

struct child {
    pid_t id;                  // 0: none
    int errors;                // what it says on standard error comes here
    char tail[CHILD_TAIL + 1]; // the end of that
    size_t tail_size;
};

// argv: NULL behind the last. Its standard input is empty, and its standard output goes nowhere. One that
// cannot be executed says so and ends with INTERNAL. STATUS_INTERNAL when no process or pipe is to be had.
int child_start(struct child *child, const char *program, char *const *argv, const struct place *place,
                struct error *err);

// Takes in what it said and whether it has ended (*ended, as waitpid tells it; the child is none then). Does
// not wait.
bool child_ended(struct child *child, int *ended);

void child_stop(const struct child *child); // cleanly; none: nothing happens
void child_kill(const struct child *child);

// "was killed by signal 9 (Killed)", "ended with exit code 70"
void child_describe_end(char out[CHILD_END], int ended);

// The line that says why it ended: the first one of its last message, "strata run: ...", or its last line; up
// to a line feed or the end. "" when it said nothing.
const char *child_reason(struct child *child);

// The last lines that it said, at most `lines`, without a line feed behind them; "" when none.
const char *child_last_lines(struct child *child, size_t lines);

#endif
