// SPDX-License-Identifier: MIT
// Holds the parts of a set against each other and against its survey: whose rows they have, and that every
// problem is in one of them, once. What is in each part is verify_run's.
#ifndef STRATA_CHECKPOINTS_VERIFY_SET_H
#define STRATA_CHECKPOINTS_VERIFY_SET_H

#include "checkpoints/run_list.h"
#include "checkpoints/verify.h"

struct verify_set_report {
    uint64_t finished; // parts that account for all of their rows
    uint64_t recorded; // problems with an outcome, in all parts
    uint64_t done;     // of them, those that are in shards
    bool surveyed;     // there is a survey, and all parts are of it
    bool proven;       // every problem of the survey is recorded, once
};

// Of a list from run_list_look. Calls `tell` as verify_run does; adds to report->faults and notes. Reads
// every problem of every ledger, and holds a page of them.
int verify_set(const struct run_list *list, verify_tell tell, void *context, struct verify_report *report,
               struct verify_set_report *set, struct error *err);

#endif
