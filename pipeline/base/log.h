// SPDX-License-Identifier: MIT
// The run log: one line an entry, to a file and, from a level on, to standard error. Any thread may write.
#ifndef STRATA_BASE_LOG_H
#define STRATA_BASE_LOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

enum log_level { LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

struct log {
    FILE *file;                // NULL: standard error only
    enum log_level echo_level; // entries of this level and above also go to standard error
    bool terminal;             // standard error is one: a progress line may stand there, and a ^C after it
    pthread_mutex_t lock;
};

int log_open(struct log *log, const char *path, struct error *err); // appends; path NULL: no file

// From here on entries go to this file too. Other threads may be writing.
int log_add_file(struct log *log, const char *path, struct error *err);
void log_close(struct log *log); // accepts a log that failed to open

// "2026-11-21T10:15:00Z warn  text". A log that cannot be written never stops a run: the entry is dropped.
void log_write(struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
