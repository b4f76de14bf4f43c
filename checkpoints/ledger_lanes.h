// SPDX-License-Identifier: MIT
// What a run on several devices says of each while it goes on: a note of the ledger, beside the live state.
#ifndef STRATA_CHECKPOINTS_LEDGER_LANES_H
#define STRATA_CHECKPOINTS_LEDGER_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "checkpoints/ledger.h"

enum { LEDGER_LANES = 8 };

struct ledger_lane {
    char name[LEDGER_DEVICE_NAME]; // "cuda:1"
    uint64_t batches;              // of this launch
    double tokens_per_second;      // of late
    struct ledger_device figures;  // at its last batch
};

int ledger_set_lanes(struct ledger *ledger, uint64_t launch, const struct ledger_lane *lanes, size_t count,
                     struct error *err);

// Those of `launch`, at most LEDGER_LANES; none where the note is of another one, or cannot be read.
int ledger_lanes(struct ledger *ledger, uint64_t launch, struct ledger_lane *lanes, size_t *count,
                 struct error *err);

#endif
