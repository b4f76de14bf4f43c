// SPDX-License-Identifier: MIT
// Calibrations kept for later: what a batch costs on a device, keyed by everything that may change it. The
// ledger keeps one for the launches of a run; the job's run.profile names a file (JSON) that keeps them
// across runs.
#ifndef STRATA_WATCH_PROFILE_H
#define STRATA_WATCH_PROFILE_H

#include "checkpoints/ledger.h"
#include "watch/drift.h"

enum { PROFILE_KEY = 448 };

struct profile {
    struct drift_cost cost;
    double canary_seconds;
    struct drift_cost own_cost; // by the device's own time
    double canary_own_seconds;  // likewise; 0: it tells none, and own_cost is zeros
    double sm_clock;            // MHz, at which the canary took that; 0: not known
    char canary_sha256[DIGEST_HEX];
};

// What the ledger holds under the key. STATUS_DATA when it is damaged.
int profile_find(struct profile *profile, const char *key, struct ledger *ledger, bool *found,
                 struct error *err);

// What a file holds under the key; a missing file holds nothing. STATUS_DATA when it is not a profile.
int profile_find_in_file(struct profile *profile, const char *key, const char *path, bool *found,
                         struct error *err);

int profile_store(const struct profile *profile, const char *key, struct ledger *ledger, struct error *err);

// Adds it to the file, which other runs may be adding to at the same time.
int profile_store_in_file(const struct profile *profile, const char *key, const char *path,
                          struct error *err);

// Texts in the same file: the algorithms of a GPU's matmuls (start/algorithms.h).
int profile_find_text_in_file(struct buffer *text, const char *key, const char *path, bool *found,
                              struct error *err);
int profile_store_text_in_file(const char *text, const char *key, const char *path, struct error *err);

#endif
