// SPDX-License-Identifier: MIT
// What the last launch that worked on a run foretold of its speed, held against what its sealed batches took:
// for status and log.
#ifndef STRATA_COMMANDS_PREDICTED_H
#define STRATA_COMMANDS_PREDICTED_H

#include <jansson.h>
#include <stdio.h>

#include "start/prediction.h"

struct predicted {
    bool known;
    struct prediction prediction;
    struct ledger_work work; // of the launch that foretold it
};

int predicted_read(struct predicted *out, struct ledger *ledger, struct error *err);

// "predicted 1,234 tokens/s, measured 1,180 (-4.4 %) ..." after `indent` spaces; nothing when not known.
void predicted_write(FILE *out, int indent, const struct predicted *predicted);

json_t *predicted_json(const struct predicted *predicted); // null when not known; NULL when memory is out

#endif
