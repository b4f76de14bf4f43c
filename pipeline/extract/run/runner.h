// SPDX-License-Identifier: MIT
// The run: starts or resumes the job of a run directory and carries it to its end, to a stop, or to an error.
// The same call for both; what is done already is what the ledger says.
//
// It stands on four rooms of its own, each of which may include only those before it:
//   journal/  what a launch says of itself, from its start to its end: ledger, figures, events;
//   watch/    what looks on: stop signals, hung batches, calibration, drift and its causes;
//   stages/   what a batch goes through: read, prepared, planned and packed, computed, written, sealed;
//   start/    what comes before the first batch: inputs, survey, identity, load, calibration.
// The runner itself passes batches from stage to stage and heeds what the watch says of them.
#ifndef STRATA_RUN_RUNNER_H
#define STRATA_RUN_RUNNER_H

#include <stdbool.h>
#include <stdio.h>

#include "base/file.h"
#include "start/inputs.h"
#include "start/retry.h"

struct runner_options {
    struct inputs_options inputs;
    uint64_t stop_after; // batches of this launch; 0: to the end
    FILE *display;       // progress; NULL: none
    bool from_copy;      // go on from the ledger's copy where the ledger itself is lost (ledger_apart.h)
    // Of failed problems, once the run is finished; it is finished first when it is not.
    struct retry_wish retry;
};

struct runner_summary {
    char folder[PATH_SIZE];
    struct ledger_totals totals;
    struct ledger_retry_counts
        failures;            // which of the failed problems a retry would try, and how the last went
    bool retried;            // this launch tried failed problems again
    uint64_t problems;       // of the input
    uint64_t launch_batches; // computed by this launch
    uint64_t launch_tokens;
    double launch_seconds; // from the first batch to the last
    double wait_seconds;   // of them, spent waiting for the feeder or the writer
    double seal_seconds;   // after the last batch: what was left to write, seal and acknowledge
    uint64_t memory_peak;
};

// STATUS_OK: every problem is accounted for. STATUS_STOPPED, STATUS_DRIFT, STATUS_DATA (more failed problems
// than the job allows) and errors as base/error.h says; summary is filled as far as it is known.
int runner_run(const struct runner_options *options, struct runner_summary *summary, struct error *err);

#endif
