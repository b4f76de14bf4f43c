// SPDX-License-Identifier: MIT
// The survey in a thread of its own: it takes one processor and the problems, and nothing of the device, so
// that the weights can be loaded meanwhile. The thread has source and preparer for itself until
// surveyor_finish; who started it is the only one to call these functions.
#ifndef STRATA_START_SURVEYOR_H
#define STRATA_START_SURVEYOR_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "start/survey.h"

struct surveyor_options {
    struct source *source;
    struct preparer *preparer;
    struct plan_limits limits;
    const struct prefix_wish *wish; // as for survey_make
    const struct survey *known; // of an earlier launch: the rows are only hashed again; NULL: all is counted
    bool (*stopped)(void *context); // from the thread; true ends the survey (STATUS_STOPPED)
    void *context;
};

struct surveyor {
    struct surveyor_options options;
    pthread_t thread;
    bool running;                  // not yet joined
    atomic_uint_fast64_t problems; // counted so far
    atomic_bool stop;              // asked for
    pthread_mutex_t lock;          // what follows
    pthread_cond_t ended;
    bool done;
    struct survey survey;
    int status;
    struct error err;
};

int surveyor_start(struct surveyor *surveyor, const struct surveyor_options *options, struct error *err);

// Waits for the end, for so many seconds at most; 0: only looks. True when the survey has ended, however.
bool surveyor_wait(struct surveyor *surveyor, double seconds);

uint64_t surveyor_problems(const struct surveyor *surveyor);

// Asks it to end. Whether it was asked: also for who reads the problems, from the thread.
void surveyor_stop(struct surveyor *surveyor);
bool surveyor_is_stopped(const struct surveyor *surveyor);

// Waits for the thread's end and gives its result: as survey_make, or with `known` that survey with the hash
// of the rows that are there now.
int surveyor_finish(struct surveyor *surveyor, struct survey *out, struct error *err);

#endif
