// SPDX-License-Identifier: MIT
// What the parts of a set are together: the run that the job would be without parts, whose identity the
// survey of all rows completes.
#ifndef STRATA_CHECKPOINTS_RUN_WHOLE_H
#define STRATA_CHECKPOINTS_RUN_WHOLE_H

#include "checkpoints/run_list.h"

struct run_whole {
    bool surveyed;            // the survey was found; otherwise the next is 0 and IDENTITY_PROBLEMS missing
    uint64_t problems;        // rows of the query
    struct identity identity; // of the job without parts
};

// Of parts named one by one the survey is looked for beside each, and is theirs by its SHA-256. STATUS_DATA
// when the set's own is damaged or another. The caller destroys *whole.
int run_whole_read(struct run_whole *whole, const struct run_list *list, struct error *err);
void run_whole_destroy(struct run_whole *whole); // accepts zeros; leaves zeros

#endif
