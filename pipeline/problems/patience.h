// SPDX-License-Identifier: MIT
// Waiting for a database that another program holds: a passing condition, worth about a minute. For this room
// only.
#ifndef STRATA_PROBLEMS_PATIENCE_H
#define STRATA_PROBLEMS_PATIENCE_H

#include "base/error.h"
#include "problems/watch.h"

struct patience {
    const struct watch *watch; // or NULL
    const char *path;          // of the database, for messages
    double began;              // of this wait
    double pause;              // before the next try
    bool said;
    bool stopped;
};

// True for SQLite's results that say "not now".
bool patience_is_due(int code);

// To be called after each try that was refused: sleeps longer each time. False when the time is over or a
// stop was asked for.
bool patience_wait(struct patience *patience);

// The next refusal begins another wait.
void patience_renew(struct patience *patience);

// STATUS_STOPPED: run again later. `what` is what could not be done.
int patience_over(const struct patience *patience, const char *what, struct error *err);

#endif
