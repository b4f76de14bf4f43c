// SPDX-License-Identifier: MIT
// The second half of `strata verify --deep`: the files of the model that a run was computed with, read and
// hashed again. The first half, the shards, is checkpoints/verify.h.
#ifndef STRATA_COMMANDS_VERIFY_MODEL_H
#define STRATA_COMMANDS_VERIFY_MODEL_H

#include "checkpoints/verify.h"

// Holds the model's files, and its adapter's, against the fingerprint in the run's identity. Adds to *report
// and calls `tell` as verify_run does: a fault when they are others or cannot be read, a note when they are
// not where the run had them. Every byte is read, whatever is known of the files.
int verify_model(const char *folder, verify_tell tell, void *context, struct verify_report *report,
                 struct error *err);

#endif
