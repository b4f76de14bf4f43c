// SPDX-License-Identifier: MIT
// What `strata status` and `strata verify` know of the parts of a set at one moment: each part's state in few
// words, and the sums of all.
#ifndef STRATA_COMMANDS_SET_SNAPSHOT_H
#define STRATA_COMMANDS_SET_SNAPSHOT_H

#include "checkpoints/run_list.h"
#include "commands/run_snapshot.h"

enum part_state {
    PART_FINISHED,
    PART_RUNNING,
    PART_STOPPED, // cleanly, before its end
    PART_KILLED,
    PART_FAILED,  // its last launch ended with an error
    PART_DAMAGED, // cannot be read, or is no part of this set
    PART_NEW,     // no launch yet
    PART_STATES,
};

struct part_snapshot {
    enum part_state state;
    bool given; // false: not among the parts that were named one by one, and nothing is known of it
    struct ledger_totals totals;
    uint64_t transient; // failed problems that a retry would try again
    bool has_survey;
    uint64_t problems, tokens_total; // of its own survey
    uint64_t tokens;                 // with those computed but not sealed yet while it runs
    double rate;                     // tokens per second now
    bool has_eta;
    double eta; // seconds
    int64_t process;
    int exit_code; // of the last launch that ended; -1: none
    char stage[24];
    char host[128]; // of the last launch
    char reason[512];
};

struct set_snapshot {
    int64_t now; // unix seconds
    struct run_list list;
    struct part_snapshot *parts; // [list.count]
    uint64_t states[PART_STATES];
    uint64_t given;    // parts
    bool has_problems; // of all rows: by the set's survey, or those of all parts
    uint64_t problems;
    bool has_tokens;   // every part has counted its own
    bool has_estimate; // those that have not count by the bytes of their rows
    uint64_t tokens_total;
    struct ledger_totals totals; // sums; finished: all parts are
    uint64_t transient;
    uint64_t tokens;
    double rate;
    bool has_slowest, has_all;
    double slowest; // seconds until the last of the running parts is done
    double all;     // seconds until all parts are done, at the rate of those that run now
};

const char *part_state_name(enum part_state state); // "finished", "running" ... "not begun"

// STATUS_DATA when the folders are no set (run_list_look).
int set_snapshot_take(struct set_snapshot *snapshot, const char *const *folders, size_t count,
                      struct error *err);
void set_snapshot_free(struct set_snapshot *snapshot); // also after a failure

// Whether a part that ran still does. Looks at locks alone.
bool set_snapshot_runs(const struct set_snapshot *snapshot);

// "failed, 12.3 %, exit code 69: no device; run it: strata run job.yaml --part 3/64": what there is to say of
// a part in one line, without its number.
int part_snapshot_describe(const struct set_snapshot *snapshot, size_t index, struct buffer *line,
                           struct error *err);

#endif
