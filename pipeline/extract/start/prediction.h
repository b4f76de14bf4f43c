// SPDX-License-Identifier: MIT
// What a launch foretells of its speed before batch 1, and what it then measures: kept in the ledger, so that
// status and log can hold one against the other.
//
// Sweeps (batches, where nothing streams) of what is left cost what the calibration says they do
// (watch/canary.h). On processors that is the time that their threads worked, so that a neighbour of the
// calibration is not taken for the whole run's, and by the wall clock how long blocks take to come.
#ifndef STRATA_START_PREDICTION_H
#define STRATA_START_PREDICTION_H

#include "checkpoints/ledger.h"
#include "start/inputs.h"

struct drift_cost; // watch/drift.h

struct prediction {
    uint64_t launch; // whose it is
    uint64_t tokens; // that were left to compute
    double seconds;  // that they take
    double tokens_per_second;
    uint64_t group; // batches of a sweep; 0: nothing streams
    char limit[24]; // what bounds the rate: forecast_bound_name
};

struct prediction_basis {
    const struct inputs *inputs; // surveyed
    const struct model_limits *limits;
    const struct drift_cost *cost;     // of a sweep, by the wall clock
    const struct drift_cost *own_cost; // by the device's own; zeros: it tells none
    struct ledger_totals sealed;       // by earlier launches
    uint64_t partial;                  // batches of the open shard that one of them left
    uint64_t launch;
};

int prediction_make(struct prediction *out, const struct prediction_basis *basis, struct error *err);

int prediction_store(const struct prediction *prediction, struct ledger *ledger, struct error *err);

// *found is false where no launch has told one, or where it cannot be understood.
int prediction_load(struct prediction *out, struct ledger *ledger, bool *found, struct error *err);

#endif
