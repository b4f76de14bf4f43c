// For commands that read the problems in the foreground: what takes long is told on standard error.
#ifndef STRATA_COMMANDS_WAITING_H
#define STRATA_COMMANDS_WAITING_H

#include "problems/watch.h"

struct waiting {
    const char *command; // "check"
    double told;         // when rows were last told
};

// `waiting` outlives the watch.
struct watch waiting_watch(struct waiting *waiting, const char *command);

#endif
