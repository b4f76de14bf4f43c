// SPDX-License-Identifier: MIT
// throughput.csv: one line a batch, appended as batches finish, over all launches of a run. A record for
// people and spreadsheets; the ledger holds the same numbers for sealed batches.
#ifndef STRATA_STAGES_THROUGHPUT_H
#define STRATA_STAGES_THROUGHPUT_H

#include <stdio.h>

#include "checkpoints/ledger.h"

struct throughput {
    FILE *file;
    bool figures; // of the device: an empty field where one is not known
    bool devices; // the name of the device, likewise
};

// Opens for appending; writes the heading when the file is new, with the device's name where there are
// several.
int throughput_open(struct throughput *csv, const char *path, bool devices, struct error *err);
void throughput_write(struct throughput *csv,
                      const struct ledger_batch *batch); // a line that cannot be written is dropped
void throughput_close(struct throughput *csv);           // accepts zeros

#endif
