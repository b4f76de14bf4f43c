// SPDX-License-Identifier: MIT
// The start of a launch, up to the first batch: run directory, ledger, recovery, inputs, survey and weights
// beside each other, identity, disk, memory, calibration. launch_open takes the steps in order; those of a
// subject are in a file (launch_steps.h).
//
// The main thread has ledger, display and device. Beside it are the guard's thread, which hears signals, and
// the surveyor's, which has the problems.
#ifndef STRATA_START_LAUNCH_H
#define STRATA_START_LAUNCH_H

#include "checkpoints/ledger_apart.h"
#include "checkpoints/recovery.h"
#include "checkpoints/run_folder.h"
#include "journal/journal.h"
#include "start/display.h"
#include "start/retry.h"
#include "start/run_layout.h"
#include "start/surveyor.h"
#include "watch/drift_watches.h"
#include "watch/guard.h"

struct launch_options {
    struct inputs_options inputs;
    FILE *display;           // progress; NULL: none
    struct retry_wish retry; // of failed problems, once the run is finished
    bool from_copy;          // ledger_apart.h
};

struct launch {
    const struct launch_options *options;
    struct inputs inputs;
    struct run_folder folder;
    struct ledger_apart apart;
    struct log log;
    bool log_open;
    struct journal journal;
    struct guard guard;
    struct display display;
    struct surveyor surveyor;
    struct prefix_wish wish; // for the survey
    bool fresh;              // this launch counts the problems; an earlier one's counts are not there
    int survey_status;       // of the survey, once it has ended, and of what it found
    struct error survey_err;
    bool loads; // the weights are being read, or are there
    struct model_limits limits;
    struct recorded recorded;
    struct run_layout layout;
    struct drift_watches watches;
    struct ledger_partial partial;
    struct buffer partial_record;
    bool has_partial;
    struct retry retry;      // of failed problems of a finished run
    struct buffer residency; // where the loaded model is (start/resident.h)
    bool finished;           // by an earlier launch: nothing is left to do
};

int launch_open(struct launch *launch, const struct launch_options *options, struct error *err);

// Records how the launch ended, closes the ledger and carries it to the run directory, which is complete
// then. After an error of HDF5 or of writing nothing more is written. Returns the status, or that of an end
// that was good but could not be carried to the run directory.
int launch_end(struct launch *launch, int status, struct error *err);

// Closes all else. `status` and `err` are those of launch_end, for the log.
void launch_close(struct launch *launch, int status, const struct error *err);

#endif
