// SPDX-License-Identifier: MIT
// Trying failed problems of a run again: which ones, the sizes of their batches, and the moment from which
// the retry belongs to the run. Everything after that is the run's own way: window, feeder, shards, commits.
#ifndef STRATA_START_RETRY_H
#define STRATA_START_RETRY_H

#include "checkpoints/ledger.h"
#include "start/inputs.h"

struct journal;

// What the command line asks for.
struct retry_wish {
    bool asked;
    enum ledger_retry_scope scope;
};

struct retry {
    struct ledger_retry list; // count 0: none
    bool fresh;               // not in the ledger yet
    bool possible;            // one is asked for, and problems of the finished run have failed
    bool mended;              // rows of failed problems are other ones than before
};

// The retry that is open, whatever is asked for; or the one that is asked for, when the run is finished and
// has such problems.
int retry_find(struct retry *retry, struct ledger *ledger, const struct retry_wish *wish, struct error *err);
void retry_destroy(struct retry *retry); // accepts zeros

// After the hash of the rows was made (inputs->survey): when rows have changed since the run finished, and
// only those of failed problems, a retry that is asked for takes every failed problem. Otherwise nothing
// changes, and the identity refuses such rows.
int retry_accept_mended(struct retry *retry, struct inputs *inputs, struct ledger *ledger, struct error *err);

// At the end of a finished run with failed problems: keeps the hash that retry_accept_mended compares.
int retry_keep_hash(struct inputs *inputs, struct ledger *ledger, struct error *err);

// Surveys the problems into inputs->retry and settles inputs->limits for their plan. Their batches are no
// larger than the run's, so that nothing the run is made for grows, unless one text alone is. A function of
// the list, the rows and the run's survey: every launch finds the same.
int retry_survey(const struct retry *retry, struct inputs *inputs,
                 bool (*progress)(void *context, uint64_t problems), void *context, struct error *err);

// Makes a fresh retry a part of the run.
int retry_begin(struct retry *retry, const struct inputs *inputs, struct journal *journal, struct error *err);

#endif
