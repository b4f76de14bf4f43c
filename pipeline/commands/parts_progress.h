// SPDX-License-Identifier: MIT
// How far the parts of a set are together: read from their ledgers, and shown in one line.
//
// A thread of its own reads and shows, since neither a disk that hangs nor a terminal that stands still may
// keep the supervisor from hearing signals. What is said to people meanwhile goes through it too, so that it
// does not run into the line.
#ifndef STRATA_COMMANDS_PARTS_PROGRESS_H
#define STRATA_COMMANDS_PARTS_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "parts/supervisor.h"
#include "start/display.h"

// The run directory of a part.
int parts_folder_of(char out[PATH_SIZE], const char *folder, size_t part, size_t count, struct error *err);

struct part_figures {
    uint64_t problems, tokens;                           // in all; zeros until its own survey has ended
    uint64_t accounted;                                  // problems with an outcome, sealed or not
    uint64_t computed;                                   // tokens, likewise
    uint64_t done, failed, skipped, rows, shards, bytes; // sealed
    double rate;                                         // tokens per second over the last batches
};

struct parts_progress {
    const char *folder; // of the set
    size_t count;
    bool planned;                 // the survey of the set is there
    uint64_t problems;            // in all, as it says
    struct part_figures *figures; // of each part, as read last
    struct display display;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;         // of what follows, held for moments
    enum supervised_state *state; // of each part
    bool *fresh;                  // of each part: its ledger may have changed since it was read
    size_t running;
    size_t finished;
    struct buffer words; // said, and not shown yet
    size_t lost;         // events for which there was no room
    bool ends;
};

// folder: of the set; it outlives the progress. out: where the line is shown; NULL: none is, and nothing is
// read before the end, only told. Stop signals are held already, so that the thread hears none. The caller
// destroys *progress, also after a failure.
int parts_progress_start(struct parts_progress *progress, const char *folder, size_t parts, FILE *out,
                         struct error *err);

// Does not wait, as what follows.
void parts_progress_take(struct parts_progress *progress, const struct supervised *parts);

// A line of its own on standard error, "strata: ..."; the lines below it are indented (NULL: none).
void parts_progress_say(struct parts_progress *progress, const char *text, const char *lines);

// Ends the line, reads every ledger once more and adds up what is known. False, with nothing added up, when a
// disk did not answer for some seconds.
bool parts_progress_end(struct parts_progress *progress, struct part_figures *sums);

// Accepts zeros. False when the thread hangs: the progress and its folder's name stay, the process is about
// to end.
bool parts_progress_destroy(struct parts_progress *progress);

#endif
