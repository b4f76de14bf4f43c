// SPDX-License-Identifier: MIT
// How full a plan's batches are. A device that queues computes its matmuls at one shape, that of the largest
// batch: of a batch that is half full it does half its work for nothing. A processor computes the tokens that
// there are, and has no fill.
#ifndef STRATA_START_FILL_H
#define STRATA_START_FILL_H

#include "base/log.h"
#include "start/inputs.h"

#define FILL_NOTE                                                                                            \
    "device.batch_tokens" // of the ledger: tokens of the shape; missing where batches have no fill

struct fill {
    uint64_t device_tokens; // that such a device computes: shapes times their tokens
    double share;           // of them that are tokens of texts; 1 without batches
    uint64_t low;           // shapes filled to less than 90 %, where the survey was made by this launch
    bool low_known;
    char remedy[128]; // "batch.problems: 256 would fill 99.2 %"; empty when nothing need or could be mended
};

// True for a device that is known to compute every batch at one shape (inputs->device is filled).
bool fill_matters(const struct inputs *inputs);

// Tokens of the shape for batches of so many, where the longest text has so many; how many shapes a batch
// takes: more than one where it is a text that is longer, which is computed in slices of a shape each.
uint64_t fill_shape(uint64_t largest, uint64_t longest);
uint64_t fill_shapes(uint64_t tokens, uint64_t shape_tokens);

// Of texts with so many tokens in so many shapes.
struct fill fill_of(uint64_t tokens, uint64_t shapes, uint64_t shape_tokens);

// Of a run's sealed batches.
int fill_of_ledger(struct fill *fill, struct ledger *ledger, uint64_t shape_tokens, struct error *err);

// Of a survey's batches on a device that queues. Where less than 95 % is full, other values of the batch keys
// are tried on the surveyed lengths; the last batches of a small set are nobody's fault and want no remedy.
int fill_survey(struct fill *fill, const struct inputs *inputs, struct error *err);

// Appends a line that warns, when there is a remedy.
int fill_warn(const struct fill *fill, struct buffer *lines, struct error *err);

// Writes the fill of the run to come into its log, where it matters. `fresh`: the job can still be changed,
// so a remedy is worth a warning; a run that has begun keeps its batches.
int fill_tell(const struct inputs *inputs, bool fresh, struct log *log, struct error *err);

#endif
