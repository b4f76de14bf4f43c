// SPDX-License-Identifier: MIT
// latents.layers: the hidden states that the job's indices and names are of its model.
#ifndef STRATA_START_WANTED_LAYERS_H
#define STRATA_START_WANTED_LAYERS_H

#include "start/inputs.h"

// Fills inputs->layers, and notes what a name may be mistaken for. STATUS_JOB where one does not exist.
int wanted_layers_resolve(struct inputs *inputs, struct error *err);

// Appends what each of inputs->layers is, the first `most` of them, with `between` between two:
// "hidden_states[35] of 0..36 = output of block 35 of 36 (model.layers.34)".
int wanted_layers_text(const struct inputs *inputs, size_t most, const char *between, struct buffer *out,
                       struct error *err);

// Layers may be written in several ways (-2, 35, model.layers.34): where a run that goes on wrote the same
// hidden states in another one, `now` gets its words, so that the identity is the same.
int wanted_layers_adopt(const struct inputs *inputs, const struct identity *stored, struct identity *now,
                        struct error *err);

#endif
