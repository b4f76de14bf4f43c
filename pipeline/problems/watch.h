// SPDX-License-Identifier: MIT
// Who waits for the problems: told how far the reading is, and able to end it. Every part may be NULL or
// zero, and so may a pointer to one.
#ifndef STRATA_PROBLEMS_WATCH_H
#define STRATA_PROBLEMS_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
    bool (*stopped)(void *context);                // asked often: true ends what is going on (STATUS_STOPPED)
    void (*say)(void *context, const char *text);  // a line for people, when something takes long
    void (*reading)(void *context, uint64_t rows); // so many rows have been looked at
    void *context;
    double patience; // seconds to wait for a database that another program holds; 0: 60
};

#endif
