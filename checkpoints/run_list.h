// SPDX-License-Identifier: MIT
// Several run directories taken as one result: the parts of a set, wherever they lie. A run by itself is a
// list of one.
#ifndef STRATA_CHECKPOINTS_RUN_LIST_H
#define STRATA_CHECKPOINTS_RUN_LIST_H

#include "checkpoints/run_set.h"

struct run_list_member {
    char folder[PATH_SIZE]; // where the part is, or would be; empty: not known
    struct run_part part;   // count 0: a run by itself
    bool there;             // it has a ledger
    bool begun;             // which has an identity
    uint64_t first, end;    // rows of the query, once it has begun
    char *fault; // of run_list_look: why it cannot be taken together with the others; NULL; owned by the list
};

struct run_list {
    char name[PATH_SIZE]; // for messages: the folder of the set, or of the run; "N run directories"
    char set[PATH_SIZE];  // folder of the set; empty where the parts were named one by one
    uint64_t parts;       // of the set; 0: a run by itself
    struct run_list_member *members; // by the parts' numbers, those that are missing among them
    size_t count;
    struct identity identity; // what all that have begun share; empty before one has
};

// Looks at what is there: `folders` is a run directory, the folder of a set, or some run directories of one
// set. STATUS_DATA when they are not one result, with the reason: a folder that is neither, parts of
// different sets or identities, a part twice, rows that overlap. Parts that are missing or have not begun are
// no error. The caller destroys *list.
int run_list_open(struct run_list *list, const char *const *folders, size_t count, struct error *err);

// The same for those who say what is wrong with each part: in the folder of a set, a part that is damaged,
// has another identity or is another part gets a `fault` in place of having begun, and the rows of the parts
// are not compared.
int run_list_look(struct run_list *list, const char *const *folders, size_t count, struct error *err);
void run_list_destroy(struct run_list *list); // accepts zeros; leaves zeros

// False for a run by itself, or what may be one: a single folder that is no set's.
int run_list_is_set(const char *const *folders, size_t count, bool *is_set, struct error *err);

// A part whose rows do not follow those of the parts before it: they overlap, or leave some out where no part
// between them is missing. Zeros to begin with.
struct run_list_gap {
    size_t index;    // of the part
    uint64_t before; // where the rows before it end
    size_t next;     // the walk's own, as the rest
    uint64_t end;
    bool missing;
};

bool run_list_next_gap(const struct run_list *list,
                       struct run_list_gap *gap); // false: there is none any more

// Appends the command that runs a part: "strata run /data/job.yaml --part 7/64".
int run_list_command(const struct run_list *list, size_t index, struct buffer *command, struct error *err);

#endif
