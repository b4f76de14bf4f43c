// SPDX-License-Identifier: MIT
// How many GPUs are here and which memory node each is next to, asked in a process of its own: a driver that
// hangs would otherwise hang the process that has to hear stop signals, and stays out of its memory.
#ifndef STRATA_PARTS_GPUS_H
#define STRATA_PARTS_GPUS_H

#include <stddef.h>

#include "base/error.h"

enum { GPUS_MOST = 64, GPUS_SECONDS = 60 };

struct gpus {
    size_t count;
    int nodes[GPUS_MOST]; // of "cuda:N"; PLACES_NO_NODE: not known
    char why[512];        // there is none
};

// STATUS_DEVICE when the driver does not answer within GPUS_SECONDS, or ends the process; STATUS_STOPPED when
// a stop signal that is held comes first; STATUS_INTERNAL without a process or a pipe.
int gpus_ask(struct gpus *gpus, struct error *err);

#endif
