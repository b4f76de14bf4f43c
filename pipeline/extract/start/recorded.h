// SPDX-License-Identifier: MIT
// What shards say of a run and its identity does not hold: where things lay at its first launch, and what was
// found beside them. The first launch writes it into the ledger and every later one takes it from there, so
// that shards come out the same from a model under another folder's name.
#ifndef STRATA_START_RECORDED_H
#define STRATA_START_RECORDED_H

#include "checkpoints/identity.h"
#include "checkpoints/ledger.h"
#include "start/inputs.h"

enum { RECORDED_NAME = 256 };

struct recorded {
    char model[RECORDED_NAME]; // the model folder's own name
    struct buffer warnings;    // inputs.warnings, whose words are bytes of the shards; data may be NULL
};

// Of a run that has begun when `stored` is its identity; NULL: this launch begins it, and what the inputs say
// is kept.
int recorded_settle(struct recorded *recorded, const struct inputs *inputs, struct ledger *ledger,
                    const struct identity *stored, struct error *err);
void recorded_destroy(struct recorded *recorded); // accepts zeros

// Adds to an identity what earlier versions put into theirs and this one does not compare, as the run has it.
int recorded_carry(const struct identity *stored, struct identity *now, struct error *err);

// The model folder's own name, without the path to it, links or slashes; of a snapshot in the Hub's cache the
// model's. Of a GGUF file the name that it is given by.
void recorded_model_name(char out[RECORDED_NAME], const char *path);

#endif
