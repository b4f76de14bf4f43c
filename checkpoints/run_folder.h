// SPDX-License-Identifier: MIT
// The run directory: names of its files, and the lock that lets one runner in.
//   job.yaml  ledger.sqlite  shards/part-000000.h5 ...  latents.h5  throughput.csv  run.log  lock
// With a folder for the ledger (run.ledger) that one has, while a runner works, ledger.sqlite, lock and the
// open shard, and the run directory only what is complete (ledger_place.h).
#ifndef STRATA_CHECKPOINTS_RUN_FOLDER_H
#define STRATA_CHECKPOINTS_RUN_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

struct run_folder {
    char path[PATH_SIZE];
    char ledger[PATH_SIZE]; // folder of ledger, lock and open shard; `path` unless it is apart
    bool apart;             // the ledger's is another folder
    int lock;               // descriptor of the held lock file, -1 when not held
    int output_lock;        // where the ledger is apart: of the run directory, -1 when not held
};

// Makes the folder and shards/, the same of `ledger` (NULL: the ledger lies in the run directory), and takes
// the lock. The folder of the ledger must not be on a network file system unless `force`. STATUS_WRITE naming
// the other runner's process when the lock is taken, or the file when the folder is somebody else's
// (folder_content.h). The run directory's own lock keeps runners of other machines out where its file system
// has locks, and is done without where not.
int run_folder_open(struct run_folder *folder, const char *path, const char *ledger, bool force,
                    struct error *err);

// STATUS_JOB when the folder of the ledger is `output`, a run directory or a set, or lies in it: what the
// ledger's has, and that of another part, would be taken for the run's own. Neither has to be there yet.
int run_folder_check_ledger(const char *output, const char *ledger, struct error *err);

// STATUS_WRITE when a folder that is to have a ledger lies on a network file system; apart: it is
// run.ledger's.
int run_folder_refuse_network(const char *folder, bool apart, struct error *err);
void run_folder_close(struct run_folder *folder); // accepts a folder that failed to open

// "FOLDER/NAME" and "FOLDER/shards/part-NNNNNN.h5" (NNNNNN.partial.h5 for an open shard kept by a clean
// stop).
int run_folder_file(char out[PATH_SIZE], const char *folder, const char *name, struct error *err);
int run_folder_shard(char out[PATH_SIZE], const char *folder, uint64_t number, bool partial,
                     struct error *err);

enum { RUN_FOLDER_NAME = 64 };
void run_folder_shard_name(char out[RUN_FOLDER_NAME], uint64_t number, bool partial); // "part-000000.h5"
bool run_folder_parse_shard(const char *name, uint64_t *number,
                            bool *partial); // false when it is not such a name

// STATUS_DATA when FOLDER/shards is a link, or no folder: what lies in a run directory may have been put
// there by others who can write to it, and is not followed out of it. The run directory may be a link.
int run_folder_check(const char *folder, struct error *err);

// True while a runner holds the folder's lock. Looks by taking the lock shared for an instant.
bool run_folder_busy(const char *folder);

#endif
