// throughput.csv: one line a batch, appended as batches finish, over all launches of a run. A record for
// people and spreadsheets; the ledger holds the same numbers for sealed batches.
#ifndef STRATA_EXTRACT_THROUGHPUT_H
#define STRATA_EXTRACT_THROUGHPUT_H

#include <stdio.h>

#include "checkpoints/ledger.h"

// Opens for appending; writes the heading when the file is new.
int throughput_open(FILE **out, const char *path, struct error *err);
void throughput_write(FILE *csv,
                      const struct ledger_batch *batch); // a line that cannot be written is dropped
void throughput_close(FILE *csv);                        // accepts NULL

#endif
