// SPDX-License-Identifier: MIT
// A set: the folder of a job that runs in parts. Each part is an ordinary run directory in it, with a ledger
// and shards of its own:
//
//   set.json              how many parts there are; the first part to start writes it
//   survey.sqlite         survey_file.h
//   identity.json         what the parts share of their identities, from the first one to settle it
//   part-0007-of-0064/    a run directory (run_folder.h)
//
// Parts may start at the same moment on different machines: each of these files appears whole, once, and is
// not changed afterwards, so that no reader needs a lock. (survey.lock beside them only saves parts that
// start together the work of all making the survey.) What a kill leaves of them, written aside, goes a day
// later.
#ifndef STRATA_CHECKPOINTS_RUN_SET_H
#define STRATA_CHECKPOINTS_RUN_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "checkpoints/identity.h"

#define RUN_SET_FILE "set.json"
#define RUN_SET_SURVEY "survey.sqlite"

// Keys of a part's identity beside those of the job.
#define IDENTITY_PART "part"               // "7/64"
#define IDENTITY_PART_ROWS "part.rows"     // "1204 to 1377", rows of the query from 0 on; "none"
#define IDENTITY_PART_SURVEY "part.survey" // survey_file.sha256

// What the texts of a run, or of a part, have in common, where that is computed once.
#define IDENTITY_PREFIXES "batch.prefixes"

enum { RUN_SET_PARTS = 100000, RUN_SET_NAME = 64 };

struct run_part {
    uint64_t index; // from 0
    uint64_t count; // 0: a run that is no part
};

void run_set_part_name(char out[RUN_SET_NAME], const struct run_part *part); // "part-0007-of-0064"
int run_set_part_path(char out[PATH_SIZE], const char *folder, const struct run_part *part,
                      struct error *err); // of its folder in a set's, or in run.ledger
bool run_set_parse_name(const char *name, struct run_part *part); // false when it is not such a name

// "7/64", the first being 0/64.
bool run_set_parse_part(const char *text, struct run_part *part);

// How many parts the set in `folder` has, by set.json or where that was lost by the parts' folders; 0 when it
// is no set. STATUS_DATA when set.json is damaged, or a part of another number of parts is there.
int run_set_parts(const char *folder, uint64_t *parts, struct error *err);

// Appends the command that runs parts of the set, up to the number of one ("strata run /data/job.yaml
// --part").
int run_set_command(const char *folder, struct buffer *command, struct error *err);

// STATUS_JOB when the folder holds a run that is no set, STATUS_WRITE when it holds what is somebody else's.
// One that is not there may become a set.
int run_set_admit(const char *folder, struct error *err);

// Makes the folder a set of so many parts, or finds that it is one. STATUS_JOB when it is one of another
// number or holds a run that is no set, STATUS_WRITE when it cannot be written.
int run_set_begin(const char *folder, uint64_t parts, const char *command, struct error *err);

// What all parts have in common.
struct run_set_shared {
    struct identity identity; // without the keys that are each part's own
    char cpu_path[64];        // on processors
    struct buffer algorithms; // of matmuls, on devices that choose; data may be NULL
};

// *found is false before the first part has settled its own. The caller destroys *shared.
int run_set_shared(const char *folder, struct run_set_shared *shared, bool *found, struct error *err);

// Writes it, unless another part was first: then *shared is that part's afterwards, and *first false.
int run_set_share(const char *folder, struct run_set_shared *shared, bool *first, struct error *err);
void run_set_shared_destroy(struct run_set_shared *shared); // accepts zeros; leaves zeros

// True for a key of which each part has a value of its own.
bool run_set_is_own(const char *key);

// Adds the other keys to *common.
int run_set_copy_common(const struct identity *identity, struct identity *common, struct error *err);

#endif
