// Calibrations kept for later: what a batch costs on a device, keyed by everything that may change it. The
// ledger keeps one for the launches of a run; the job's run.profile names a file (JSON) that keeps them
// across runs.
#ifndef STRATA_EXTRACT_PROFILE_H
#define STRATA_EXTRACT_PROFILE_H

#include "checkpoints/ledger.h"
#include "extract/drift.h"

struct profile {
    struct drift_cost cost;
    double canary_seconds;
    char canary_sha256[DIGEST_HEX];
};

// The ledger's (found by key), else the file's (path may be NULL).
int profile_find(struct profile *profile, const char *key, struct ledger *ledger, const char *path,
                 bool *found, struct error *err);

// Stores under the key in the ledger and, when there is a path, in the file.
int profile_store(const struct profile *profile, const char *key, struct ledger *ledger, const char *path,
                  struct error *err);

#endif
