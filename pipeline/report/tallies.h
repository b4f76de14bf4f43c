// SPDX-License-Identifier: MIT
// What became of the problems: how long they are, in how many steps, and why some failed.
#ifndef STRATA_REPORT_TALLIES_H
#define STRATA_REPORT_TALLIES_H

#include "checkpoints/ledger.h"

enum { TALLY_SLOTS = 1 << 14, FAILURE_GROUPS = 30, FAILURE_IDS = 5, FAILURE_TEXT = 300 };

// How many have which value. The unit doubles where a value is beyond the slots.
struct tally {
    uint64_t *slots; // [TALLY_SLOTS]
    uint64_t unit;   // values of one slot
    uint64_t count, most;
    double sum;
};

void tally_add(struct tally *tally, uint64_t value);
// The smallest value that at least so much of all does not exceed, to a unit; 0 without any.
uint64_t tally_quantile(const struct tally *tally, double share);
uint64_t tally_between(const struct tally *tally, uint64_t from, uint64_t end); // [from, end), whole units

// Problems that failed or were skipped for reasons that differ in numbers and quoted names alone.
struct failure_group {
    enum problem_state state;
    char reason[FAILURE_TEXT];           // of the first of them
    char shape[FAILURE_TEXT];            // what they have in common
    char ids[FAILURE_IDS][FAILURE_TEXT]; // of the first ones, to be shown
    uint64_t count;
};

struct tallies {
    struct tally tokens, steps;   // of those that are done
    struct failure_group *groups; // [group_count], the largest first
    size_t group_count;
    uint64_t others; // in no group: too many kinds of reasons
};

// Begin, then add the problems of a run or of each part of a set, then order the groups.
int tallies_begin(struct tallies *tallies, struct error *err);
int tallies_add(struct tallies *tallies, struct ledger *ledger, struct error *err);
void tallies_order(struct tallies *tallies);
void tallies_destroy(struct tallies *tallies); // accepts zeros; leaves zeros

// What a reason has in common with others of its kind: numbers become "0", quoted text "''".
void failure_shape(const char *reason, char out[FAILURE_TEXT]);

#endif
