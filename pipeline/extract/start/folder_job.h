// SPDX-License-Identifier: MIT
// The job of a run directory: job.yaml as launched, its paths resolved against the folder it was launched
// from.
#ifndef STRATA_START_FOLDER_JOB_H
#define STRATA_START_FOLDER_JOB_H

#include "checkpoints/ledger.h"
#include "job/job.h"

// Reads FOLDER/job.yaml. The caller destroys *job.
int folder_job_read(struct job *job, const char *folder, struct ledger *ledger, struct error *err);

// Where the job file lay, kept in the ledger under this note.
#define FOLDER_JOB_NOTE "job.folder"

#endif
